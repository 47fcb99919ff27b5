"""Picture size and frame rate out of an AVCDecoderConfigurationRecord. Pure; nothing else is decoded.

Sources: ISO/IEC 14496-15, 5.3.3.1 (the record); ITU-T H.264, 7.3.2.1.1 and E.1.1 (the sequence parameter set).
"""

from __future__ import annotations

from dataclasses import dataclass

_CHROMA_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_EXTENDED_SAR = 255


@dataclass(frozen=True, slots=True)
class AvcFormat:
    """Size as it is shown (cropped), in pixels. ``frame_rate`` is None where the stream does not say."""

    width: int
    height: int
    frame_rate: float | None


def avc_format(record: bytes) -> AvcFormat | None:
    """What the first sequence parameter set of ``record`` says; None where it is cut short or makes no sense."""
    if len(record) < 8 or not record[5] & 31:
        return None
    size = int.from_bytes(record[6:8], "big")
    sps = record[8 : 8 + size]
    if len(sps) < 4 or sps[0] & 31 != 7:
        return None
    try:
        return _read_sps(_Bits(sps[1:].replace(b"\0\0\3", b"\0\0")))
    except IndexError:
        return None


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def u(self, count: int) -> int:
        if count > self._left:
            raise IndexError("the parameter set ends early")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def ue(self) -> int:
        """Exp-Golomb, 9.1."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise IndexError("not a number")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _read_sps(bits: _Bits) -> AvcFormat | None:
    profile = bits.u(8)
    bits.u(16)  # constraints and level
    bits.ue()  # id
    chroma = 1
    separate_planes = 0
    if profile in _CHROMA_PROFILES:
        chroma = bits.ue()
        separate_planes = bits.u(1) if chroma == 3 else 0
        bits.ue(), bits.ue(), bits.u(1)  # depths, transform bypass
        if bits.u(1):
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    bits.ue()  # frame numbers
    _skip_picture_order(bits)
    bits.ue(), bits.u(1)  # reference frames, gaps
    width = (bits.ue() + 1) * 16
    map_height = bits.ue() + 1
    frames_only = bits.u(1)
    if not frames_only:
        bits.u(1)
    bits.u(1)
    height = (2 - frames_only) * map_height * 16
    if bits.u(1):
        across, down = (1, 1) if separate_planes else {0: (1, 1), 1: (2, 2), 2: (2, 1)}.get(chroma, (1, 1))
        left, right, top, bottom = (bits.ue() for _ in range(4))
        width -= (left + right) * across
        height -= (top + bottom) * down * (2 - frames_only)
    if not (16 <= width <= 16_384 and 16 <= height <= 16_384):
        return None
    return AvcFormat(width, height, _frame_rate(bits))


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    for index in range(count):
        if not bits.u(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.se()) % 256
            last = following or last


def _skip_picture_order(bits: _Bits) -> None:
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.u(1), bits.se(), bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()


def _frame_rate(bits: _Bits) -> float | None:
    """From the timing in the usability information; two ticks make a picture."""
    try:
        if not bits.u(1):
            return None
        if bits.u(1) and bits.u(8) == _EXTENDED_SAR:
            bits.u(32)
        if bits.u(1):
            bits.u(1)
        if bits.u(1):
            bits.u(4)
            if bits.u(1):
                bits.u(24)
        if bits.u(1):
            bits.ue(), bits.ue()
        if not bits.u(1):
            return None
        tick, scale = bits.u(32), bits.u(32)
    except IndexError:
        return None
    rate = scale / (2 * tick) if tick else 0.0
    return rate if 1 <= rate <= 240 else None

"""HE-AAC without an encoder for it: SBR and PS payloads written by hand into the frames of an LC stream.

Every frame gets the same spectral band replication: a flat, faint envelope over QMF bands 22 to 43 (8.25 to 16.5 kHz
where the core is at 24 kHz), and one added sinusoid in the middle of band :data:`SINE_BAND`. With ``ps``, parametric
stereo makes one side :data:`PS_DB` louder than the other. So a decoder that has understood the payload shows it.

The syntax is ISO/IEC 14496-3, 4.4.2.8 (SBR) and 8.4 (PS); only the shortest codewords of its tables are needed.
"""

from __future__ import annotations

from collections.abc import Iterator

SINE_BAND = 30
PS_DB = 14.0
_LOW_BAND, _BANDS = 22, 22
_ID_FIL, _ID_END, _EXT_SBR_DATA, _EXTENSION_PS = 6, 7, 13, 2


class Bits:
    """Bits, most significant first."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def put(self, value: int, width: int) -> Bits:
        self.text += f"{value:0{width}b}"
        return self

    def to_bytes(self) -> bytes:
        whole = self.text + "0" * (-len(self.text) % 8)
        return int(whole, 2).to_bytes(len(whole) // 8, "big")


def adts_frames(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(header of 7 bytes, raw data block) of each frame of an ADTS stream without checksums."""
    at = 0
    while at + 7 <= len(stream):
        size = (stream[at + 3] & 3) << 11 | stream[at + 4] << 3 | stream[at + 5] >> 5
        yield stream[at : at + 7], stream[at + 7 : at + size]
        at += size


def with_sbr(stream: bytes, *, ps: bool = False) -> bytes:
    """The ADTS stream of AAC-LC, mono or stereo, made HE-AAC; ``ps`` (mono alone): HE-AAC version 2."""
    return b"".join(_frame(header, _extended(block, ps)) for header, block in adts_frames(stream))


def _frame(header: bytes, block: bytes) -> bytes:
    size = len(block) + len(header)
    sized = bytearray(header)
    sized[3] = sized[3] & 0xFC | size >> 11
    sized[4] = size >> 3 & 0xFF
    sized[5] = (size & 7) << 5 | sized[5] & 0x1F
    return bytes(sized) + block


def _extended(block: bytes, ps: bool) -> bytes:
    """The raw data block with a fill element in front of its end mark, which is the last three set bits."""
    text = f"{int.from_bytes(block, 'big'):0{8 * len(block)}b}".rstrip("0")
    assert text.endswith("111")
    stereo = text.startswith("001")  # a channel pair element
    payload = Bits().put(_EXT_SBR_DATA, 4)
    payload.text += _sbr(2 if stereo else 1, ps)
    content = payload.to_bytes()
    out = Bits(text[:-3]).put(_ID_FIL, 3)
    out.put(min(len(content), 15), 4)
    if len(content) >= 15:
        out.put(len(content) - 14, 8)
    out.text += "".join(f"{byte:08b}" for byte in content)
    return out.put(_ID_END, 3).to_bytes()


def _sbr(channels: int, ps: bool) -> str:
    out = Bits("1")  # a header in every frame
    out.put(0, 1).put(12, 4).put(14, 4).put(0, 3).put(0, 2)  # amp_res, start (band 22), stop (twice that), xover
    out.put(1, 1).put(0, 1).put(0, 2).put(0, 1).put(0, 2)  # linear bands, one noise band
    out.put(0, 1)  # no extra data
    if channels == 2:
        out.put(0, 1)  # not coupled
    out.text += channels * "00000"  # grid: one envelope over the frame, low resolution
    out.text += channels * "00"  # envelope and noise by differences in frequency
    out.text += channels * "00"  # no inverse filtering
    for _ in range(channels):
        out.put(50, 7).text += (_BANDS // 2 - 1) * "00"  # the sinusoid comes out at SINE_DBFS
    for _ in range(channels):
        out.put(30, 5)  # next to no noise
    for _ in range(channels):
        out.text += "1" + "".join("1" if band == SINE_BAND - _LOW_BAND else "0" for band in range(_BANDS))
    out.text += "1" + _ps() if ps else "0"
    return out.text


def _ps() -> str:
    data = Bits().put(_EXTENSION_PS, 2)
    data.put(1, 1).put(1, 1).put(0, 3).put(0, 1).put(0, 1)  # header: level differences in ten bands, nothing else
    data.put(0, 1).put(1, 2)  # one envelope
    data.text += "0" + "111110" + 9 * "0"  # the first band five steps (14 dB), the others as that
    content = data.to_bytes()
    return Bits().put(len(content), 4).text + "".join(f"{byte:08b}" for byte in content)


def asc(core_rate: int, channels: int, *, explicit: str | None) -> bytes:
    """AudioSpecificConfig: ``explicit`` None says LC alone; "sbr" and "ps" are hierarchical (object types 5 and 29);
    "sync" is LC with the backward compatible extension behind it."""
    index = {48_000: 3, 44_100: 4, 32_000: 5, 24_000: 6, 22_050: 7}
    out = Bits()
    if explicit in {"sbr", "ps"}:
        out.put(5 if explicit == "sbr" else 29, 5).put(index[core_rate], 4).put(channels, 4).put(
            index[2 * core_rate], 4
        )
        return out.put(2, 5).put(0, 3).to_bytes()
    out.put(2, 5).put(index[core_rate], 4).put(channels, 4).put(0, 3)
    if explicit == "sync":
        out.put(0x2B7, 11).put(5, 5).put(1, 1).put(index[2 * core_rate], 4)
    return out.to_bytes()

"""Between H.264's two spellings: AVC (lengths, headers apart; FLV, MP4, GStreamer's caps) and Annex B. Pure.

Source: ISO/IEC 14496-15, 5.3.3.1 (AVCDecoderConfigurationRecord); ITU-T H.264, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_START = b"\0\0\0\1"
_CODEC_DATA = re.compile(r"codec_data=(?:\(buffer\))?([0-9a-fA-F]+)")


def codec_data(caps: str) -> bytes | None:
    """The AVCDecoderConfigurationRecord of a GStreamer caps string; None where it has none."""
    found = _CODEC_DATA.search(caps)
    return bytes.fromhex(found.group(1)) if found else None


def annexb(avcc: bytes, units: Iterable[bytes]) -> bytes:
    """A byte stream with the record's parameter sets first. ``units``: AVC access units.

    Raises ValueError where the record is cut short or a unit's lengths don't add up.
    """
    size_bytes = (avcc[4] & 3) + 1 if len(avcc) > 6 else 0
    if not size_bytes:
        raise ValueError("not an AVCDecoderConfigurationRecord")
    parts: list[bytes] = []
    at, sets = 6, avcc[5] & 31
    for _ in range(2):  # sequence parameter sets, then picture parameter sets
        for _ in range(sets):
            nal, at = _cut(avcc, at, 2)
            parts += (_START, nal)
        sets, at = (avcc[at] if at < len(avcc) else 0), at + 1
    for unit in units:
        at = 0
        while at < len(unit):
            nal, at = _cut(unit, at, size_bytes)
            parts += (_START, nal)
    return b"".join(parts)


def _cut(data: bytes, at: int, size_bytes: int) -> tuple[bytes, int]:
    start = at + size_bytes
    end = start + int.from_bytes(data[at:start], "big")
    if end > len(data) or start > len(data):
        raise ValueError("a NAL unit is longer than its access unit")
    return data[start:end], end

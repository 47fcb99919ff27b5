"""Captions inside H.264: an SEI message of cc_data in an access unit with length-prefixed NAL units. Pure.

Sources: ATSC A/53 Part 4, 6.2.3 (cc_data) and Table 6.7; ITU-T H.264, 7.3.1 (emulation prevention), 7.3.2.3 and D.1
(SEI); ISO/IEC 14496-15, 5.3.3.1 (the length's size).
"""

from __future__ import annotations

import re

from babelcast.captions.cea608 import NULL, Pair

_SEI = 6
_SLICES = range(1, 6)
_T35 = 4
_GA94_CC = bytes((0xB5, 0x00, 0x31)) + b"GA94\x03"
_PADDING = bytes((0xFA, 0x00, 0x00))
"""cc_valid 0, cc_type 2: no CEA-708 packet."""
_MOST_TRIPLETS = 31
_CODEC_DATA = re.compile(r"codec_data=\(buffer\)([0-9a-fA-F]+)")
_NEEDS_ESCAPE = re.compile(rb"\x00\x00(?=[\x00-\x03])")


def length_size(caps: str) -> int | None:
    """Bytes of a NAL unit's length, by GStreamer's caps; None where it isn't AVC."""
    if not caps.startswith("video/x-h264") or "byte-stream" in caps:
        return None
    match = _CODEC_DATA.search(caps)
    record = bytes.fromhex(match.group(1)) if match and len(match.group(1)) % 2 == 0 else b""
    return (record[4] & 3) + 1 if len(record) > 4 else None


def cc_data(pair: Pair | None, frame_s: float) -> bytes:
    """The SEI payload of a frame that lasts ``frame_s``: ``pair`` in field 1 (None: not valid), nothing in field 2, and
    as many empty CEA-708 triplets as make 600 triplets a second (9,600 bits/s)."""
    count = max(2, min(_MOST_TRIPLETS, round(600 * frame_s)))
    first = (0xF8, *NULL) if pair is None else (0xFC, *pair)
    triplets = bytes((*first, 0xFD, *NULL)) + _PADDING * (count - 2)
    return _GA94_CC + bytes((0xC0 | count, 0xFF)) + triplets + b"\xff"


def with_captions(data: bytes, size: int, payload: bytes) -> bytes:
    """The access unit with ``payload`` as an SEI NAL unit in front of its first slice. Captions that it had are
    taken out: two sets in one picture make both unreadable. Unchanged where it can't be read."""
    head: list[bytes] = []
    position = 0
    while position + size < len(data):
        length = int.from_bytes(data[position : position + size], "big")
        end = position + size + length
        kind = data[position + size] & 31
        if not length or end > len(data):
            return data
        if kind in _SLICES:
            return b"".join((*head, _prefixed(sei_nal(_T35, payload), size), data[position:]))
        nal = data[position + size : end]
        kept = _without_captions(nal) if kind == _SEI and b"GA94" in nal else nal
        if kept:
            head.append(_prefixed(kept, size))
        position = end
    return data


def sei_nal(kind: int, payload: bytes) -> bytes:
    """A NAL unit with one SEI message."""
    return bytes((_SEI,)) + _escape(_message(kind, payload) + b"\x80")


def messages(nal: bytes) -> list[tuple[int, bytes]]:
    """(payload type, payload) of each SEI message in ``nal``; what is cut short is left out."""
    rbsp = nal[1:].replace(b"\x00\x00\x03", b"\x00\x00")
    found, position = [], 0
    while len(rbsp) - position > 2:
        kind, position = _varying(rbsp, position)
        length, position = _varying(rbsp, position)
        if position + length > len(rbsp):
            break
        found.append((kind, rbsp[position : position + length]))
        position += length
    return found


def _without_captions(nal: bytes) -> bytes:
    rest = [(kind, load) for kind, load in messages(nal) if kind != _T35 or not load.startswith(_GA94_CC)]
    if not rest:
        return b""
    return nal[:1] + _escape(b"".join(_message(kind, load) for kind, load in rest) + b"\x80")


def _message(kind: int, payload: bytes) -> bytes:
    return _varied(kind) + _varied(len(payload)) + payload


def _varied(number: int) -> bytes:
    return b"\xff" * (number // 255) + bytes((number % 255,))


def _varying(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    while position < len(data) and data[position] == 0xFF:
        number, position = number + 255, position + 1
    return (number + data[position], position + 1) if position < len(data) else (number, position)


def _escape(rbsp: bytes) -> bytes:
    return _NEEDS_ESCAPE.sub(b"\x00\x00\x03", rbsp)


def _prefixed(nal: bytes, size: int) -> bytes:
    return len(nal).to_bytes(size, "big") + nal

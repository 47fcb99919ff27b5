"""AMF0, the encoding of RTMP commands and stream metadata (Adobe's "AMF 0" specification, 2007).

Values map to Python so: number ↔ float, boolean ↔ bool, string ↔ str, null and undefined → None, object ↔ dict,
ECMA array ↔ :class:`EcmaArray`, strict array ↔ list, date → float (ms since 1970). What comes from a peer is
bounded in depth and in number of values; anything else raises :class:`RtmpError`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from babelcast.errors import RtmpError

Value: TypeAlias = "float | int | bool | str | Mapping[str, Value] | Sequence[Value] | None"

MAX_DEPTH = 16
MAX_VALUES = 4_096

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _UNDEFINED = 0, 1, 2, 3, 5, 6
_ECMA_ARRAY, _OBJECT_END, _STRICT_ARRAY, _DATE, _LONG_STRING, _UNSUPPORTED, _XML, _TYPED = 8, 9, 10, 11, 12, 13, 15, 16


class EcmaArray(dict[str, Value]):
    """An object that is written with the ECMA array marker, as ``onMetaData`` is by most encoders."""


def encode(*values: Value) -> bytes:
    """The values one after the other."""
    out = bytearray()
    for value in values:
        _write(out, value)
    return bytes(out)


def decode(data: bytes | memoryview) -> list[Value]:
    """All the values in ``data``."""
    reader = _Reader(data)
    values = []
    while not reader.at_end():
        values.append(reader.value(0))
    return values


def string_prefix(text: str) -> bytes:
    """How a payload begins whose first value is the string ``text``."""
    return encode(text)


def _write(out: bytearray, value: Value) -> None:
    if value is None:
        out.append(_NULL)
    elif isinstance(value, bool):
        out += bytes((_BOOLEAN, value))
    elif isinstance(value, int | float):
        out.append(_NUMBER)
        out += struct.pack("!d", value)
    elif isinstance(value, str):
        _write_string(out, value.encode())
    elif isinstance(value, Mapping):
        if isinstance(value, EcmaArray):
            out.append(_ECMA_ARRAY)
            out += struct.pack("!I", len(value))
        else:
            out.append(_OBJECT)
        for name, item in value.items():
            raw = name.encode()
            out += struct.pack("!H", len(raw)) + raw
            _write(out, item)
        out += bytes((0, 0, _OBJECT_END))
    else:
        out.append(_STRICT_ARRAY)
        out += struct.pack("!I", len(value))
        for item in value:
            _write(out, item)


def _write_string(out: bytearray, raw: bytes) -> None:
    if len(raw) > 0xFFFF:
        out.append(_LONG_STRING)
        out += struct.pack("!I", len(raw))
    else:
        out.append(_STRING)
        out += struct.pack("!H", len(raw))
    out += raw


class _Reader:
    def __init__(self, data: bytes | memoryview) -> None:
        self._data = bytes(data)
        self._at = 0
        self._left = MAX_VALUES

    def at_end(self) -> bool:
        return self._at >= len(self._data)

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise RtmpError("truncated AMF0 value")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _uint(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _text(self, length_size: int) -> str:
        return self._take(self._uint(length_size)).decode("utf-8", "replace")

    def value(self, depth: int) -> Value:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise RtmpError("AMF0 value nested too deep or too large")
        marker = self._uint(1)
        if marker in (_NUMBER, _DATE):
            number: float = struct.unpack("!d", self._take(8))[0]
            if marker == _DATE:
                self._take(2)  # time zone, reserved
            return number
        if marker == _BOOLEAN:
            return self._uint(1) != 0
        if marker == _STRING:
            return self._text(2)
        if marker in (_LONG_STRING, _XML):
            return self._text(4)
        if marker in (_NULL, _UNDEFINED, _UNSUPPORTED):
            return None
        return self._container(marker, depth)

    def _container(self, marker: int, depth: int) -> Value:
        if marker == _OBJECT:
            return self._members(depth)
        if marker == _TYPED:
            self._text(2)  # class name
            return self._members(depth)
        if marker == _ECMA_ARRAY:
            self._take(4)  # the count is a hint: writers that don't know it send 0
            return EcmaArray(self._members(depth))
        if marker == _STRICT_ARRAY:
            count = self._uint(4)
            if count > self._left:
                raise RtmpError("AMF0 array too large")
            return [self.value(depth + 1) for _ in range(count)]
        raise RtmpError(f"unknown AMF0 marker {marker}")

    def _members(self, depth: int) -> dict[str, Value]:
        members: dict[str, Value] = {}
        while True:
            name = self._text(2)
            if not name and self._data[self._at : self._at + 1] == b"\x09":
                self._at += 1
                return members
            members[name] = self.value(depth + 1)

"""ONNX graphs written by hand: what a test needs of the format, without the package that makes them.

Field numbers are those of onnx.proto3. A graph is a list of nodes, in order, over named values.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

FLOAT, INT64 = 1, 7


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _bytes(tag: int, value: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def _text(tag: int, value: str) -> bytes:
    return _bytes(tag, value.encode())


@dataclass(frozen=True)
class Node:
    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, int | Sequence[int]] = field(default_factory=dict)

    def encoded(self) -> bytes:
        parts = [_text(1, name) for name in self.inputs] + [_text(2, name) for name in self.outputs]
        parts.append(_text(4, self.operator))
        for name, value in self.attributes.items():
            if isinstance(value, int):
                body = _text(1, name) + _number(3, value) + _number(20, 2)
            else:
                body = _text(1, name) + b"".join(_number(8, item) for item in value) + _number(20, 7)
            parts.append(_bytes(5, body))
        return b"".join(parts)


def _tensor(name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> bytes:
    kind = INT64 if value.dtype == np.int64 else FLOAT
    dims = b"".join(_number(1, size) for size in value.shape)
    return dims + _number(2, kind) + _text(8, name) + _bytes(9, value.tobytes())


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_bytes(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    tensor = _number(1, kind) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def write_model(
    path: Path,
    *,
    nodes: Sequence[Node],
    constants: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    metadata: Mapping[str, str | int] | None = None,
) -> None:
    """Write a model of opset 13. Values are (type, shape); a size that is a string is free."""
    graph = b"".join(_bytes(1, node.encoded()) for node in nodes) + _text(2, "tiny")
    graph += b"".join(_bytes(5, _tensor(name, value)) for name, value in constants.items())
    graph += b"".join(_bytes(11, _value(name, *of)) for name, of in inputs.items())
    graph += b"".join(_bytes(12, _value(name, *of)) for name, of in outputs.items())
    model = _number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 13))
    for key, value in (metadata or {}).items():
        model += _bytes(14, _text(1, key) + _text(2, str(value)))
    path.write_bytes(model)


assert struct.calcsize("<f") == np.dtype(np.float32).itemsize

"""Small real ONNX files, written field by field (protobuf wire format; onnx.proto has the numbers).

The package ``onnx`` isn't needed at run time, so the tests do without it too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

FLOAT, INT64 = 1, 7
Value = int | float | str | Sequence[int]
Shape = Sequence[int | str]


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: Value) -> bytes:
    out = _bytes(1, name)
    if isinstance(value, int):
        return out + _int(3, value) + _int(20, 2)
    if isinstance(value, float):
        return out + _varint(2 << 3 | 5) + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, str):
        return out + _bytes(4, value) + _int(20, 3)
    return out + b"".join(_int(8, item) for item in value) + _int(20, 7)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Value) -> bytes:
    parts = [_bytes(1, name) for name in inputs] + [_bytes(2, output), _bytes(4, kind)]
    return b"".join(parts + [_bytes(5, _attribute(key, value)) for key, value in attributes.items()])


def tensor(name: str, values: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> bytes:
    kind = FLOAT if values.dtype == np.float32 else INT64
    dims = b"".join(_int(1, size) for size in values.shape)
    return dims + _int(2, kind) + _bytes(8, name) + _bytes(9, np.ascontiguousarray(values).tobytes())


def _value_info(name: str, shape: Shape) -> bytes:
    dims = b"".join(_bytes(1, _bytes(2, d) if isinstance(d, str) else _int(1, d)) for d in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, FLOAT) + _bytes(2, dims)))


def model(
    nodes: Sequence[bytes],
    shape: Shape,
    *,
    output_shape: Shape | None = None,
    weights: Sequence[bytes] = (),
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A network from ``input`` to ``output``."""
    graph = b"".join([_bytes(1, item) for item in nodes] + [_bytes(2, "network")] + [_bytes(5, w) for w in weights])
    graph += _bytes(11, _value_info("input", shape)) + _bytes(12, _value_info("output", output_shape or shape))
    props = b"".join(_bytes(14, _bytes(1, k) + _bytes(2, v)) for k, v in (metadata or {}).items())
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _int(2, 17)) + props


DIM_T, N_FFT, HOP = 128, 2_048, 512
"""Of the small networks: segments of 65,024 samples, 1.47 s at 44.1 kHz."""
SHAPE: Shape = (1, 4, N_FFT // 2 + 1, DIM_T)


def scaled(path: Path, gain: float = 1.0, *, stem: str = "vocals", **metadata: str) -> Path:
    """Its stem is ``gain`` times the whole programme; NaN gives NaN."""
    weights = [tensor("gain", np.array([gain], np.float32))]
    told = {"n_fft": str(N_FFT), "hop": str(HOP), "stem": stem, **metadata}
    path.write_bytes(model([node("Mul", ["input", "gain"], "output")], SHAPE, weights=weights, metadata=told))
    return path


def middle(path: Path, **metadata: str) -> Path:
    """Vocals as what both channels have in common, (L + R) / 2: a real, if poor, separation in six nodes."""
    nodes = [
        node("Reshape", ["input", "pairs"], "channels"),
        node("ReduceMean", ["channels"], "mean", axes=[1], keepdims=1),
        node("Concat", ["mean", "mean"], "both", axis=1),
        node("Reshape", ["both", "planes"], "output"),
    ]
    bins = int(SHAPE[2])
    weights = [
        tensor("pairs", np.array([1, 2, 2, bins, DIM_T], np.int64)),
        tensor("planes", np.array([1, 4, bins, DIM_T], np.int64)),
    ]
    told = {"n_fft": str(N_FFT), "hop": str(HOP), "stem": "vocals", **metadata}
    path.write_bytes(model(nodes, SHAPE, weights=weights, metadata=told))
    return path

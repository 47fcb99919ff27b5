"""Small real separation networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.fakes.tiny_onnx import FLOAT, Node, write_model

DIM_T, N_FFT, HOP = 128, 2_048, 512
"""Segments of 65,024 samples, 1.47 s at 44.1 kHz."""
BINS = N_FFT // 2 + 1
SHAPE = (1, 4, BINS, DIM_T)
Shape = Sequence[int | str]


def identity(path: Path, shape: Shape = SHAPE, **metadata: str) -> Path:
    """Says nothing of itself but what ``metadata`` does."""
    nodes = [Node("Identity", ["input"], ["output"])]
    ends = {"inputs": {"input": (FLOAT, shape)}, "outputs": {"output": (FLOAT, shape)}}
    write_model(path, nodes=nodes, constants={}, metadata=metadata, **ends)
    return path


def scaled(path: Path, gain: float = 1.0, *, stem: str = "vocals", **metadata: str) -> Path:
    """Its stem is ``gain`` times the whole programme; NaN gives NaN."""
    write_model(
        path,
        nodes=[Node("Mul", ["input", "gain"], ["output"])],
        constants={"gain": np.array([gain], np.float32)},
        inputs={"input": (FLOAT, SHAPE)},
        outputs={"output": (FLOAT, SHAPE)},
        metadata={"n_fft": N_FFT, "hop": HOP, "stem": stem, **metadata},
    )
    return path


def middle(path: Path, **metadata: str) -> Path:
    """Vocals as what both channels have in common, (L + R) / 2: a real, if poor, separation in four nodes."""
    nodes = [
        Node("Reshape", ["input", "pairs"], ["channels"]),
        Node("ReduceMean", ["channels"], ["mean"], {"axes": [1], "keepdims": 1}),
        Node("Concat", ["mean", "mean"], ["both"], {"axis": 1}),
        Node("Reshape", ["both", "planes"], ["output"]),
    ]
    write_model(
        path,
        nodes=nodes,
        constants={
            "pairs": np.array([1, 2, 2, BINS, DIM_T], np.int64),
            "planes": np.array([1, 4, BINS, DIM_T], np.int64),
        },
        inputs={"input": (FLOAT, SHAPE)},
        outputs={"output": (FLOAT, SHAPE)},
        metadata={"n_fft": N_FFT, "hop": HOP, "stem": "vocals", **metadata},
    )
    return path


def stumbling(path: Path) -> Path:
    """Leaves its sizes open, and fails when it is run."""
    shape = (1, 4, "f", "t")
    write_model(
        path,
        nodes=[Node("Reshape", ["input", "shape"], ["output"])],
        constants={"shape": np.array([1, 4, BINS, 100], np.int64)},
        inputs={"input": (FLOAT, shape)},
        outputs={"output": (FLOAT, shape)},
        metadata={"n_fft": N_FFT, "hop": HOP},
    )
    return path

"""A full-size MDX network (TFC-TDF v2, as in KUIELab's MDX-Net) with random weights: its cost is that of a trained one.

As in ``UVR-MDX-NET-*``: a 1×1 convolution to g channels; five blocks down, one in the middle, five up, each three 3×3
convolutions and a pair of linear layers over frequency; skips multiplied.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.fakes.tiny_onnx import FLOAT, Node, write_model

_LEVELS, _CONVOLUTIONS, _BOTTLENECK = 5, 3, 8


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]] = {}
        self._rng = np.random.default_rng(1)
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def weight(self, *shape: int, fan_in: int) -> str:
        name = self.name()
        values = self._rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        self.weights[name] = values
        return name

    def zeros(self, size: int) -> str:
        name = self.name()
        self.weights[name] = np.zeros(size, np.float32)
        return name

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: int | list[int]) -> str:
        output = output or self.name()
        self.nodes.append(Node(kind, inputs, [output], attributes))
        return output

    def convolution(self, x: str, a: int, b: int, width: int, stride: int = 1) -> str:
        w = self.weight(b, a, width, width, fan_in=a * width * width)
        pads = [1] * 4 if width == 3 else [0] * 4
        out = self.add("Conv", [x, w, self.zeros(b)], kernel_shape=[width] * 2, strides=[stride] * 2, pads=pads)
        return self.add("Relu", [out])

    def block(self, x: str, channels: int, bins: int) -> str:
        for _ in range(_CONVOLUTIONS):
            x = self.convolution(x, channels, channels, 3)
        narrow = bins // _BOTTLENECK
        y = self.add("Relu", [self.add("MatMul", [x, self.weight(bins, narrow, fan_in=bins)])])
        y = self.add("Relu", [self.add("MatMul", [y, self.weight(narrow, bins, fan_in=narrow)])])
        return self.add("Add", [x, y])


def write(path: Path, *, growth: int = 32, dim_f: int = 2_048, n_fft: int = 4_096, dim_t: int = 256) -> Path:
    """(32, 2048) is the size of ``UVR_MDXNET_9482`` (30 MB), (48, 3072) of ``Voc_FT`` (67 MB)."""
    b = _Builder()
    x = b.add("Transpose", ["input"], perm=[0, 1, 3, 2])
    x = b.convolution(x, 4, growth, 1)
    skips: list[str] = []
    channels, bins = growth, dim_f
    for _ in range(_LEVELS):
        x = b.block(x, channels, bins)
        skips.append(x)
        x = b.convolution(x, channels, channels + growth, 2, stride=2)
        channels, bins = channels + growth, bins // 2
    x = b.block(x, channels, bins)
    for skip in reversed(skips):
        w = b.weight(channels, channels - growth, 2, 2, fan_in=channels)
        x = b.add("ConvTranspose", [x, w], kernel_shape=[2, 2], strides=[2, 2])
        channels, bins = channels - growth, bins * 2
        x = b.block(b.add("Mul", [b.add("Relu", [x]), skip]), channels, bins)
    w = b.weight(4, growth, 1, 1, fan_in=growth * 1_000_000)  # quiet: only the cost is of interest
    x = b.add("Conv", [x, w], kernel_shape=[1, 1])
    b.add("Transpose", [x], "output", perm=[0, 1, 3, 2])
    write_model(
        path,
        nodes=b.nodes,
        constants=b.weights,
        inputs={"input": (FLOAT, ("batch", 4, dim_f, dim_t))},
        outputs={"output": (FLOAT, ("batch", 4, dim_f, dim_t))},
        metadata={"n_fft": n_fft, "hop": 1_024, "stem": "vocals"},
    )
    return path

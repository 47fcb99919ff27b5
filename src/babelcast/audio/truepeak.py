"""True peak: the level between the samples, by oversampling four times as ITU-R BS.1770-4 Annex 2 asks."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from babelcast.units import Pcm

HALF = 12
"""Samples on each side that the interpolation looks at."""
_PHASES = (0.25, 0.5, 0.75)
_CHUNK = 40
"""Steps per product: small enough that OpenBLAS doesn't wake its threads, which cost more than they do."""


def _interpolators() -> Pcm:
    """Windowed sinc (Kaiser, β = 5), one column per quarter between two samples: shape (2 · HALF, 3).

    Its pass band is flat within 0.1 dB to 21 kHz; the annex's own 12 taps under-read by 0.5 dB there.
    """
    offsets = np.arange(-HALF + 1, HALF + 1)
    columns = []
    for phase in _PHASES:
        x = offsets - phase
        taps = np.sinc(x) * np.i0(5.0 * np.sqrt(np.maximum(0.0, 1.0 - (x / HALF) ** 2))) / np.i0(5.0)
        columns.append(taps / taps.sum())
    return np.stack(columns, axis=1).astype(np.float32)


_TAPS = _interpolators()
OVERSHOOT = float(np.abs(_TAPS).sum(axis=0).max())
"""No true peak is higher than the highest sample times this."""


@functools.cache
def _matrix(step: int) -> Pcm:
    """The interpolation of ``step`` samples as one product: shape (step + 2 · HALF − 1, 3 · step), banded."""
    matrix = np.zeros((step + 2 * HALF - 1, 3, step), np.float32)
    for i in range(step):
        matrix[i : i + 2 * HALF, :, i] = _TAPS
    return matrix.reshape(len(matrix), -1)


def interpolated_peaks(padded: Pcm, step: int, wanted: npt.NDArray[np.intp]) -> Pcm:
    """The true peaks of the steps named in ``wanted`` (indices), shape (len(wanted),), samples not counted.

    ``padded`` has shape (HALF − 1 + n·step + HALF, channels): the n steps with what the interpolation needs around.
    """
    span = step + 2 * HALF - 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=0)[::step]  # (n, channels, span)
    peaks = np.empty(len(wanted), np.float32)
    for i in range(0, len(wanted), _CHUNK):
        some = wanted[i : i + _CHUNK]
        between = windows[some].reshape(-1, span) @ _matrix(step)
        peaks[i : i + _CHUNK] = np.abs(between).reshape(len(some), -1).max(axis=1)
    return peaks

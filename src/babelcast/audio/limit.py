"""A true-peak limiter that looks ahead."""

from __future__ import annotations

import numpy as np

from babelcast.audio.pcm import from_db
from babelcast.audio.truepeak import HALF, OVERSHOOT, interpolated_peaks
from babelcast.units import RATE, Pcm

_STEP = RATE // 1000  # gain is decided per millisecond
_AHEAD = 5  # milliseconds
_X = np.arange(1, _STEP + 1, dtype=np.float32) / _STEP
EASE: Pcm = (_X * _X * (3.0 - 2.0 * _X)).astype(np.float32)
"""From one millisecond's gain to the next without a kink."""
LOOKAHEAD = _STEP * (_AHEAD + 1)
"""Samples by which the output is late: the ramp, and a millisecond for the interpolation to see past a peak."""
_MARGIN = from_db(-0.05)
"""Four times oversampling reads a peak up to 0.1 dB low; half of that is the usual case."""


class PeakLimiter:
    """Keeps the true peak of samples, shape (n, channels), at or below ``ceiling_db`` dBTP (BS.1770-4 Annex 2).

    What stays below is not touched at all. The gain falls over the 5 ms before a peak and recovers with
    ``release_s``. The output is the input :data:`LOOKAHEAD` samples late. Blocks must be whole milliseconds long.
    """

    def __init__(self, channels: int, ceiling_db: float = -1.0, release_s: float = 0.15) -> None:
        self.ceiling_db = ceiling_db
        """May be replaced at any time."""
        self._keep = float(np.exp(-0.001 / release_s))
        self._delayed = np.zeros((LOOKAHEAD, channels), np.float32)
        self._needed = [1.0] * _AHEAD  # gain that each delayed millisecond needs, but for the newest
        self._lowest = [1.0] * _AHEAD  # the last lookahead minima, averaged into the ramp
        self._gain = 1.0  # at the end of the last output sample
        self._held = 1.0

    def process(self, block: Pcm) -> Pcm:
        n = len(block)
        steps = n // _STEP
        if steps * _STEP != n:
            raise ValueError("blocks must be whole milliseconds long")
        if not n:
            return block
        ceiling = from_db(self.ceiling_db) * _MARGIN
        signal = np.concatenate((self._delayed, block))
        self._delayed = signal[n:]
        out = signal[:n]
        peaks = self._peaks(signal, steps, ceiling)
        if self._gain >= 1.0 and min(self._needed) >= 1.0 and (peaks is None or not bool((peaks > ceiling).any())):
            return out
        wanted = [1.0] * steps if peaks is None else np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9)).tolist()
        gain = self._gains(self._needed + wanted, steps)
        limited: Pcm = out * gain[:, None]
        return limited

    def _peaks(self, signal: Pcm, steps: int, ceiling: float) -> Pcm | None:
        """Per millisecond, one millisecond before the newest; None where none can be above the ceiling."""
        begin = LOOKAHEAD - _STEP
        seen = signal[begin - HALF : begin + steps * _STEP + HALF]
        if max(float(seen.max()), -float(seen.min())) * OVERSHOOT <= ceiling:
            return None
        samples = np.abs(signal[begin : begin + (steps + 1) * _STEP]).reshape(steps + 1, -1).max(axis=1)
        before = np.abs(signal[begin - HALF : begin]).max()
        around = np.maximum(samples[:-1], np.maximum(np.append(before, samples[:-2]), samples[1:]))
        peaks: Pcm = samples[:-1].copy()
        close = np.flatnonzero(around * OVERSHOOT > ceiling)
        if len(close):
            padded = signal[begin - HALF + 1 : begin + steps * _STEP + HALF]
            peaks[close] = np.maximum(peaks[close], interpolated_peaks(padded, _STEP, close))
        return peaks

    def _gains(self, needed: list[float], steps: int) -> Pcm:
        self._needed = needed[steps:]
        nodes = [self._gain]
        for i in range(steps):
            recovered = 1.0 - (1.0 - self._held) * self._keep
            self._held = min(recovered if recovered < 0.99999 else 1.0, *needed[i : i + _AHEAD + 1])
            self._lowest = [*self._lowest[1:], self._held]
            nodes.append(sum(self._lowest) / _AHEAD)
        self._gain = nodes[-1]
        knots = np.array(nodes, np.float32)
        gain: Pcm = (knots[:-1, None] + np.diff(knots)[:, None] * EASE).reshape(-1).astype(np.float32, copy=False)
        return gain

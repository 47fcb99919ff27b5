"""A peak limiter that looks ahead."""

from __future__ import annotations

import numpy as np

from babelcast.audio.pcm import from_db
from babelcast.units import RATE, Pcm

_STEP = RATE // 1000  # gain is decided per millisecond
_AHEAD = 5  # milliseconds
_X = np.arange(1, _STEP + 1, dtype=np.float32) / _STEP
_EASE: Pcm = (_X * _X * (3.0 - 2.0 * _X)).astype(np.float32)  # from one millisecond's gain to the next without a kink
LOOKAHEAD = _STEP * _AHEAD
"""Samples by which the output is late."""


class PeakLimiter:
    """Keeps samples, shape (n, channels), at or below ``ceiling_db`` dBFS; what stays below is not touched at all.

    The gain falls over the 5 ms before a peak and recovers with ``release_s``. The output is the input
    :data:`LOOKAHEAD` samples late. Blocks must be whole milliseconds long.
    """

    def __init__(self, channels: int, ceiling_db: float = -1.0, release_s: float = 0.15) -> None:
        self.ceiling_db = ceiling_db
        """May be replaced at any time."""
        self._keep = float(np.exp(-0.001 / release_s))
        self._delayed = np.zeros((LOOKAHEAD, channels), np.float32)
        self._needed = [1.0] * _AHEAD  # gain that each delayed millisecond needs
        self._lowest = [1.0] * _AHEAD  # the last lookahead minima, averaged into the ramp
        self._gain = 1.0  # at the end of the last output sample
        self._held = 1.0
        self.limited_samples = 0

    def process(self, block: Pcm) -> Pcm:
        steps = len(block) // _STEP
        if steps * _STEP != len(block):
            raise ValueError("blocks must be whole milliseconds long")
        ceiling = from_db(self.ceiling_db)
        signal = np.concatenate((self._delayed, block))
        self._delayed = signal[len(block) :]
        out = signal[: len(block)]
        peaks = np.abs(block).reshape(steps, -1).max(axis=1)
        if self._gain >= 1.0 and min(self._needed) >= 1.0 and not bool((peaks > ceiling).any()):
            return out
        needed = self._needed + [min(1.0, ceiling / p) if p > 0 else 1.0 for p in peaks.tolist()]
        self._needed = needed[steps:]
        nodes = [self._gain]
        for i in range(steps):
            recovered = 1.0 - (1.0 - self._held) * self._keep
            self._held = min(recovered if recovered < 0.99999 else 1.0, *needed[i : i + _AHEAD + 1])
            self._lowest = [*self._lowest[1:], self._held]
            nodes.append(sum(self._lowest) / _AHEAD)
        self._gain = nodes[-1]
        knots = np.array(nodes, np.float32)
        gain: Pcm = (knots[:-1, None] + np.diff(knots)[:, None] * _EASE).reshape(-1).astype(np.float32, copy=False)
        self.limited_samples += int((gain < 1.0).sum())
        limited: Pcm = out * gain[:, None]
        return limited

"""How long to wait before the next attempt."""

from __future__ import annotations

import random

from babelcast.clock import Clock
from babelcast.units import NS_PER_S

_SOON_NS = 30 * NS_PER_S


class Backoff:
    """Doubles from ``first_s`` to ``most_s``; each wait is spread by ±20 % so that many don't return at once."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._attempts = 0

    def next_s(self) -> float:
        wait = min(self._first_s * 2.0**self._attempts, self._most_s)
        self._attempts = min(self._attempts + 1, 32)
        return wait * random.uniform(0.8, 1.2)

    def reset(self) -> None:
        self._attempts = 0


class ImpatientBackoff:
    """For a source: twice a second in the first half minute, for viewers miss every moment; then up to two seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def next_s(self) -> float:
        recent = self._clock.now_ns() - self._began_ns < _SOON_NS
        return (self._soon if recent else self._later).next_s()

    def reset(self) -> None:
        """It went away just now."""
        self._began_ns = self._clock.now_ns()
        self._soon, self._later = Backoff(first_s=0.5, most_s=0.5), Backoff(first_s=0.5, most_s=2.0)

"""How long to wait before the next attempt."""

from __future__ import annotations

import random


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

"""Clocks are parameters: live code gets :class:`MonotonicClock`, tests and file dubbing a :class:`ManualClock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Implemented by MonotonicClock and ManualClock."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""
        ...


class MonotonicClock:
    """The machine's monotonic clock; equals GStreamer's system clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ns: int) -> None:
        if ns < 0:
            raise ValueError(f"a clock can't go back by {-ns} ns")
        self._now_ns += ns

"""Puts PCM on the sample grid: by counting samples, with the timestamps as a check. Pure.

Timestamps of real sources are rounded (FLV: to a millisecond, ±32 samples with the packet's own rounding) and RTSP
steps by up to 40 ms when its clock report comes, a second after the start. So one odd timestamp moves nothing; the
median of nine that are off by more than 2.5 ms does, and a step of more than 100 ms does at once.
"""

from __future__ import annotations

from collections import deque

from babelcast.units import ns_to_samples, samples_to_ns

_WINDOW = 9
_TOLERANCE = 120
_HARD_LIMIT = 4_800


class AudioPlacement:
    """State: the position that is expected next, and the latest errors of the timestamps against it."""

    def __init__(self) -> None:
        self._expected: int | None = None
        self._errors: deque[int] = deque(maxlen=_WINDOW)
        self.corrections = 0
        """How often the count was given up for the timestamps."""

    @property
    def error_ns(self) -> int:
        """Median error of the placement against the source's own timestamps: how far sound is off its pictures."""
        return samples_to_ns(self._median()) if self._errors else 0

    def restart(self) -> None:
        """A new connection: the next block lies where its timestamp says."""
        self._expected = None
        self._errors.clear()

    def place(self, time_ns: int, samples: int) -> int:
        """Absolute sample position of a block of ``samples`` that starts at source time ``time_ns``."""
        stamped = ns_to_samples(time_ns)
        position = stamped if self._expected is None else self._expected
        if self._expected is not None:
            self._errors.append(stamped - self._expected)
            if self._must_correct(stamped - self._expected):
                position = stamped
                self._errors.clear()
                self.corrections += 1
        self._expected = position + samples
        return position

    def _must_correct(self, error: int) -> bool:
        return abs(error) > _HARD_LIMIT or (len(self._errors) == _WINDOW and abs(self._median()) > _TOLERANCE)

    def _median(self) -> int:
        return sorted(self._errors)[len(self._errors) // 2]

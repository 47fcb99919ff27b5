"""Access units between ingest and output, for the length of the delay. Pure."""

from __future__ import annotations

import itertools
from collections import deque

from babelcast.slate.picture import Slate
from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit

_SLACK_NS = 15 * NS_PER_S
_MAX_BYTES = 192 << 20
_APART_NS = 10 * NS_PER_MS
"""A still keeps this far from the picture that follows it."""
_MAX_STILLS = 150


class VideoQueue:
    """Units in decoding order, taken when they are due.

    Bounded by time (the delay and 15 s) and by 192 MiB. When full, the oldest group of pictures goes: *drop and
    count*, and what is left begins with a key frame.

    Where there are no pictures, :attr:`still` stands in, from one of its key frames on.
    """

    def __init__(self, delay_ns: int) -> None:
        self._units: deque[AccessUnit] = deque()
        self._bytes = 0
        self._max_ns = delay_ns + _SLACK_NS
        self._still_began_ns: int | None = None
        self._shown: Slate | None = None
        self._next_still = 0
        self._last_ns: int | None = None
        self.still: Slate | None = None
        """Shown while no picture is due; None: nothing is."""
        self.dropped = 0
        """Units lost because the queue was full."""

    def __len__(self) -> int:
        return len(self._units)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def next_dts_ns(self) -> int | None:
        return self._units[0].dts_ns if self._units else None

    @property
    def next_caps(self) -> str | None:
        """Format of the picture that is taken next."""
        return self._units[0].caps if self._units else None

    def upcoming(self, count: int) -> list[AccessUnit]:
        """The pictures that are taken next."""
        return list(itertools.islice(self._units, count))

    def hold(self, delay_ns: int) -> None:
        """The delay is another one."""
        self._max_ns = delay_ns + _SLACK_NS

    def put(self, unit: AccessUnit) -> None:
        self._units.append(unit)
        self._bytes += len(unit.data)
        while self._bytes > _MAX_BYTES or unit.dts_ns - self._units[0].dts_ns > self._max_ns:
            self._drop_group()

    def take(self, until_ns: int) -> list[AccessUnit]:
        """Units whose DTS is not after ``until_ns``, or else the stills that are due."""
        taken = []
        while self._units and self._units[0].dts_ns <= until_ns:
            unit = self._units.popleft()
            self._bytes -= len(unit.data)
            taken.append(unit)
        if taken:
            self._last_ns = taken[-1].dts_ns
        if taken or self.still is not self._shown:
            self._shown, self._still_began_ns = self.still, None
        return taken or self._stills(until_ns)

    def _stills(self, until_ns: int) -> list[AccessUnit]:
        still = self._shown
        if still is None:
            return []
        if self._still_began_ns is None:
            self._still_began_ns = until_ns if self._last_ns is None else max(until_ns, self._last_ns + _APART_NS)
            self._next_still = 0
        until_ns = min(until_ns, self._units[0].dts_ns - _APART_NS) if self._units else until_ns
        due: list[AccessUnit] = []
        while len(due) < _MAX_STILLS:
            time_ns = self._still_began_ns + still.time_ns(self._next_still)
            if time_ns > until_ns:
                break
            unit = still.unit(self._next_still)
            due.append(AccessUnit(time_ns, time_ns, unit.key, unit.data, still.caps))
            self._next_still += 1
            self._last_ns = time_ns
        return due

    def _drop_group(self) -> None:
        dropping = True
        while self._units and dropping:
            self._bytes -= len(self._units.popleft().data)
            self.dropped += 1
            dropping = bool(self._units) and not self._units[0].key

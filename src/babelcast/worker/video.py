"""Access units between ingest and output, for the length of the delay. Pure."""

from __future__ import annotations

from collections import deque

from babelcast.units import NS_PER_S, AccessUnit

_SLACK_NS = 15 * NS_PER_S
_MAX_BYTES = 192 << 20


class VideoQueue:
    """Units in decoding order, taken when they are due.

    Bounded by time (the delay and 15 s) and by 192 MiB. When full, the oldest group of pictures goes: *drop and
    count*, and what is left begins with a key frame.
    """

    def __init__(self, delay_ns: int) -> None:
        self._units: deque[AccessUnit] = deque()
        self._bytes = 0
        self._max_ns = delay_ns + _SLACK_NS
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

    def put(self, unit: AccessUnit) -> None:
        self._units.append(unit)
        self._bytes += len(unit.data)
        while self._bytes > _MAX_BYTES or unit.dts_ns - self._units[0].dts_ns > self._max_ns:
            self._drop_group()

    def take(self, until_ns: int) -> list[AccessUnit]:
        """Units whose DTS is not after ``until_ns``."""
        taken = []
        while self._units and self._units[0].dts_ns <= until_ns:
            unit = self._units.popleft()
            self._bytes -= len(unit.data)
            taken.append(unit)
        return taken

    def _drop_group(self) -> None:
        dropping = True
        while self._units and dropping:
            self._bytes -= len(self._units.popleft().data)
            self.dropped += 1
            dropping = bool(self._units) and not self._units[0].key

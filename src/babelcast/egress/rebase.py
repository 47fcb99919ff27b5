"""Timestamps of one destination session: they go on, whatever the source's do. Pure."""

from __future__ import annotations

from babelcast.egress.feed import Item
from babelcast.rtmp.message import MessageType

BACK_MS = 2_000
"""A source that goes back further than this has restarted its clock; less is the interleaving of its tracks."""
AHEAD_MS = 10_000
"""A jump that is this much longer than the time that passed is no gap but another clock."""
_MEDIA = frozenset({MessageType.AUDIO, MessageType.VIDEO})
_WRAP, _HALF = 0x100000000, 0x80000000


class Rebase:
    """Maps the source's timestamps (ms, modulo 2³²) to the destination's, which begin at 0.

    Within a source session differences are kept exactly. At a new session, and where the source restarts its clock,
    the output goes on after the time that really passed, so it keeps up with the wall clock. No track goes back.
    """

    def __init__(self) -> None:
        self._session: int | None = None
        self._last_in = 0
        self._last_out = 0
        self._last_arrived_ms = 0
        self._furthest = 0
        self._tracks: dict[int, int] = {}

    def restamp(self, item: Item) -> int:
        """The timestamp to send ``item`` with, modulo 2³²."""
        timestamp = item.message.timestamp
        if item.message.type not in _MEDIA:
            # flvmux stamps the script data that it repeats with 0; it says nothing about the source's clock
            return self._furthest % _WRAP
        passed = max(0, item.arrived_ms - self._last_arrived_ms)
        step = (timestamp - self._last_in + _HALF) % _WRAP - _HALF  # the shorter way round
        if self._session is None:
            out = 0
        elif item.session != self._session or step < -BACK_MS or step > passed + AHEAD_MS:
            out = self._furthest + max(passed, 1)
        else:
            out = self._last_out + step
        self._session, self._last_in, self._last_out = item.session, timestamp, out
        self._last_arrived_ms = item.arrived_ms
        shown = max(out, self._tracks.get(item.message.type, 0))
        self._tracks[item.message.type] = shown
        self._furthest = max(self._furthest, shown)
        return shown % _WRAP

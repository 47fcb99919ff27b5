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

    Within a source session differences are kept exactly. At a new session, where the source restarts its clock, and
    after a slate, the output goes on after the time that really passed, so it keeps up with the wall clock. No track
    goes back.
    """

    def __init__(self) -> None:
        self._begun = False
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
        if not self._begun:
            out = 0
        elif item.session != self._session or step < -BACK_MS or step > passed + AHEAD_MS:
            out = self._furthest + max(passed, 1)
        else:
            out = self._last_out + step
        self._begun, self._session, self._last_in, self._last_out = True, item.session, timestamp, out
        self._last_arrived_ms = item.arrived_ms
        return self._shown(item.message.type, out) % _WRAP

    def now(self, now_ms: int) -> int:
        """Where the output stands at ``now_ms`` of the clock by which items arrive; not wrapped."""
        return self._furthest + max(0, now_ms - self._last_arrived_ms) if self._begun else 0

    def end_of(self, kind: int) -> int | None:
        """The latest timestamp of the track ``kind``; None when it has none. Not wrapped."""
        return self._tracks.get(kind)

    def made(self, kind: int, out: int, due_ms: int) -> int:
        """Count in a message of our own at ``out``, which was due at ``due_ms``; both as :meth:`now` counts. The
        source begins anew after it. Gives the timestamp to send it with."""
        if out >= self._furthest:
            self._last_arrived_ms = due_ms
        self._begun, self._session = True, None
        return self._shown(kind, out) % _WRAP

    def _shown(self, kind: int, out: int) -> int:
        shown = max(out, self._tracks.get(kind, 0))
        self._tracks[kind] = shown
        self._furthest = max(self._furthest, shown)
        return shown

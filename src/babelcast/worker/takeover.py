"""Where a worker begins that goes on after another one, with what that one has left."""

from __future__ import annotations

from dataclasses import dataclass

from babelcast.units import NS_PER_MS, NS_PER_S
from babelcast.worker.in_force import LEAD_NS
from babelcast.worker.spool import Spooled

_READERS_NS = 500 * NS_PER_MS
"""So long a session is open before a worker that goes on after another one sends the group of pictures that is on air:
MediaMTX keeps none for who comes late, and egress asks for the programme ten times a second by then."""
_HEARD_AGAIN_NS = 3_500 * NS_PER_MS
"""Of the sound that a worker left no more than this is listened to again: with more at once separation takes itself
for too slow."""
_HEARD_AHEAD_NS = 2 * NS_PER_S
"""And nothing that is on air sooner: its dub would come too late, and push back the next ones."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """Wall time is the machine's monotonic clock; source times are on the timeline of ``left``."""

    left: Spooled
    start_ns: int
    """Source time of what is sent first: a key frame, where there are pictures."""
    heard_ns: int
    """Source time from which the sound is listened to again; the dub of what lies before is lost."""
    begins_ns: int
    """Wall time at which it is sent."""


def takeover(left: Spooled | None, now_ns: int, delay_ns: int) -> Takeover | None:
    """None where nothing is left that is still due."""
    if left is None:
        return None
    begins_ns = now_ns + _READERS_NS
    due_ns = begins_ns + LEAD_NS - delay_ns - left.epoch_ns
    start_ns = left.start_ns(due_ns)
    if start_ns is None:
        return None
    heard_ns = min(left.end_ns, max(due_ns + _HEARD_AHEAD_NS, left.end_ns - _HEARD_AGAIN_NS))
    return Takeover(left, start_ns, heard_ns, begins_ns)

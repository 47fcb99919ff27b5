"""Times and bounds of the forwarder."""

from __future__ import annotations

from dataclasses import dataclass

from babelcast.egress.feed import MAX_BYTES, MAX_ITEMS


@dataclass(frozen=True, slots=True)
class EgressSettings:
    connect_timeout_s: float = 10.0
    """For connecting, and again for the permission to publish."""
    write_timeout_s: float = 10.0
    """A destination that takes nothing for this long is reconnected."""
    slate_after_s: float = 1.0
    """So long nothing may come before the slate begins, where there is one."""
    hold_s: float = 30.0
    """How long a destination is kept connected while the programme is away and nothing is sent."""
    slate_hold_s: float = 600.0
    """How long with a slate."""
    stalled_after_s: float = 2.0
    """From when on a connection on which nothing moves is shown as stalled."""
    backoff_first_s: float = 0.5
    backoff_share: float = 0.15
    backoff_max_s: float = 30.0
    """A destination that is away is tried again after this share of the time that it has been away, ±20 %, at least the
    first, and at most the longest: one that refuses for 9 s is back within 2 s, one that refuses for hours is asked
    twice a minute."""
    steady_after_s: float = 20.0
    """A session that lasted this long makes the next backoff the first one again."""
    failed_after_s: float = 30.0
    """So long it may be away before the state is ``failed``."""
    source_retry_s: float = 0.25
    """MediaMTX keeps no group of pictures: whoever comes late waits for the next key frame."""
    queue_bytes: int = MAX_BYTES
    queue_items: int = MAX_ITEMS

    def wait_s(self, away_s: float) -> float:
        """Until the next attempt, before it is spread."""
        return min(self.backoff_max_s, max(self.backoff_first_s, away_s * self.backoff_share))

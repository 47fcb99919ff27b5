"""How far a live source's clock has run away from ours, and the slow correction of it. Pure.

Transport only ever makes a unit later, never earlier, so the least lateness of some seconds tells the two clocks'
distance (the minimum filter of NTP, RFC 5905, section 10). The correction follows that distance with a time
constant of 20 s and never faster than 5000 ppm: pictures a half per cent slower or faster, and sound that is
stretched by as much (9 cents at the very most, one at the ±500 ppm of real clocks), pass unnoticed. What is no drift
(a route that has become longer, a stretch of congestion) moves the source as gently, and does no harm.
"""

from __future__ import annotations

from collections import deque

from babelcast.units import NS_PER_MS, NS_PER_S

_BUCKET_NS = NS_PER_S
_WINDOW = 20  # buckets
_TIME_CONSTANT_NS = 20 * NS_PER_S
MAX_SLEW_PPM = 5_000
_MAX_GAP_NS = NS_PER_S
_TOLERANCE_NS = 10 * NS_PER_MS
"""Less is how finely arrival is known (a worker looks 20 times a second), and moves nothing."""


class DriftCorrection:
    """For one anchoring of the timeline; the first window's least lateness is what it keeps to.

    State: the least lateness of each of the last 20 seconds, before any correction, and the correction so far.
    """

    def __init__(self) -> None:
        self._buckets: deque[int] = deque(maxlen=_WINDOW)
        self._bucket_began_ns: int | None = None
        self._least: int | None = None
        self._reference: int | None = None
        self._last_ns: int | None = None
        self._fraction = 0.0
        self.correction_ns = 0

    @property
    def distance_ns(self) -> int:
        """How far the source is late (+) now against its place at the start, before correction."""
        if self._reference is None or not self._buckets:
            return 0
        return min(self._buckets) - self._reference

    def step(self, arrival_ns: int, lateness_ns: int) -> int:
        """A unit came ``lateness_ns`` late, this correction's work not counted; gives by how many ns all units
        must be moved from now on, beyond what earlier calls said."""
        self._observe(arrival_ns, lateness_ns)
        elapsed = min(arrival_ns - self._last_ns, _MAX_GAP_NS) if self._last_ns is not None else 0
        self._last_ns = arrival_ns
        if elapsed <= 0 or self._reference is None:
            return 0
        limit = elapsed * MAX_SLEW_PPM / 1e6
        off = self.distance_ns - self.correction_ns
        off = max(0, abs(off) - _TOLERANCE_NS) * (1 if off > 0 else -1)
        wanted = off * elapsed / _TIME_CONSTANT_NS
        self._fraction += max(-limit, min(limit, wanted))
        move = int(self._fraction)
        self._fraction -= move
        self.correction_ns += move
        return move

    def _observe(self, arrival_ns: int, lateness_ns: int) -> None:
        if self._bucket_began_ns is None:
            self._bucket_began_ns = arrival_ns
        if arrival_ns - self._bucket_began_ns >= _BUCKET_NS and self._least is not None:
            self._buckets.append(self._least)
            self._bucket_began_ns, self._least = arrival_ns, None
            if self._reference is None and len(self._buckets) == _WINDOW // 2:
                self._reference = min(self._buckets)
        self._least = lateness_ns if self._least is None else min(self._least, lateness_ns)

"""One source timeline out of whatever timestamps the source's connections bring. Pure: times in, times out.

A unit's place is its running time plus an offset. The offset is chosen once per connection (:meth:`begin`), again
when the timestamps jump, and again when the source has fallen so far behind the wall clock that its units would
come after their turn. Source time never goes back over any of these.

For a live source, source time and wall clock keep one distance for the whole session: ``epoch_ns`` is the wall
time of source time 0, so that time ``t`` is due on air at ``epoch_ns + t + delay``, whatever happened in between.
A source whose clock runs fast or slow is led back to that distance all the time, imperceptibly
(:mod:`babelcast.worker.drift`): one second of source time is one second of ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from babelcast.units import NS_PER_MS, NS_PER_S
from babelcast.worker.drift import DriftCorrection

Track = Literal["video", "audio"]

_STEP_BACK_NS = 500 * NS_PER_MS
_STEP_AHEAD_NS = NS_PER_S
_ARRIVAL_TOLERANCE_NS = 2 * NS_PER_S
_FILE_GAP_NS = 10 * NS_PER_S
_PATIENCE_NS = NS_PER_S
_EARLY_LIMIT_NS = 5 * NS_PER_S
_SAME_JUMP_NS = 5 * NS_PER_S
_GAP_NS = 500 * NS_PER_MS
"""From this length on, source time that nothing came for is a gap. Shorter ones are a matter of the network."""
_MAX_GAPS = 64


@dataclass(slots=True)
class _TrackState:
    offset_ns: int
    expected_ns: int | None = None  # running time at which the next unit is expected


class SourceTimeline:
    """``late_limit_ns``: a live unit that is later than this against the wall clock misses its turn on air.
    None: the source is a file, and wall time means nothing."""

    def __init__(self, late_limit_ns: int | None) -> None:
        self._late_limit_ns = late_limit_ns
        self._drift = DriftCorrection()
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_MAX_GAPS)
        self._epoch_ns: int | None = None
        self._tracks: dict[Track, _TrackState] = {}
        self._newest_offset_ns = 0
        self._end_ns = 0
        self._off_since_ns: int | None = None
        self.rebases = 0
        """How often the timestamps were re-based within a connection."""

    @property
    def epoch_ns(self) -> int | None:
        """Wall time of source time 0; None before the first connection."""
        return self._epoch_ns

    @property
    def end_ns(self) -> int:
        """Source time up to which units have come."""
        return self._end_ns

    @property
    def drift_ns(self) -> int:
        """How far the source's clock has been led back on this connection; positive: it runs slow."""
        return self._drift.correction_ns

    def limit_lateness(self, late_limit_ns: int) -> None:
        """For a live source whose delay changes."""
        self._late_limit_ns = late_limit_ns

    def resume(self, epoch_ns: int, end_ns: int) -> None:
        """Go on on another worker's timeline, whose units came up to ``end_ns``. Before the first connection."""
        self._epoch_ns, self._end_ns = epoch_ns, end_ns

    def lost_for_ns(self, time_ns: int) -> int | None:
        """How long before source time ``time_ns`` the source had ended, of all tracks; None where it was there.

        Not before a first unit has come. ``time_ns`` may lie ahead of everything that has come.
        """
        if self._epoch_ns is None:
            return None
        if time_ns > self._end_ns:
            return time_ns - self._end_ns if time_ns - self._end_ns >= _GAP_NS else None
        for began, ended in reversed(self._gaps):
            if began < time_ns < ended:
                return time_ns - began
        return None

    def begin(self, arrivals: Iterable[tuple[int, int]]) -> None:
        """Anchor a new connection on its first units, given as (running time, wall time of arrival), at least one.

        The server may send a whole group of pictures at once at the start: the unit that came earliest against
        its own timestamp shows how far the source really is.
        """
        units = list(arrivals)
        first = min(running for running, _ in units)
        lead = min(arrival - running for running, arrival in units)
        if self._epoch_ns is None:
            self._epoch_ns = lead + first
            offset = -first
        elif self._late_limit_ns is None:
            offset = self._end_ns - first
        else:
            offset = max(lead - self._epoch_ns, self._end_ns - first)
        self._anchor(offset)

    def adopt(self, offset_ns: int) -> None:
        """A connection takes over from another one, and its place is known: source time minus its running time."""
        self._anchor(offset_ns)

    def place(self, track: Track, running_ns: int, duration_ns: int, arrival_ns: int) -> int:
        """Source time of a unit. ``begin`` must have been called for its connection."""
        state = self._tracks[track]
        if self._jumped(state, running_ns, arrival_ns):
            self._rebase(state, running_ns, arrival_ns)
        state.expected_ns = running_ns + duration_ns
        self._follow_clock(running_ns + state.offset_ns, arrival_ns)
        time_ns = running_ns + state.offset_ns
        shift = self._lateness_shift(time_ns, arrival_ns)
        if shift:
            self._move(shift)
            self._drift = DriftCorrection()
            self.rebases += 1
            time_ns += shift
        if time_ns - self._end_ns >= _GAP_NS and self._end_ns:
            self._gaps.append((self._end_ns, time_ns))
        self._end_ns = max(self._end_ns, time_ns + duration_ns)
        return time_ns

    def _move(self, shift_ns: int) -> None:
        for state in self._tracks.values():
            state.offset_ns += shift_ns
        self._newest_offset_ns += shift_ns

    def _follow_clock(self, time_ns: int, arrival_ns: int) -> None:
        if self._late_limit_ns is None or self._epoch_ns is None:
            return
        lateness_ns = arrival_ns - self._epoch_ns - (time_ns - self._drift.correction_ns)
        self._move(self._drift.step(arrival_ns, lateness_ns))

    def _anchor(self, offset_ns: int) -> None:
        self._drift = DriftCorrection()
        self._newest_offset_ns = offset_ns
        self._tracks = {"video": _TrackState(offset_ns), "audio": _TrackState(offset_ns)}
        self._off_since_ns = None

    def _jumped(self, state: _TrackState, running_ns: int, arrival_ns: int) -> bool:
        if state.expected_ns is None:
            return False
        step = running_ns - state.expected_ns
        if -_STEP_BACK_NS <= step <= _STEP_AHEAD_NS:
            return False
        if step < 0:
            return True
        if self._late_limit_ns is None:
            return step > _FILE_GAP_NS
        assert self._epoch_ns is not None
        # a step ahead that the wall clock made as well is a pause in the source, not a jump
        return abs(arrival_ns - self._epoch_ns - running_ns - state.offset_ns) > _ARRIVAL_TOLERANCE_NS

    def _rebase(self, state: _TrackState, running_ns: int, arrival_ns: int) -> None:
        """The track that jumps first finds the new offset, the other one joins it at its own jump."""
        assert state.expected_ns is not None
        joined = running_ns + self._newest_offset_ns
        own_end = state.expected_ns + state.offset_ns
        if state.offset_ns != self._newest_offset_ns and abs(joined - own_end) < _SAME_JUMP_NS:
            state.offset_ns = self._newest_offset_ns
            return
        now = self._end_ns
        if self._late_limit_ns is not None and self._epoch_ns is not None:
            wall = arrival_ns - self._epoch_ns
            # where it comes about when it was expected, nothing is missing: only the numbers are others
            now = own_end if abs(wall - own_end) < _GAP_NS else max(now, wall)
        state.offset_ns = self._newest_offset_ns = now - running_ns
        self._drift = DriftCorrection()
        self.rebases += 1

    def _lateness_shift(self, time_ns: int, arrival_ns: int) -> int:
        """How far all offsets must move, because for a second every unit was too late or absurdly early; usually 0."""
        if self._late_limit_ns is None or self._epoch_ns is None:
            return 0
        late = arrival_ns - self._epoch_ns - time_ns
        if -_EARLY_LIMIT_NS <= late <= self._late_limit_ns:
            self._off_since_ns = None
            return 0
        if self._off_since_ns is None:
            self._off_since_ns = arrival_ns
        if arrival_ns - self._off_since_ns < _PATIENCE_NS:
            return 0
        self._off_since_ns = None
        return max(late, self._end_ns - time_ns)

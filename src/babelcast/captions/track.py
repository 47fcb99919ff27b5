"""One programme's closed captions: which byte pair goes with which picture. Pure; times on the source timeline.

Pairs go in the order in which pictures are shown, access units leave in the order in which they are decoded. So when
a picture leaves before others that are shown earlier, those get their pairs first, and keep them until they leave.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from babelcast.captions import cea608
from babelcast.captions.cea608 import NULL, Pair
from babelcast.captions.cues import Cue, heard, said
from babelcast.captions.sei import cc_data, length_size, with_captions
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S, AccessUnit

REORDER = 32
"""Pictures behind the one that leaves among which there may be some that are shown before it."""
_PAIR_S = 1 / 33
"""Pairs are at least this far apart: field 1 has room for 30 a second, whatever the rate of the pictures."""
_HOLD_S = 2.0
"""How long the last line stands after its end."""
_MOST_LINES = 32
_FRAMES = 9


class CaptionTrack:
    """``wanted`` is the language of the captions, ``own`` that of the programme.

    Lines that wait are bounded: beyond 32 the oldest goes, *drop and count*.
    """

    def __init__(self, wanted: str, *, own: str, source: str) -> None:
        self._wanted, self._own, self._source = wanted, own, source
        self._lines: deque[tuple[int, list[Pair]]] = deque()
        self._sending: deque[Pair] = deque()
        self._erase_at_ns: int | None = None
        self._assigned: dict[int, Pair | None] = {}
        self._shown: deque[int] = deque(maxlen=_FRAMES)
        self._last_pair_ns: float = -math.inf
        self._caps: tuple[str, int | None] = ("", None)
        self.dropped = 0
        """Lines that came faster than they can be sent."""
        self.skipped = 0
        """Cues in letters that CEA-608 does not have."""

    def take(self, entry: SegmentEntry) -> None:
        """A segment that is going on air."""
        entry = entry.model_copy(update={"air_unix_s": None})  # on the source timeline
        if entry.language == self._wanted:
            cue = heard(entry)
        elif self._wanted == self._source and entry.language == self._own:
            cue = said(entry)
        else:
            return
        if cue is not None:
            self.add(cue)

    def add(self, cue: Cue) -> None:
        """Each line is sent when it is its turn in the cue, by its share of the letters."""
        if not cea608.sendable(cue.text):
            self.skipped += 1
            return
        lines = cea608.lines(cue.text)
        letters, before = sum(map(len, lines)), 0
        for line in lines:
            at_s = cue.start_s + (cue.end_s - cue.start_s) * before / letters
            self._lines.append((round(at_s * NS_PER_S), cea608.line_pairs(line)))
            before += len(line)
        self._erase_at_ns = round((cue.end_s + _HOLD_S) * NS_PER_S)
        while len(self._lines) > _MOST_LINES:
            self._lines.popleft()
            self.dropped += 1

    def encode(self, units: Sequence[AccessUnit], upcoming: Iterable[AccessUnit]) -> list[AccessUnit]:
        """``units`` with captions, in their order. ``upcoming``: the units that leave next (:data:`REORDER` of them
        are looked at). What is not H.264 with length prefixes leaves as it came."""
        known = sorted({unit.pts_ns for unit in (*units, *upcoming)})
        return [self._encoded(unit, known) for unit in units]

    def _encoded(self, unit: AccessUnit, known: Sequence[int]) -> AccessUnit:
        if unit.caps != self._caps[0]:
            self._caps = unit.caps, length_size(unit.caps)
        size = self._caps[1]
        if size is None:
            return unit
        self._assign(unit.pts_ns, known)
        payload = cc_data(self._assigned.pop(unit.pts_ns, NULL), self._frame_s)
        return replace(unit, data=with_captions(unit.data, size, payload))

    def _assign(self, until_ns: int, known: Sequence[int]) -> None:
        """A pair to each picture that is shown up to then and has none yet."""
        last_ns = self._shown[-1] if self._shown else None
        if last_ns is not None and abs(until_ns - last_ns) > 10 * NS_PER_S:  # another timeline
            self._shown.clear()
            self._assigned.clear()
            last_ns, self._last_pair_ns = None, -math.inf
        for pts_ns in known:
            if pts_ns <= until_ns and (last_ns is None or pts_ns > last_ns):
                self._assigned[pts_ns] = self._next(pts_ns)
                self._shown.append(pts_ns)

    def _next(self, pts_ns: int) -> Pair | None:
        """None where field 1 has no room: a code and its repetition must follow each other, without a null."""
        if pts_ns - self._last_pair_ns < _PAIR_S * NS_PER_S:
            return None
        self._last_pair_ns = pts_ns
        if not self._sending:
            self._begin(pts_ns)
        return self._sending.popleft() if self._sending else NULL

    def _begin(self, pts_ns: int) -> None:
        """What is due, if anything."""
        if self._lines:
            if self._lines[0][0] <= pts_ns:
                self._sending.extend(self._lines.popleft()[1])
        elif self._erase_at_ns is not None and self._erase_at_ns <= pts_ns:
            self._erase_at_ns = None
            self._sending.extend(cea608.erase_pairs())

    @property
    def _frame_s(self) -> float:
        """Median distance of the latest pictures; a thirtieth while nothing is known."""
        shown = list(self._shown)
        apart = sorted(after - before for before, after in itertools.pairwise(shown))
        return apart[len(apart) // 2] / NS_PER_S if apart else 1 / 30

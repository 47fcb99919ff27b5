"""Journal and manifest brought together: which sentence each dubbed segment speaks, on the clip's clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from babelcast.demo.clip import Sentence
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S

_SNAP_S = 0.35
"""A segment that begins this near to a sentence begins with it: recognisers place onsets to a few tenths."""
_COVERED = 0.5
_GRID_S = 0.02
_WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True, slots=True)
class Lineage:
    """``origin_s`` + source time = clip time. ``how``: ``text`` (word by word) or ``spans`` (speech against pause)."""

    origin_s: float
    how: str

    def span(self, entry: SegmentEntry) -> tuple[float, float]:
        """The entry's source span in seconds of the clip."""
        return (
            entry.source_start_ns / NS_PER_S + self.origin_s,
            entry.source_end_ns / NS_PER_S + self.origin_s,
        )

    def onset(self, entry: SegmentEntry, sentences: Sequence[Sentence]) -> float:
        """When the speech of ``entry`` begins in the clip: the sentence's own start where it begins with one."""
        start, _ = self.span(entry)
        nearest = min((sentence.start_s for sentence in sentences), key=lambda at: abs(at - start), default=start)
        return nearest if abs(nearest - start) <= _SNAP_S else start


def find_lineage(entries: Sequence[SegmentEntry], sentences: Sequence[Sentence]) -> Lineage | None:
    """Where the worker's source time began in the clip. None without entries or sentences."""
    if not entries or not sentences:
        return None
    differences = _by_text(entries, sentences)
    if len(differences) >= 2 or len(entries) == len(differences):
        return Lineage(float(np.median(differences)), "text")
    return Lineage(_by_spans(entries, sentences), "spans")


def covered(sentence: Sentence, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether ``spans`` (clip seconds) cover half of the sentence at least."""
    grid = np.arange(sentence.start_s, sentence.end_s, _GRID_S)
    inside = np.zeros(len(grid), bool)
    for start, end in spans:
        inside |= (grid >= start) & (grid < end)
    return bool(len(grid)) and float(inside.mean()) >= _COVERED


def spoken_twice(spans: Sequence[tuple[float, float]]) -> int:
    """How many source spans are mostly spoken by the segment before them already."""
    ordered = sorted(spans)
    return sum(
        1
        for (start, end), (next_start, next_end) in pairwise(ordered)
        if min(end, next_end) - next_start > 0.5 * max(0.1, min(end - start, next_end - next_start))
    )


def first_segment(sentence: Sentence, entries: Sequence[SegmentEntry], lineage: Lineage) -> SegmentEntry | None:
    """The segment in which the sentence's beginning is spoken: the first that overlaps it by 0.3 s or a third."""
    least = min(0.3, (sentence.end_s - sentence.start_s) / 3)
    for entry in sorted(entries, key=lambda item: item.source_start_ns):
        start, end = lineage.span(entry)
        if min(end, sentence.end_s) - max(start, sentence.start_s) >= least:
            return entry
    return None


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _by_text(entries: Sequence[SegmentEntry], sentences: Sequence[Sentence]) -> list[float]:
    """Sentence start − segment start, for each segment whose first word opens a sentence, all aligned in order."""
    said = [(word, index, k == 0) for index, line in enumerate(sentences) for k, word in enumerate(_words(line.text))]
    heard = [
        (word, index, k == 0) for index, item in enumerate(entries) for k, word in enumerate(_words(item.transcript))
    ]
    matcher = SequenceMatcher(None, [item[0] for item in said], [item[0] for item in heard], autojunk=False)
    differences = []
    for block in matcher.get_matching_blocks():
        for k in range(block.size):
            _, sentence, opens = said[block.a + k]
            _, entry, begins = heard[block.b + k]
            if opens and begins:
                differences.append(sentences[sentence].start_s - entries[entry].source_start_ns / NS_PER_S)
    return differences


def _by_spans(entries: Sequence[SegmentEntry], sentences: Sequence[Sentence]) -> float:
    """The shift (−10 to +10 s) at which speech in the journal covers most of the sentences and least of the pauses."""
    end = sentences[-1].end_s + 12
    grid = np.arange(-12, end, _GRID_S)
    said = np.full(len(grid), -1.0)
    for sentence in sentences:
        said[(grid >= sentence.start_s) & (grid < sentence.end_s)] = 1.0
    heard = np.zeros(len(grid))
    for entry in entries:
        heard[(grid >= entry.source_start_ns / NS_PER_S) & (grid < entry.source_end_ns / NS_PER_S)] = 1.0
    shifts = np.arange(round(-10 / _GRID_S), round(10 / _GRID_S) + 1)
    scores = [float(np.dot(np.roll(heard, shift), said)) for shift in shifts]
    return float(shifts[int(np.argmax(scores))] * _GRID_S)

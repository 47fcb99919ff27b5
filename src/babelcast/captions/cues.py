"""From the segment journal to cues on the clock of a broadcast. Pure.

A *broadcast* is what a viewer would call one: it begins when the first worker's source time 0 is on air, goes on
over restarts of the worker, and ends where the next worker begins more than half an hour after the last cue. Its
clock counts seconds from that beginning, in wall time, so it is the clock of a recording of the output that is
begun with it, whatever happens to source timelines meanwhile.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict

from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S

PAUSE_S = 1_800.0
"""A worker that begins this long after the last cue begins another broadcast."""
_LEAST_S = 0.7
_SHORTEST_S = 0.05


@dataclass(frozen=True, slots=True)
class Cue:
    """Seconds of the video that the captions belong to."""

    start_s: float
    end_s: float
    text: str


class OnAirMark(BaseModel):
    """A worker's source time 0 is on air: a line of ``broadcasts.jsonl``. Other fields are for later versions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    began_unix_s: float
    """Unix time at which source time 0 is on air."""
    source_language: str
    languages: tuple[str, ...]
    """The targets, in the order of the config."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """``entries``: language → its segments, in the order in which they were settled. ``zero_unix_s``: the Unix time of
    0 on the broadcast's clock; None where nothing was on air (``babelcast dub``) and source time is the clock."""

    zero_unix_s: float | None
    source_language: str
    languages: tuple[str, ...]
    entries: dict[str, list[SegmentEntry]] = field(default_factory=dict)
    runs: tuple[OnAirMark, ...] = ()
    """The workers that were on air, one after the other."""

    @property
    def all_languages(self) -> tuple[str, ...]:
        """The source language and the targets, each once."""
        return tuple(dict.fromkeys((self.source_language, *self.languages)))

    def entries_for(self, language: str) -> list[SegmentEntry]:
        """What the captions in ``language`` come from. For the source language that is, of each worker, the first
        target with any: each target has a transcript of its own of the same words."""
        if language in self.languages:
            return self.entries.get(language, [])
        edges = [-math.inf, *(run.began_unix_s - _LEAST_S for run in self.runs[1:]), math.inf]
        orders = [run.languages for run in self.runs] or [self.languages]
        found: list[SegmentEntry] = []
        for order, (begin, end) in zip(orders, itertools.pairwise(edges), strict=True):
            theirs = ([e for e in self.entries.get(each, ()) if begin <= air_s(e) < end] for each in order)
            found += next((entries for entries in theirs if entries), [])
        return found

    def with_entries(self, entries: Iterable[SegmentEntry]) -> Broadcast:
        """The same broadcast with those of ``entries`` that belong to it, as if it went on for ever."""
        began_s = -math.inf if self.zero_unix_s is None else self.zero_unix_s - _LEAST_S
        made = replace(self, entries={})
        for entry in entries:
            if air_s(entry) >= began_s and entry.language in self.languages:
                made.entries.setdefault(entry.language, []).append(entry)
        return made

    def cue(self, entry: SegmentEntry, language: str) -> Cue | None:
        """The entry's cue in ``language``, on the broadcast's clock; None where it has no text or wasn't heard."""
        zero = 0.0 if self.zero_unix_s is None else self.zero_unix_s
        found = heard(entry) if language in self.languages else said(entry)
        return None if found is None else Cue(found.start_s - zero, found.end_s - zero, found.text)

    def cues(self, language: str) -> list[Cue]:
        """In order, without overlap."""
        return tidy(cue for entry in self.entries_for(language) if (cue := self.cue(entry, language)) is not None)


def air_s(entry: SegmentEntry) -> float:
    """When the entry's first picture is on air, in Unix time; in source time for an entry that never was."""
    return entry.source_start_ns / NS_PER_S if entry.air_unix_s is None else entry.air_unix_s


def heard(entry: SegmentEntry) -> Cue | None:
    """The dub, while it is heard; times as :func:`air_s` has them. None where it was dropped."""
    if entry.placed_ns is None or not entry.translation.strip():
        return None
    start = air_s(entry) + (entry.placed_ns - entry.source_start_ns) / NS_PER_S
    return Cue(start, start + entry.duration_ns / NS_PER_S, entry.translation)


def said(entry: SegmentEntry) -> Cue | None:
    """What was said in the source, at its pictures; times as :func:`air_s` has them."""
    text = entry.transcript.strip()
    if not text:
        return None
    start = air_s(entry)
    return Cue(start, start + (entry.source_end_ns - entry.source_start_ns) / NS_PER_S, text[:1].upper() + text[1:])


def tidy(cues: Iterable[Cue]) -> list[Cue]:
    """In order, none before 0, without overlap; each lasts 0.7 s at least where the next one allows."""
    wanted = sorted((cue for cue in cues if cue.text.strip() and cue.end_s > 0), key=lambda cue: cue.start_s)
    tidied: list[Cue] = []
    for index, cue in enumerate(wanted):
        start = max(0.0, cue.start_s, tidied[-1].end_s if tidied else 0.0)
        end = max(cue.end_s, start + _LEAST_S)
        if index + 1 < len(wanted):
            end = min(end, max(start + _SHORTEST_S, wanted[index + 1].start_s))
        tidied.append(Cue(start, end, cue.text))
    return tidied


def latest(cues: Sequence[Cue], seconds: float, now_s: float) -> list[Cue]:
    """Those that were still on screen ``seconds`` before ``now_s``, and later."""
    return [cue for cue in cues if cue.end_s > now_s - seconds]


def broadcasts(marks: Iterable[OnAirMark], entries: Iterable[SegmentEntry]) -> list[Broadcast]:
    """Oldest first. A journal without marks (``babelcast dub``) is one broadcast."""
    found: list[Broadcast] = []
    pending = deque(sorted(marks, key=lambda mark: mark.began_unix_s))
    last_s = -math.inf
    for entry in sorted(entries, key=air_s):
        start_s = air_s(entry)
        # a segment may begin before source time 0 is on air by no more than rounding
        while pending and pending[0].began_unix_s <= start_s + _LEAST_S:
            last_s = _mark(found, pending.popleft(), last_s)
        if not found:
            zero = None if entry.air_unix_s is None else start_s - entry.source_start_ns / NS_PER_S
            found.append(Broadcast(zero, "", (entry.language,)))
        _put(found, entry)
        last_s = max(last_s, start_s + (entry.source_end_ns - entry.source_start_ns) / NS_PER_S)
    for mark in pending:
        last_s = _mark(found, mark, last_s)
    return found


def _mark(found: list[Broadcast], mark: OnAirMark, last_s: float) -> float:
    """Begin a broadcast, or go on with the last one under what the mark says of its languages."""
    if not found or mark.began_unix_s - last_s > PAUSE_S:
        found.append(Broadcast(mark.began_unix_s, mark.source_language, mark.languages, runs=(mark,)))
        return mark.began_unix_s
    known = found[-1]
    languages = tuple(dict.fromkeys((*mark.languages, *known.languages)))
    found[-1] = replace(known, source_language=mark.source_language, languages=languages, runs=(*known.runs, mark))
    return max(last_s, mark.began_unix_s)


def _put(found: list[Broadcast], entry: SegmentEntry) -> None:
    known = found[-1]
    if entry.language not in known.languages:
        known = found[-1] = replace(known, languages=(*known.languages, entry.language))
    known.entries.setdefault(entry.language, []).append(entry)

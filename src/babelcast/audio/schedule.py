"""Where each dubbed segment goes on the timeline, and how fast it is spoken.

A segment is placed where its source was spoken when that is still ahead; else as soon as it can. Segments never
overlap and keep the order in which they were added. What is not yet on air is planned anew with every segment
that comes, because only then is it known how much room the one before it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soxr

from babelcast.audio.level import active_rms
from babelcast.audio.pcm import from_db
from babelcast.audio.stretch import stretch, stretched_length
from babelcast.units import RATE, DubSegment, Pcm, ns_to_samples

SpeechLevel = Callable[[int, int], float | None]
"""(start, stop) on the source timeline → RMS of the speech there; None where it isn't known."""


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """``gap_s``: least pause between two segments. ``lead_s``: how far ahead of the playhead a late segment
    starts at the earliest (the mixer renders a little ahead). ``spill_s``: how far a segment may run past its
    source's end before it is sped up, while nothing follows it. ``target_backlog_s``: up to here tempo rises by
    ``tempo_step`` a segment at most; beyond it, catching up goes first."""

    min_tempo: float = 1.0
    max_tempo: float = 1.45
    gap_s: float = 0.06
    lead_s: float = 0.12
    spill_s: float = 0.4
    target_backlog_s: float = 1.0
    tempo_step: float = 0.15
    max_backlog_s: float = 4.0
    fade_s: float = 0.008
    max_level_change_db: float = 12.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a segment is played: ``start`` and ``duration`` in samples on the source timeline.

    ``offset_s`` is how much later than its source it starts. It may still move, or be dropped, until it is on air.
    """

    segment: DubSegment = field(repr=False)
    start: int
    duration: int
    tempo: float
    offset_s: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """A segment that will never be heard. ``reason``: ``backlog`` (the bound would be passed) or ``empty``."""

    segment: DubSegment = field(repr=False)
    reason: str


@dataclass(slots=True)
class _Planned:
    segment: DubSegment
    source_start: int
    source_end: int
    voice: Pcm  # 48 kHz, level set, tempo 1, faded only when rendered
    start: int = 0
    tempo: float = 1.0
    rendered: Pcm = field(default_factory=lambda: np.zeros(0, np.float32))
    rendered_tempo: float = 0.0
    on_air: bool = False

    @property
    def duration(self) -> int:
        return stretched_length(len(self.voice), self.tempo)

    @property
    def end(self) -> int:
        return self.start + self.duration

    @property
    def offset(self) -> int:
        return self.start - self.source_start


class DubTrack:
    """The dubbed voice on the source timeline. Not thread-safe; add and read from one thread.

    Bounded: what is not yet played is never more than the backlog bound allows, and what was played is forgotten,
    except the last segment (for the fallback ``repeat``).
    """

    def __init__(self, settings: ScheduleSettings | None = None, speech_level: SpeechLevel | None = None) -> None:
        self.settings = settings or ScheduleSettings()
        self._speech_level = speech_level
        self._segments: deque[_Planned] = deque()
        self._read_end: int | None = None
        self._last_played: _Planned | None = None
        self._settled: deque[Placement | Dropped] = deque(maxlen=1_000)
        self._last_tempo = 1.0
        self.added = 0
        self.dropped = 0

    @property
    def end(self) -> int:
        """One past the last sample of the last segment; 0 before the first."""
        last = self._segments[-1] if self._segments else self._last_played
        return last.end if last else 0

    def backlog_s(self, playhead: int) -> float:
        """How far the speech that is planned runs behind its source, in seconds; 0.0 once all is played."""
        if not self._segments or self.end <= playhead:
            return 0.0
        return max(0, self.end - self._segments[-1].source_end) / RATE

    def add(self, segment: DubSegment, playhead: int) -> Placement | Dropped:
        """Plan ``segment``; ``playhead`` is the sample that is rendered next.

        The verdict may change until the segment is on air: :meth:`take_settled` gives the final ones.
        """
        self.added += 1
        voice = self._prepare(segment)
        if not len(voice):
            return self._drop(segment, "empty")
        planned = _Planned(segment, ns_to_samples(segment.source_start_ns), ns_to_samples(segment.source_end_ns), voice)
        self._segments.append(planned)
        self._plan(playhead)
        while planned.offset > self.settings.max_backlog_s * RATE:
            oldest = next(item for item in self._segments if not item.on_air)
            self._segments.remove(oldest)
            verdict = self._drop(oldest.segment, "backlog")
            if oldest is planned:
                self._plan(playhead)
                return verdict
            self._plan(playhead)
        return _placement(planned)

    def take_settled(self) -> list[Placement | Dropped]:
        """Final verdicts since the last call, each segment once, in order: a Placement once it is on air."""
        settled = list(self._settled)
        self._settled.clear()
        return settled

    def active(self, pos: int, n: int) -> bool:
        """Whether a segment plays somewhere in [pos, pos + n)."""
        return any(item.start < pos + n and item.end > pos for item in self._segments)

    def read(self, pos: int, n: int) -> tuple[Pcm, bool]:
        """The voice in [pos, pos + n), shape (n,), silence where there is none; and whether there is any.

        Reading puts a segment on air: it stays where it is from then on. Read forward.
        """
        out = np.zeros(n, np.float32)
        stop = pos + n
        self._read_end = stop if self._read_end is None else max(stop, self._read_end)
        while self._segments and self._segments[0].end <= pos:
            self._last_played = self._segments.popleft()
            self._settle(self._last_played)
        active = False
        for item in self._segments:
            if item.start >= stop:
                break
            self._settle(item)
            rendered = self._rendered(item)
            begin, end = max(pos, item.start), min(stop, item.end)
            out[begin - pos : end - pos] = rendered[begin - item.start : end - item.start]
            active = True
        return out, active

    def last_spoken(self) -> Pcm | None:
        """The last segment that was played to its end (or is on air), as it sounded: shape (n,); else None."""
        return self._rendered(self._last_played) if self._last_played else None

    # -- planning

    def _plan(self, playhead: int) -> None:
        settings = self.settings
        earliest = playhead + round(settings.lead_s * RATE)
        if self._read_end is not None:
            earliest = max(earliest, self._read_end)
        gap = round(settings.gap_s * RATE)
        previous: _Planned | None = self._last_played
        tempo = previous.tempo if previous else 1.0
        waiting = [item for item in self._segments if not item.on_air]
        for item in self._segments:
            if item.on_air:
                previous, tempo = item, item.tempo
        for i, item in enumerate(waiting):
            item.start = max(item.source_start, earliest)
            if previous is not None:
                item.start = max(item.start, previous.end + gap)
            following = waiting[i + 1].source_start - gap if i + 1 < len(waiting) else None
            item.tempo = tempo = self._tempo(item, following, tempo)
            previous = item
        for item in waiting:
            self._rendered(item)

    def _tempo(self, item: _Planned, following: int | None, last: float) -> float:
        """The least tempo that lets the segment end in time, raised gradually while the backlog is small."""
        settings = self.settings
        room_end = item.source_end + round(settings.spill_s * RATE)
        if following is not None:
            room_end = max(following, item.source_end)
        room = room_end - item.start
        wanted = len(item.voice) / room if room > 0 else settings.max_tempo
        if item.offset <= settings.target_backlog_s * RATE:
            wanted = min(wanted, max(last, 1.0) + settings.tempo_step)
        tempo = min(max(wanted, settings.min_tempo), settings.max_tempo)
        return 1.0 if abs(tempo - 1.0) < 0.02 else tempo

    def _rendered(self, item: _Planned) -> Pcm:
        if item.rendered_tempo != item.tempo:
            item.rendered = _faded(stretch(item.voice, item.tempo), round(self.settings.fade_s * RATE))
            item.rendered_tempo = item.tempo
        return item.rendered

    def _prepare(self, segment: DubSegment) -> Pcm:
        """At 48 kHz, without silent ends, as loud as the speech that it replaces."""
        voice = segment.samples.astype(np.float32, copy=False)
        if segment.rate != RATE:
            voice = soxr.resample(voice, segment.rate, RATE)
        voice = _trimmed(voice)
        own = active_rms(voice)
        if self._speech_level is None or own is None:
            return voice
        wanted = self._speech_level(ns_to_samples(segment.source_start_ns), ns_to_samples(segment.source_end_ns))
        if wanted is None:
            return voice
        limit = from_db(self.settings.max_level_change_db)
        gain = min(max(wanted / own, 1.0 / limit), limit)
        return voice * np.float32(gain)

    def _settle(self, item: _Planned) -> None:
        if not item.on_air:
            item.on_air = True
            self._settled.append(_placement(item))

    def _drop(self, segment: DubSegment, reason: str) -> Dropped:
        self.dropped += 1
        verdict = Dropped(segment, reason)
        self._settled.append(verdict)
        return verdict


def _placement(item: _Planned) -> Placement:
    return Placement(item.segment, item.start, item.duration, item.tempo, item.offset / RATE)


def _trimmed(voice: Pcm) -> Pcm:
    """Without the parts below −60 dBFS at both ends, 10 ms of them kept."""
    loud = np.flatnonzero(np.abs(voice) > 1e-3)
    if not len(loud):
        return voice[:0]
    keep = RATE // 100
    return voice[max(0, int(loud[0]) - keep) : int(loud[-1]) + 1 + keep]


def _faded(voice: Pcm, fade: int) -> Pcm:
    n = min(fade, len(voice) // 2)
    if n <= 0:
        return voice
    out = voice.copy()
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n, dtype=np.float32) + 0.5) / n)).astype(np.float32)
    out[:n] *= ramp
    out[-n:] *= ramp[::-1]
    return out

"""Where each dubbed segment goes on the timeline, and how fast it is spoken.

A segment is placed where its source was spoken when that is still ahead; else as soon as it can. Segments never
overlap and keep the order in which they were added. What is not yet on air is planned anew with every segment
that comes, because only then is it known how much room the one before it has. A pause of the source is used to
catch up: what is late runs into it, at no more tempo than that takes.

Drop policy: *the oldest that is not on air*, when a segment would start later than the hard backlog allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soxr

from babelcast.audio.fade import JOIN, equal_power_in, linear_in
from babelcast.audio.loudness import gated_power, hop_powers, lufs
from babelcast.audio.pcm import from_db
from babelcast.audio.stretch import MAX_TEMPO, stretch, stretched_length
from babelcast.audio.turns import SpeechPowers, TurnLoudness
from babelcast.units import RATE, DubSegment, Pcm, ns_to_samples

_RESTED_S = 1.0
"""After a pause this long a segment may begin at any tempo: nobody compares it with the one before."""
_TOUCH_S = 0.03
_LOUD = 1e-3
_KEEP = RATE // 100


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """``gap_s``: least pause between two segments that don't touch. ``lead_s``: how far ahead of the playhead a late
    segment starts at the earliest (the mixer renders a little ahead). ``spill_s``: how far a segment may run past its
    source's end before it is sped up, while nothing follows it. ``target_backlog_s``: up to here tempo changes by
    ``tempo_step`` from one segment to the next at most; beyond it, catching up goes first and it changes by
    ``catch_up_step``. ``hard_backlog_s``: a segment never starts later than this after its source."""

    min_tempo: float = 1.0
    max_tempo: float = MAX_TEMPO
    gap_s: float = 0.06
    lead_s: float = 0.12
    spill_s: float = 0.4
    target_backlog_s: float = 1.0
    tempo_step: float = 0.15
    catch_up_step: float = 0.3
    hard_backlog_s: float = 4.0
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
    """A segment that will never be heard. ``reason``: ``backlog`` (it was the oldest that was not on air when the hard
    backlog would have been passed) or ``empty``."""

    segment: DubSegment = field(repr=False)
    reason: str


@dataclass(slots=True, eq=False)  # each is itself: two alike would be compared by their samples
class _Planned:
    segment: DubSegment
    source_start: int
    source_end: int
    voice: Pcm  # 48 kHz, level set, tempo 1, not faded
    cut_start: bool = False  # it begins, or ends, in the middle of sound
    cut_end: bool = False
    start: int = 0
    tempo: float = 1.0
    joins_previous: bool = False  # overlaps it by a crossfade
    joins_next: bool = False
    rendered: Pcm | None = None
    rendered_tempo: float = 0.0
    loudness: float | None = None
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

    ``speech`` tells how loud the source's speech is (turns.speech_powers); without it a segment keeps its level.
    ``stretcher`` has the contract of stretch.stretch; it is called when a segment's first sample is read.

    Bounded: what is not yet played is never more than the backlog bound allows, and what was played is forgotten,
    except the last segment (for the fallback ``repeat``).
    """

    def __init__(
        self,
        settings: ScheduleSettings | None = None,
        speech: SpeechPowers | None = None,
        stretcher: Callable[[Pcm, float], Pcm] = stretch,
    ) -> None:
        self.settings = settings or ScheduleSettings()
        self._turns = TurnLoudness(speech, self.settings.max_level_change_db) if speech is not None else None
        self._stretcher = stretcher
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
        planned = self._prepare(segment)
        if planned is None:
            return self._drop(segment, "empty")
        self._segments.append(planned)
        self._plan(playhead)
        while planned.offset > self.settings.hard_backlog_s * RATE:
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

    def loudness(self, start: int, stop: int) -> float | None:
        """Loudness (LUFS, gated) of the quietest segment that plays in [start, stop); None where none does."""
        playing = [item for item in self._segments if item.start < stop and item.end > start]
        for item in playing:
            if item.loudness is None:
                item.loudness = lufs(gated_power(hop_powers(item.voice)))
        return min((item.loudness for item in playing if item.loudness is not None), default=None)

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
            begin, end = max(pos, item.start), min(stop, item.end)
            out[begin - pos : end - pos] += self._sound(item, begin - item.start, end - item.start)
            active = True
        return out, active

    def last_spoken(self) -> Pcm | None:
        """The last segment that was played to its end (or is on air), as it sounded: shape (n,); else None."""
        last = self._last_played
        return self._sound(last, 0, last.duration) if last else None

    # -- planning

    def _plan(self, playhead: int) -> None:
        settings = self.settings
        earliest = playhead + round(settings.lead_s * RATE)
        if self._read_end is not None:
            earliest = max(earliest, self._read_end)
        previous: _Planned | None = self._last_played
        waiting = []
        for item in self._segments:
            if item.on_air:
                previous = item
            else:
                waiting.append(item)
        for i, item in enumerate(waiting):
            item.start = max(item.source_start, earliest)
            if previous is not None:
                self._follow(item, previous)
            following = waiting[i + 1] if i + 1 < len(waiting) else None
            item.tempo = self._tempo(item, following, previous)
            previous = item

    def _follow(self, item: _Planned, previous: _Planned) -> None:
        """After ``previous``: with a pause, or crossfaded where speech was cut in its middle between the two."""
        settings = self.settings
        touches = previous.cut_end and item.cut_start
        touches = touches and abs(item.source_start - previous.source_end) <= _TOUCH_S * RATE
        joined = previous.end - JOIN
        heard = self._read_end is not None and self._read_end > joined
        if touches and not heard and item.start <= previous.end + round(_TOUCH_S * RATE):
            item.start = joined
        else:
            touches = False
            item.start = max(item.start, previous.end + round(settings.gap_s * RATE))
        if not heard:
            previous.joins_next = touches
        item.joins_previous = touches

    def _tempo(self, item: _Planned, following: _Planned | None, previous: _Planned | None) -> float:
        """The least tempo that lets the segment end in time, within the steps that are allowed from the last one."""
        settings = self.settings
        room_end = item.source_end + round(settings.spill_s * RATE)
        if following is not None:
            room_end = max(following.source_start - round(settings.gap_s * RATE), item.source_end)
        room = room_end - item.start
        wanted = len(item.voice) / room if room > 0 else settings.max_tempo
        rested = previous is None or item.start - previous.end >= _RESTED_S * RATE
        last = 1.0 if previous is None or rested else previous.tempo
        late = item.offset > settings.target_backlog_s * RATE
        wanted = min(wanted, last + (settings.catch_up_step if late else settings.tempo_step))
        if not rested:
            wanted = max(wanted, last - settings.tempo_step)
        tempo = min(max(wanted, settings.min_tempo), settings.max_tempo)
        return 1.0 if abs(tempo - 1.0) < 0.02 else tempo

    # -- sound

    def _sound(self, item: _Planned, begin: int, end: int) -> Pcm:
        """Samples [begin, end) of a segment as it is heard: stretched, its ends faded."""
        if item.rendered is None or item.rendered_tempo != item.tempo:
            item.rendered = self._stretcher(item.voice, item.tempo)
            item.rendered_tempo = item.tempo
        n = len(item.rendered)
        fade = min(JOIN, n // 2)
        out = item.rendered[begin:end]
        if begin < fade or end > n - fade:
            out = out.copy()
        if begin < fade:
            rise = (equal_power_in if item.joins_previous else linear_in)(fade)[begin:end]
            out[: len(rise)] *= rise
        if end > n - fade:
            fall = (equal_power_in if item.joins_next else linear_in)(fade)[::-1]
            first = max(begin, n - fade)
            out[first - begin :] *= fall[first - (n - fade) : end - (n - fade)]
        return out

    def _prepare(self, segment: DubSegment) -> _Planned | None:
        """At 48 kHz, without silent ends, as loud as the speech that it replaces; None where nothing is heard."""
        voice = segment.samples.astype(np.float32, copy=False)
        if segment.rate != RATE:
            voice = soxr.resample(voice, segment.rate, RATE)
        loud = np.flatnonzero(np.abs(voice) > _LOUD)
        if not len(loud):
            return None
        first, last = max(0, int(loud[0]) - _KEEP), min(len(voice), int(loud[-1]) + 1 + _KEEP)
        cut_start, cut_end = int(loud[0]) < _KEEP, int(loud[-1]) + _KEEP >= len(voice)
        voice = voice[first:last]
        start, stop = ns_to_samples(segment.source_start_ns), ns_to_samples(segment.source_end_ns)
        planned = _Planned(segment, start, stop, voice, cut_start, cut_end)
        if self._turns is not None:
            powers = hop_powers(voice)
            gain_db = self._turns.gain_db(segment.voice, start, stop, powers)
            planned.voice = voice * np.float32(from_db(gain_db))
            planned.loudness = lufs(gated_power(powers)) + gain_db
        return planned

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

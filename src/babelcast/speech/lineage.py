"""Which source an interpreter's output speaks, when the service doesn't say. Pure: no clock, no sockets.

A continuous interpreter sends sound without timestamps. What is known of a piece of it:

- *Causality.* It can't speak what was not yet sent when it came: the source time of the last sample sent before it
  arrived is a hard upper bound.
- *Order.* An interpreter doesn't go back, so spans are monotonic.
- *Onsets.* Where the output begins after a pause, it begins with something that began after a pause in the source.
- *Sentences.* Both transcripts end sentences; the n-th sentence out speaks the n-th in.
- *Lag.* The ear-voice span changes slowly.

An onset of the output is matched with that onset of the source which agrees best with the lag so far, and the
sentence count shifts the choice by :data:`_SENTENCE_BONUS_NS`. Neither is trusted alone: speakers pause where
interpreters don't, and transcripts come up to a second beside their sound. Between onsets the output runs on at the
source's pace.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from babelcast.units import NS_PER_MS, NS_PER_S

_SENTENCE_END = re.compile(r"[.!?…。！？؟।]+[\"'”’»)\]]*(?=\s|$)|[。！？]")
_SENTENCE_BONUS_NS = 1_500 * NS_PER_MS
_TRANSCRIPT_LATE_NS = 2 * NS_PER_S
_RECOGNISED_AFTER_NS = 700 * NS_PER_MS
"""About how long after its sound a fragment of the transcript comes."""
_LEAST_LAG_NS = 200 * NS_PER_MS
"""Nobody interprets faster; it also keeps room between a span's end and the causal bound."""
_LEAST_SPAN_NS = NS_PER_MS
_TAIL_NS = NS_PER_S
"""What is left of a source run when its dub ends: up to here the dub speaks it too."""
_LAG_STEP = 0.3


@dataclass(frozen=True, slots=True)
class LineageSettings:
    expected_lag_s: float = 3.0
    """The ear-voice span before anything was matched."""
    max_lag_s: float = 10.0
    """Source older than this when a sound comes is not what it speaks."""
    pause_s: float = 0.3
    """Silence that ends a run of speech in the source."""
    no_speech_s: float = 4.0
    """Sound in the source that gave no transcript for this long was no speech."""
    give_up_s: float = 9.0
    """Speech in the source that nothing was heard of for this long will not be dubbed."""
    settled_s: float = 2.0
    """Silence of the output after which what it spoke before is complete."""


@dataclass(slots=True)
class _Run:
    """Speech in the source between two pauses, or from one sentence's end to the next pause."""

    start_ns: int
    end_ns: int
    sentence: int
    """How many sentences of the source had ended before it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Source time, in ns. ``lag_ns``: how long after its source the sound came, by source sent meanwhile."""

    start_ns: int
    end_ns: int
    lag_ns: int


class Lineage:
    """One connection's. Source times in ns on the source timeline; output times in ns of sound since its start."""

    def __init__(self, settings: LineageSettings | None = None) -> None:
        self.settings = settings or LineageSettings()
        self._runs: deque[_Run] = deque(maxlen=256)
        self._sent_until_ns: int | None = None
        self._ended = False
        self._audible_until_ns: int | None = None
        self._floor_ns: int | None = None
        self._last_text_ns = -1
        self._sentence_in = 0
        self._sentence_out = 0
        self._chunks: deque[tuple[int, int]] = deque(maxlen=4_096)  # end in the output, source sent until then
        self._texts_in: deque[tuple[int, str]] = deque(maxlen=256)
        self._texts_out: deque[str] = deque(maxlen=256)
        self._lag_ns = round(self.settings.expected_lag_s * NS_PER_S)
        self._matches = 0

    # the source

    @property
    def sent_until_ns(self) -> int | None:
        """Source time of the last sample sent; None before the first."""
        return self._sent_until_ns

    @property
    def lag_s(self) -> float | None:
        """The ear-voice span of late; None before the first match."""
        return self._lag_ns / NS_PER_S if self._matches else None

    @property
    def pausing(self) -> bool:
        """Whether the source pauses."""
        return not self._runs or self._over(self._runs[-1])

    def sent(self, start_ns: int, end_ns: int, *, speech: bool, audible: bool) -> None:
        """Source [start, end) went to the service. ``speech``: loud enough for speech; ``audible``: for anything."""
        if self._floor_ns is None:
            self._floor_ns = start_ns
        self._sent_until_ns = max(end_ns, self._sent_until_ns or end_ns)
        if audible or speech:
            self._audible_until_ns = end_ns
        if not speech:
            return
        last = self._runs[-1] if self._runs else None
        if last is not None and start_ns - last.end_ns < self.settings.pause_s * NS_PER_S:
            last.end_ns = end_ns
        else:
            self._runs.append(_Run(start_ns, end_ns, self._sentence_in))

    def ended(self) -> None:
        """No more source comes."""
        self._ended = True

    def heard(self, text: str) -> None:
        """A fragment of the source's transcript came."""
        if self._sent_until_ns is None or not text:
            return
        self._last_text_ns = self._sent_until_ns
        spoken_ns = self._sent_until_ns - _RECOGNISED_AFTER_NS
        if self._runs and self.pausing:
            spoken_ns = min(self._sent_until_ns, self._runs[-1].end_ns)
        self._texts_in.append((spoken_ns, text))
        self._sentence_in += len(_SENTENCE_END.findall(text))
        # what began a moment ago, after a pause, is the next sentence already: transcripts come late
        last = self._runs[-1] if self._runs else None
        if len(self._runs) > 1 and last is not None and self._sent_until_ns - last.start_ns < _TRANSCRIPT_LATE_NS:
            last.sentence = self._sentence_in

    def _over(self, run: _Run) -> bool:
        until = self._sent_until_ns or 0
        return self._ended or run is not self._runs[-1] or until - run.end_ns >= self.settings.pause_s * NS_PER_S

    # the output

    def received(self, out_end_ns: int) -> None:
        """Sound came that ends at ``out_end_ns`` of the output."""
        if self._sent_until_ns is not None:
            self._chunks.append((out_end_ns, self._sent_until_ns))

    def said(self, text: str) -> None:
        """A fragment of the translation came."""
        if text:
            self._texts_out.append(text)

    def take_translation(self) -> str:
        """The translation that came since the last call."""
        text = "".join(self._texts_out)
        self._texts_out.clear()
        self._sentence_out += len(_SENTENCE_END.findall(text))
        return text.strip()

    def take_transcript(self, until_ns: int) -> str:
        """The source's transcript up to about ``until_ns``, as far as it was not taken."""
        parts = []
        while self._texts_in and self._texts_in[0][0] <= until_ns + _RECOGNISED_AFTER_NS // 2:
            parts.append(self._texts_in.popleft()[1])
        return "".join(parts).strip()

    def span(self, out_start_ns: int, out_end_ns: int, *, opens: bool, closes: bool) -> Span | None:
        """The source that output [start, end) speaks; None where nothing but silence was sent that it could speak.

        ``opens``: there was a pause in the output before it; ``closes``: there is one after it. Call in order.
        """
        if self._floor_ns is None or not self._chunks or self._audible_until_ns is None:
            return None
        (bound_start, made), (bound_end, _) = self._came(out_start_ns + 1), self._came(out_end_ns)
        if self._audible_until_ns < bound_start - self.settings.max_lag_s * NS_PER_S:
            return None
        duration = out_end_ns - out_start_ns
        start = self._matched(made) if opens else self._floor_ns
        earliest = bound_start - round(self.settings.max_lag_s * NS_PER_S)
        start = max(min(start, bound_start - _LEAST_LAG_NS), earliest, self._floor_ns)
        end = self._end(start, duration, closes)
        latest = bound_end if self._ended else bound_end - _LEAST_LAG_NS
        end = min(max(end, start + _LEAST_SPAN_NS), max(latest, start + _LEAST_SPAN_NS))
        if end > bound_end:
            return None
        self._floor_ns = end
        return Span(start, end, max(made - start, 0))

    def _came(self, out_ns: int) -> tuple[int, int]:
        """Source sent when that sound had come, and when it was made: a service that sends bursts makes their sound
        in real time all the same, so the start of a chunk is as old as the chunk is long.

        Forgets what no later call needs.
        """
        while len(self._chunks) > 1 and self._chunks[0][0] < out_ns:
            self._chunks.popleft()
        end_ns, sent_ns = self._chunks[0]
        return sent_ns, sent_ns - max(0, end_ns - out_ns)

    def _matched(self, made_ns: int) -> int:
        """The onset in the source that an onset of the output speaks. The very first speaks the first."""
        assert self._floor_ns is not None
        best, best_cost = None, 0
        for run in self._runs:
            start = max(run.start_ns, self._floor_ns)
            lag = made_ns - start
            if run.end_ns - start < _LEAST_LAG_NS or not _LEAST_LAG_NS <= lag <= self.settings.max_lag_s * NS_PER_S:
                continue
            cost = abs(lag - self._lag_ns)
            if run.sentence == self._sentence_out and start == run.start_ns:
                cost -= _SENTENCE_BONUS_NS
            if best is None or cost < best_cost:
                best, best_cost = start, cost
            if not self._matches:
                break
        if best is None:
            return max(self._floor_ns, made_ns - self._lag_ns)
        step = _LAG_STEP if self._matches else 1.0
        self._lag_ns += round(step * (made_ns - best - self._lag_ns))
        self._matches += 1
        return best

    def _end(self, start_ns: int, duration_ns: int, closes: bool) -> int:
        end = start_ns + duration_ns
        for run in self._runs:
            if run.start_ns <= start_ns < run.end_ns:
                if self._over(run) and (end > run.end_ns or (closes and run.end_ns - end <= _TAIL_NS)):
                    return run.end_ns
        return end

    # what is dealt with

    def unspoken_ns(self, quiet_ns: int) -> tuple[int, int] | None:
        """The source that is not dealt with, from its start to what was sent; None where there is none.

        ``quiet_ns``: for how long the output has been silent.
        """
        if self._sent_until_ns is None or self._floor_ns is None:
            return None
        settled = quiet_ns >= self.settings.settled_s * NS_PER_S
        while self._runs:
            run = self._runs[0]
            start = max(run.start_ns, self._floor_ns)
            over = self._over(run)
            touched = self._floor_ns > run.start_ns
            if start >= run.end_ns and over:
                self._runs.popleft()
            elif touched and over and settled:
                self._floor_ns = max(self._floor_ns, run.end_ns)
                self._runs.popleft()
            elif not self._said_something(run) and self._sent_until_ns - start > self.settings.no_speech_s * NS_PER_S:
                if not over:
                    self._floor_ns = self._sent_until_ns - round(self.settings.no_speech_s * NS_PER_S)
                    break
                self._runs.popleft()
            else:
                break
        if not self._runs:
            return None
        start = max(self._runs[0].start_ns, self._floor_ns)
        return (start, self._sent_until_ns) if start < self._runs[0].end_ns else None

    def _said_something(self, run: _Run) -> bool:
        return self._last_text_ns > max(run.start_ns, self._floor_ns or 0)

    def give_up(self) -> tuple[int, int] | None:
        """The source that waited too long and will not be dubbed; it is dealt with from now on."""
        unspoken = self.unspoken_ns(0)
        if unspoken is None or self._floor_ns is None:
            return None
        end = min(unspoken[1] - round(self.settings.give_up_s * NS_PER_S), self._runs[0].end_ns)
        if unspoken[0] >= end:
            return None
        self._floor_ns = max(self._floor_ns, end)
        return unspoken[0], end

    def progress_ns(self, quiet_ns: int) -> int | None:
        """All source before this is dealt with: it was spoken or it was no speech. A span never begins before it.

        Not to be asked while the output speaks: what it speaks is not dealt with before its span is known.
        """
        if self._sent_until_ns is None or self._floor_ns is None:
            return None
        unspoken = self.unspoken_ns(quiet_ns)
        # a little behind what was sent: the next sound may speak something too quiet to be noticed here
        until = unspoken[0] if unspoken else self._sent_until_ns - 2 * _LEAST_LAG_NS
        self._floor_ns = max(self._floor_ns, until)
        return self._floor_ns

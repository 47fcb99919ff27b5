"""One session of the offline chain: sound in, dubbed clauses out.

VAD finds speech, the recogniser decodes it as it comes, the commit policy (:mod:`babelcast.sts.clauses`) says when a
clause is complete; then it is translated, spoken and fitted. No sockets, no clock but for statistics:
what is spoken depends on the samples alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from babelcast.errors import SpeechError
from babelcast.sts.asr.base import Recognizer, Word
from babelcast.sts.clauses import ClauseSettings, hard_cut, pause_ends, soft_cut
from babelcast.sts.denoise import Denoiser
from babelcast.sts.engine import Output, Spoken
from babelcast.sts.plausible import plausible, speech_enough
from babelcast.sts.speakers import Speaker, Speakers, samples_of
from babelcast.sts.text import believable, ends_sentence, is_question, source_text
from babelcast.sts.tts.base import Gender
from babelcast.sts.vad import CHUNK, CHUNK_BYTES, CHUNK_MS, RATE, SpeechGate, Vad
from babelcast.units import NS_PER_MS, NS_PER_S, samples_to_ns
from babelcast.wire import Partial, Progress, Segment, StageTimes, Start

if TYPE_CHECKING:
    from babelcast.sts.chain import Rendered

_CHUNK_NS = samples_to_ns(CHUNK, RATE)
_PREROLL = 6
"""Chunks before the onset that the recogniser hears too."""
_POLL = 6
"""Chunks between looks at the partial result."""
_PARTIAL = 16
"""Chunks between Partial messages."""
_PROGRESS_NS = 100 * NS_PER_MS
_MAX_GAP_NS = 40 * NS_PER_MS
"""A hole in the source times beyond this ends the clause and starts the timeline anew."""
_BREATH_S = 0.15
"""A dub may run this long into the pause behind its source."""
_MIN_TARGET = 0.7
"""However late the dub already runs, a clause is never asked to fit less than this share of its source."""


@dataclass(slots=True)
class _Clause:
    """The clause in progress. Chunk numbers count on the session's present timeline."""

    onset: int
    fed_from: int
    """Chunk of the first sample that the recogniser heard."""
    again: int = 0
    """Chunks at ``fed_from`` that are words of the clause before, heard once more: they say something of the next."""
    audio: list[bytes] = field(default_factory=list)
    speech: int = 0
    """Chunks with speech in them."""
    before_ms: int = 0
    """How much of its sentence was spoken already, where it begins in the middle of one that was cut."""
    asr_s: float = 0.0
    vad_s: float = 0.0

    @property
    def heard_ms(self) -> int:
        return (len(self.audio) - self.again) * CHUNK_MS

    def own(self, words: Sequence[Word]) -> list[Word]:
        """What the recogniser heard, without the words of the clause before, in ms since ``fed_from + again``."""
        past_ms = self.again * CHUNK_MS
        return [
            replace(word, start_ms=max(0, word.start_ms - past_ms), end_ms=word.end_ms - past_ms)
            for word in words
            if word.start_ms + word.end_ms >= 2 * past_ms
        ]

    def chunk_of(self, place_ms: int) -> int:
        """The chunk of a place in the clause's own words."""
        return self.fed_from + self.again + round(place_ms / CHUNK_MS)


class Target(Protocol):
    """One target language: see :class:`babelcast.sts.chain.TargetChain`."""

    @property
    def language(self) -> str: ...

    @property
    def voice(self) -> str: ...

    def voice_of(self, speaker: int, gender: Gender | None = None) -> str: ...

    def render(
        self,
        transcript: str,
        *,
        begins: bool = True,
        ends: bool,
        question: bool = False,
        target_s: float | None = None,
        voice: str | None = None,
        source: str | None = None,
    ) -> Rendered: ...


@dataclass(slots=True)
class _Dub:
    """One target language and where its dub ends on air, each clause spoken at its source."""

    target: Target
    end_ns: int = 0


class DubSession:
    """See :class:`babelcast.sts.engine.Session`. One recognition speaks in all of ``targets``. Owns
    ``recognizer`` and closes it. ``denoise``: the recogniser hears better behind the Wiener filter; ``lead_words``:
    words in front of a cut that it hears again with what comes behind."""

    def __init__(
        self,
        start: Start,
        session_id: str,
        *,
        vad: Vad,
        recognizer: Recognizer,
        targets: Sequence[Target],
        denoise: bool = True,
        lead_words: int = 0,
        settings: ClauseSettings | None = None,
    ) -> None:
        if start.sample_rate != RATE:
            raise SpeechError(f"the session needs {RATE} Hz", code="unsupported_format")
        self._start = start
        self._session_id = session_id
        self._vad = vad
        self._recognizer = recognizer
        self._dubs = [_Dub(target) for target in targets]
        self._threads = ThreadPoolExecutor(len(targets), "sts languages") if len(targets) > 1 else None
        self._denoise = denoise
        self._lead_words = lead_words
        self._settings = settings or ClauseSettings.up_to(start.max_segment_ms)
        self._speakers = None if start.voice else Speakers()
        self._sequence = start.resume.next_sequence if start.resume else 0
        self._spoken_until_ns = start.resume.answered_until_ns if start.resume else None
        """What a session before this one has said up to; a clause that ends there is not said again."""
        self._progress_ns: int | None = None
        self._reset(0)

    def _reset(self, base_ns: int) -> None:
        self._base_ns = base_ns
        self._rest = b""
        self._gate = SpeechGate()
        self._vad.reset()
        self._denoiser = Denoiser() if self._denoise else None
        self._preroll: list[bytes] = []
        self._clause: _Clause | None = None
        self._partial_text = ""

    def push(self, source_ns: int, pcm: bytes) -> list[Output]:
        out: list[Output] = []
        expected = self._time(self._gate.position) + samples_to_ns(len(self._rest) // 2, RATE)
        if self._progress_ns is None:
            self._reset(source_ns)
            self._progress_ns = source_ns
        elif abs(source_ns - expected) > _MAX_GAP_NS:
            out += self._flush()
            self._reset(source_ns)
            self._progress_ns = max(source_ns, self._progress_ns)
        data = self._rest + pcm
        whole = len(data) // CHUNK_BYTES * CHUNK_BYTES
        self._rest = data[whole:]
        for place in range(0, whole, CHUNK_BYTES):
            out += self._chunk(data[place : place + CHUNK_BYTES])
        out += self._progress()
        return out

    def finish(self) -> list[Output]:
        out = self._flush()
        if self._progress_ns is not None:
            out.append(Progress(processed_until_ns=self._time(self._gate.position)))
        return out

    def close(self) -> None:
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._recognizer.close()

    def _time(self, chunk: int) -> int:
        return self._base_ns + chunk * _CHUNK_NS

    def _chunk(self, raw: bytes) -> Iterable[Output]:
        began = time.perf_counter()
        self._gate.push(self._vad.probability(raw))
        clean = self._denoiser.push(raw, speech=not self._gate.quiet) if self._denoiser else raw
        vad_s = time.perf_counter() - began
        self._preroll = [*self._preroll[-(_PREROLL + 6) :], clean]
        if self._clause is None:
            if self._gate.onset is not None:
                self._begin(self._gate.onset)
            return []
        self._clause.vad_s += vad_s
        self._clause.speech += self._gate.pause == 0
        self._clause.audio.append(clean)
        self._feed([clean])
        return self._decide(self._clause)

    def _begin(self, onset: int) -> None:
        fed_from = max(onset - _PREROLL, self._gate.position - len(self._preroll), 0)
        audio = self._preroll[len(self._preroll) - (self._gate.position - fed_from) :]
        self._clause = _Clause(onset, fed_from, audio=list(audio), speech=self._gate.position - onset)
        self._recognizer.start()
        self._feed(audio)

    def _feed(self, audio: Sequence[bytes]) -> None:
        began = time.perf_counter()
        self._recognizer.feed(b"".join(audio))
        if self._clause:
            self._clause.asr_s += time.perf_counter() - began

    def _decide(self, clause: _Clause) -> Iterable[Output]:
        gate, settings = self._gate, self._settings
        elapsed_ms = (gate.position - clause.onset) * CHUNK_MS
        pause_ms = gate.pause * CHUNK_MS
        if pause_ms and pause_ends(settings, clause.before_ms + elapsed_ms - pause_ms, pause_ms):
            return self._end(clause)
        if elapsed_ms >= settings.max_clause_ms:
            return self._cut(clause, None)
        if (gate.position - clause.onset) % _POLL == 0 and elapsed_ms >= settings.min_clause_ms:
            place = soft_cut(settings, clause.own(self._recognizer.partial()), clause.heard_ms)
            if place is not None:
                return self._cut(clause, place)
        if (gate.position - clause.onset) % _PARTIAL == 0:
            return self._partial(clause)
        return []

    def _partial(self, clause: _Clause) -> list[Output]:
        text = source_text(clause.own(self._recognizer.partial()))
        if not text or text == self._partial_text:
            return []
        self._partial_text = text
        start, end = self._time(clause.onset), self._time(self._gate.position)
        return [Partial(source_start_ns=start, source_end_ns=end, transcript=text)]

    def _flush(self) -> list[Output]:
        return self._end(self._clause) if self._clause else []

    def _end(self, clause: _Clause) -> list[Output]:
        """The clause ended in a pause (or the sound did): speak all of it."""
        last = self._gate.position - self._gate.pause
        began = time.perf_counter()
        words = clause.own(self._recognizer.finish())
        clause.asr_s += time.perf_counter() - began
        self._clause = None
        self._gate.end()
        self._preroll = self._preroll[-2:]  # the tail of this clause must not be heard twice
        return self._speak(clause, words, last, ends=True)

    def _cut(self, clause: _Clause, place_ms: int | None) -> list[Output]:
        """Speak the clause up to a word boundary and hear the rest again as the next clause.

        ``place_ms`` is a boundary of the partial result; the final one may differ a little, so the nearest of
        its boundaries is taken.
        """
        began = time.perf_counter()
        words = clause.own(self._recognizer.finish())
        clause.asr_s += time.perf_counter() - began
        if place_ms is None:
            place_ms = hard_cut(self._settings, words, clause.heard_ms)
        else:
            place_ms = nearest(place_ms, [word.start_ms for word in words[1:]])
        first = [word for word in words if place_ms is None or word.start_ms < place_ms]
        place = self._gate.position if place_ms is None else clause.chunk_of(place_ms)
        lead = first[-self._lead_words :] if self._lead_words else []
        again = place - clause.chunk_of(lead[0].start_ms) if lead and place_ms is not None else 0
        kept = clause.audio[place - again - clause.fed_from :]
        # a recogniser that writes stops says where the sentence ended
        before_ms = 0 if ends_sentence(first) else clause.before_ms + (place - clause.onset) * CHUNK_MS
        self._clause = _Clause(place, place - again, again, list(kept), speech=len(kept) - again, before_ms=before_ms)
        self._recognizer.start()
        self._feed(kept)
        return self._speak(clause, first, place, ends=ends_sentence(first))

    def _speak(self, clause: _Clause, words: list[Word], end: int, *, ends: bool) -> list[Output]:
        """Translate, say and fit ``words`` in every language; nothing where they are not to be believed."""
        start_ns, end_ns = self._time(clause.onset), self._time(end)
        self._partial_text = ""
        if not speech_enough(clause.speech * CHUNK_MS, len(words)) or not believable(words):
            return []
        if self._spoken_until_ns is not None and end_ns <= self._spoken_until_ns:
            return []
        transcript = source_text(words)
        question = ends and not clause.before_ms and is_question(transcript)
        speaker = self._speaker(clause, end)

        def render(dub: _Dub) -> Rendered:
            return dub.target.render(
                transcript,
                begins=not clause.before_ms,
                ends=ends,
                question=question,
                target_s=target_s(start_ns, end_ns, dub.end_ns),
                voice=self._voice(dub.target, speaker),
                source=self._recognizer.language,
            )

        out: list[Output] = []
        # all at once, so that the last language is not later than the first one
        rendering = self._threads.map(render, self._dubs) if self._threads else map(render, self._dubs)
        for dub, rendered in zip(self._dubs, rendering, strict=True):
            if rendered.speech is None or not plausible(transcript, rendered.translation):
                continue
            dub.end_ns = max(start_ns, dub.end_ns) + round(rendered.speech.duration_s * NS_PER_S)
            out.append(self._segment(clause, dub.target, rendered, transcript, (start_ns, end_ns), speaker))
        return out

    def _segment(
        self,
        clause: _Clause,
        target: Target,
        rendered: Rendered,
        transcript: str,
        span_ns: tuple[int, int],
        speaker: Speaker | None,
    ) -> Spoken:
        assert rendered.speech is not None
        speech, sequence = rendered.speech, self._sequence
        self._sequence += 1
        times = {
            "vad_ms": clause.vad_s * 1e3,
            "asr_ms": clause.asr_s * 1e3,
            "mt_ms": rendered.mt_ms,
            "tts_ms": rendered.tts_ms,
        }
        message = Segment(
            segment_id=f"{self._session_id}-{sequence}",
            sequence=sequence,
            source_start_ns=span_ns[0],
            source_end_ns=span_ns[1],
            transcript=transcript,
            translation=rendered.translation,
            voice=speech.voice,
            sample_rate=speech.rate,
            samples=len(speech.samples),
            stages=StageTimes(**times, total_ms=sum(times.values())),
            language=target.language,
            speaker=speaker.number if speaker else None,
        )
        return Spoken(message, np.asarray(speech.samples, np.float32))

    def _speaker(self, clause: _Clause, end: int) -> Speaker | None:
        if self._speakers is None:
            return None
        return self._speakers.hear(
            samples_of(clause.audio[max(0, clause.onset - clause.fed_from) : end - clause.fed_from])
        )

    @staticmethod
    def _voice(target: Target, speaker: Speaker | None) -> str:
        """Nobody but one whose gender is heard gets another voice than the session's own."""
        if speaker is None or (speaker.gender is None and speaker.rank == 0):
            return target.voice
        return target.voice_of(speaker.rank, speaker.gender)

    def _progress(self) -> list[Output]:
        done = self._time(self._clause.onset if self._clause else self._gate.quiet_until)
        if self._progress_ns is None or done < self._progress_ns + _PROGRESS_NS:
            return []
        self._progress_ns = done
        return [Progress(processed_until_ns=done)]


def target_s(start_ns: int, end_ns: int, dub_end_ns: int) -> float:
    """How long a dub should be: its source and a breath, less what the dub before runs over."""
    span_s = (end_ns - start_ns) / NS_PER_S
    late_s = max(0, dub_end_ns - start_ns) / NS_PER_S
    return max(_MIN_TARGET * span_s, span_s + _BREATH_S - late_s)


def nearest(place_ms: int, boundaries: Sequence[int]) -> int:
    """The boundary nearest to ``place_ms``; itself where there is none."""
    return min(boundaries, key=lambda boundary: abs(boundary - place_ms), default=place_ms)

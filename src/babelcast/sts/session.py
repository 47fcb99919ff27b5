"""One session of the offline chain: sound in, dubbed clauses out.

VAD finds speech, the recogniser decodes it as it comes, the commit policy (:mod:`babelcast.sts.clauses`) says when a
clause is complete; then it is translated, spoken and fitted. No sockets, no threads, no clock but for statistics:
what is spoken depends on the samples alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from babelcast.errors import SpeechError
from babelcast.sts.asr.base import Recognizer, Word
from babelcast.sts.clauses import ClauseSettings, hard_cut, pause_ends, soft_cut
from babelcast.sts.denoise import Denoiser
from babelcast.sts.engine import Output, Spoken
from babelcast.sts.mt.base import Translator
from babelcast.sts.text import believable, is_question, source_text, spoken_text
from babelcast.sts.tts.base import Synthesizer
from babelcast.sts.vad import CHUNK, CHUNK_BYTES, CHUNK_MS, RATE, SpeechGate, Vad
from babelcast.units import NS_PER_MS, NS_PER_S, samples_to_ns
from babelcast.wire import Partial, Progress, Segment, StageTimes, Start

_CHUNK_NS = samples_to_ns(CHUNK, RATE)
_PREROLL = 6
"""Chunks before the onset that the recogniser hears too."""
_POLL = 6
"""Chunks between looks at the partial result."""
_PARTIAL = 16
"""Chunks between Partial messages."""
_PROGRESS_NS = 100 * NS_PER_MS
_MIN_SPEECH_MS = 160
"""Less speech than this in a clause is a click, a cough or a drum."""
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
    audio: list[bytes] = field(default_factory=list)
    speech: int = 0
    """Chunks with speech in them."""
    before_ms: int = 0
    """How much of its sentence was spoken already, where it begins in the middle of one that was cut."""
    asr_s: float = 0.0
    vad_s: float = 0.0


class DubSession:
    """See :class:`babelcast.sts.engine.Session`. Owns ``recognizer`` and closes it."""

    def __init__(
        self,
        start: Start,
        session_id: str,
        voice: str,
        *,
        vad: Vad,
        recognizer: Recognizer,
        translator: Translator,
        synthesizer: Synthesizer,
        settings: ClauseSettings | None = None,
    ) -> None:
        if start.sample_rate != RATE:
            raise SpeechError(f"the session needs {RATE} Hz", code="unsupported_format")
        self._start = start
        self._session_id = session_id
        self._voice = voice
        self._vad = vad
        self._recognizer = recognizer
        self._translator = translator
        self._synthesizer = synthesizer
        self._settings = settings or ClauseSettings.up_to(start.max_segment_ms)
        self._sequence = 0
        self._dub_end_ns = 0
        self._progress_ns: int | None = None
        self._reset(0)

    def _reset(self, base_ns: int) -> None:
        self._base_ns = base_ns
        self._rest = b""
        self._gate = SpeechGate()
        self._vad.reset()
        self._denoiser = Denoiser()
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
        self._recognizer.close()

    def _time(self, chunk: int) -> int:
        return self._base_ns + chunk * _CHUNK_NS

    def _chunk(self, raw: bytes) -> Iterable[Output]:
        began = time.perf_counter()
        self._gate.push(self._vad.probability(raw))
        clean = self._denoiser.push(raw, speech=not self._gate.quiet)
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
        self._clause = _Clause(onset, fed_from, list(audio), speech=self._gate.position - onset)
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
            place = soft_cut(settings, self._recognizer.partial(), self._heard_ms(clause))
            if place is not None:
                return self._cut(clause, place)
        if (gate.position - clause.onset) % _PARTIAL == 0:
            return self._partial(clause)
        return []

    def _heard_ms(self, clause: _Clause) -> int:
        return len(clause.audio) * CHUNK_MS

    def _partial(self, clause: _Clause) -> list[Output]:
        text = source_text(self._recognizer.partial())
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
        words = self._recognizer.finish()
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
        words = self._recognizer.finish()
        clause.asr_s += time.perf_counter() - began
        if place_ms is None:
            place_ms = hard_cut(self._settings, words, self._heard_ms(clause))
        else:
            place_ms = nearest(place_ms, [word.start_ms for word in words[1:]])
        first = [word for word in words if place_ms is None or word.start_ms < place_ms]
        place = self._gate.position if place_ms is None else clause.fed_from + round(place_ms / CHUNK_MS)
        kept = clause.audio[place - clause.fed_from :]
        before_ms = clause.before_ms + (place - clause.onset) * CHUNK_MS
        after = _Clause(place, place, list(kept), speech=len(kept), before_ms=before_ms)
        self._clause = after
        self._recognizer.start()
        self._feed(kept)
        return self._speak(clause, first, place, ends=False)

    def _speak(self, clause: _Clause, words: list[Word], end: int, *, ends: bool) -> list[Output]:
        """Translate, say and fit ``words``; nothing where they are not to be believed."""
        start_ns, end_ns = self._time(clause.onset), self._time(end)
        self._partial_text = ""
        if clause.speech * CHUNK_MS < _MIN_SPEECH_MS or not believable(words):
            return []
        times = [time.perf_counter()]
        transcript = source_text(words)
        translation = self._translator.translate(transcript, self._start.source_language, self._start.target_language)
        question = ends and not clause.before_ms and is_question(transcript)
        text = spoken_text(translation, self._start.target_language, ends=ends, question=question)
        times.append(time.perf_counter())
        if not text:
            return []
        speech = self._synthesizer.speak(text, self._voice, self._target_s(start_ns, end_ns))
        times.append(time.perf_counter())
        if not len(speech.samples):
            return []
        self._dub_end_ns = max(start_ns, self._dub_end_ns) + round(speech.duration_s * NS_PER_S)
        mt_ms, tts_ms = ((after - before) * 1e3 for before, after in pairwise(times))
        asr_ms, vad_ms = clause.asr_s * 1e3, clause.vad_s * 1e3
        message = Segment(
            segment_id=f"{self._session_id}-{self._sequence}",
            sequence=self._sequence,
            source_start_ns=start_ns,
            source_end_ns=end_ns,
            transcript=transcript,
            translation=text,
            voice=speech.voice,
            sample_rate=speech.rate,
            samples=len(speech.samples),
            stages=StageTimes(
                vad_ms=vad_ms, asr_ms=asr_ms, mt_ms=mt_ms, tts_ms=tts_ms, total_ms=vad_ms + asr_ms + mt_ms + tts_ms
            ),
        )
        self._sequence += 1
        return [Spoken(message, np.asarray(speech.samples, np.float32))]

    def _target_s(self, start_ns: int, end_ns: int) -> float:
        """How long the dub should be: its source and a breath, less what the dub before runs over."""
        span_s = (end_ns - start_ns) / NS_PER_S
        late_s = max(0, self._dub_end_ns - start_ns) / NS_PER_S
        return max(_MIN_TARGET * span_s, span_s + _BREATH_S - late_s)

    def _progress(self) -> list[Output]:
        done = self._time(self._clause.onset if self._clause else self._gate.quiet_until)
        if self._progress_ns is None or done < self._progress_ns + _PROGRESS_NS:
            return []
        self._progress_ns = done
        return [Progress(processed_until_ns=done)]


def nearest(place_ms: int, boundaries: Sequence[int]) -> int:
    """The boundary nearest to ``place_ms``; itself where there is none."""
    return min(boundaries, key=lambda boundary: abs(boundary - place_ms), default=place_ms)

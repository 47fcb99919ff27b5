"""Recognition, translation and synthesis joined: loaded once, shared by all sessions.

One recognition can serve several target languages: :meth:`ChainEngine.recognizer` hears, and each
:class:`TargetChain` says what was heard in its language.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import soxr

from babelcast.errors import SpeechError, UnsupportedLanguageError
from babelcast.sts.asr.base import AsrEngine, AsrOptions, Recognizer, Word
from babelcast.sts.batching import BatchStats
from babelcast.sts.denoise import WINDOW, Denoiser
from babelcast.sts.engine import FragmentResult, SaidResult
from babelcast.sts.mt.base import Term, Translator, primary
from babelcast.sts.mt.hold import HoldingTranslator
from babelcast.sts.session import DubSession
from babelcast.sts.text import believable, source_text, spoken_text
from babelcast.sts.tts.base import Gender, Speech, Synthesizer
from babelcast.sts.vad import CHUNK, CHUNK_BYTES, RATE, SileroVad, SpeechGate, Vad
from babelcast.units import Pcm
from babelcast.wire import UNDETERMINED, Language, StageTimes, Start, Voice

log = logging.getLogger(__name__)

_FADE_S = 0.02
_MIN_SPEECH_CHUNKS = 5


@dataclass(frozen=True, slots=True)
class Rendered:
    """A clause in one target language; ``speech`` is empty where there is nothing to say."""

    translation: str
    speech: Speech | None
    mt_ms: float
    tts_ms: float


class TargetChain:
    """One target language of a session. Holds nothing that must be freed; safe to call from several threads."""

    def __init__(self, source: str, language: str, voice: str, translator: Translator, tts: Synthesizer) -> None:
        self.source, self.language, self.voice = source, language, voice
        self._translator, self._tts = translator, tts
        self._pairs = frozenset(translator.pairs)

    def voice_of(self, speaker: int, gender: Gender | None = None) -> str:
        """The voice of the ``speaker``-th person of the programme (0: the session's own voice, as far as it fits)."""
        return self._tts.pick(self.language, speaker, gender)

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
    ) -> Rendered:
        """Translate and say a clause. ``begins``, ``ends``: a sentence does with it; ``target_s``: how long it should
        be; ``source``: what is spoken, where it was detected. Raises SpeechError, UnsupportedLanguageError."""
        times = [time.perf_counter()]
        translation = self._translated(transcript, source or self.source)
        text = spoken_text(translation, self.language, begins=begins, ends=ends, question=question)
        times.append(time.perf_counter())
        speech = self._tts.speak(text, voice or self.voice, target_s) if text else None
        times.append(time.perf_counter())
        mt_ms, tts_ms = ((after - before) * 1e3 for before, after in pairwise(times))
        return Rendered(text, speech if speech and len(speech.samples) else None, mt_ms, tts_ms)

    def _translated(self, transcript: str, source: str) -> str:
        """As it is where the target language is spoken already; nothing where a language was detected that can't be
        translated: a wrong guess must not end the session."""
        if self.source == UNDETERMINED:
            if primary(source) == primary(self.language):
                return transcript
            if (primary(source), primary(self.language)) not in self._pairs:
                log.info("nothing is dubbed from %s to %s", source, self.language)
                return ""
        return self._translator.translate(transcript, source, self.language)


class ChainEngine:
    """See :class:`babelcast.sts.engine.Engine`. Owns its three engines. ``terms`` are the glossary of the service."""

    def __init__(
        self,
        asr: AsrEngine,
        translator: Translator,
        synthesizer: Synthesizer,
        *,
        terms: Sequence[Term] = (),
        vad: Callable[[], Vad] = SileroVad,
        batches: Sequence[BatchStats] = (),
    ) -> None:
        self._asr = asr
        self._translator = translator
        self._synthesizer = synthesizer
        self._terms = tuple(terms)
        self._vad = vad
        self.batches = tuple(batches)
        self._preloading = threading.Lock()

    @property
    def stages(self) -> tuple[str, str, str]:
        return self._asr.name, self._translator.name, self._synthesizer.name

    @property
    def languages(self) -> tuple[Language, ...]:
        spoken = {primary(voice.language) for voice in self._synthesizer.voices}
        understood = set(self._asr.languages)
        return tuple(
            Language(source=source, target=target)
            for source, target in self._translator.pairs
            if source in understood and target in spoken
        )

    @property
    def voices(self) -> tuple[Voice, ...]:
        targets = {language.target for language in self.languages}
        return tuple(voice for voice in self._synthesizer.voices if primary(voice.language) in targets)

    def preload(self) -> None:
        with self._preloading:
            self._asr.preload()
            for language in self.languages:
                self._translator.preload(language.source, language.target)
            self._synthesizer.preload()

    def resolve_voice(self, source: str, target: str, voice: str | None) -> str:
        pairs = {(language.source, language.target) for language in self.languages}
        known = {primary(target) for _, target in pairs} if source == UNDETERMINED else set()
        if (primary(source), primary(target)) not in pairs and primary(target) not in known:
            here = sorted(" to ".join(pair) for pair in pairs)
            raise UnsupportedLanguageError(
                f"speech can't be dubbed from {source} to {target} here",
                code="unsupported_language",
                hint="installed: " + ", ".join(here[:30]) + (" …" if len(here) > 30 else ""),
            )
        return self._synthesizer.resolve(target, voice)

    def recognizer(self, source: str, terms: Sequence[Term] = ()) -> Recognizer:
        """A session's ears; ``source`` ``und`` detects the language. The caller closes it (or :meth:`recycle`)."""
        hints = dict.fromkeys(term.source for term in (*terms, *self._terms))
        return self._asr.open(AsrOptions(None if source == UNDETERMINED else source, tuple(hints)))

    def recycle(self, recognizer: Recognizer) -> None:
        self._asr.recycle(recognizer)

    def target(self, source: str, language: str, voice: str | None = None, terms: Sequence[Term] = ()) -> TargetChain:
        """One target language of a session. ``terms`` go before the service's own. Raises UnsupportedLanguageError."""
        resolved = self.resolve_voice(source, language, voice)
        return TargetChain(source, language, resolved, self._holding(terms), self._synthesizer)

    def _holding(self, terms: Sequence[Term]) -> Translator:
        own = {term.source.casefold() for term in terms}
        return HoldingTranslator(
            self._translator, (*terms, *(term for term in self._terms if term.source.casefold() not in own))
        )

    def open(self, start: Start, session_id: str) -> DubSession:
        if start.sample_rate != RATE:  # before a recogniser is taken
            raise SpeechError(f"the session needs {RATE} Hz", code="unsupported_format")
        terms = [
            Term(term.source, {tag.lower(): word for tag, word in term.targets.items()}) for term in start.glossary
        ]
        targets = [self.target(start.source_language, tag, start.voice, terms) for tag in start.targets]
        return DubSession(
            start,
            session_id,
            vad=self._vad(),
            recognizer=self.recognizer(start.source_language, terms),
            targets=targets,
            denoise=self._asr.wants_denoised,
            lead_words=self._asr.lead_words,
        )

    def process(
        self, samples: Pcm, rate: int, source: str, target: str, voice: str | None, sequence: int
    ) -> FragmentResult:
        began = time.perf_counter()
        chain = self.target(source, target, voice)
        silence = np.zeros(len(samples), np.float32)
        pcm = (soxr.resample(samples, rate, RATE).clip(-1, 1) * 32767).astype("<i2").tobytes()
        speech, clean = hear(pcm, self._vad(), denoise=self._asr.wants_denoised)
        times = [began, time.perf_counter()]
        if speech is None:
            return FragmentResult(silence, "", "", _stages(times))
        words, spoken = self._recognize(clean, source)
        times.append(time.perf_counter())
        if not believable(words):
            return FragmentResult(silence, "", "", _stages(times))
        transcript = source_text(words)
        first, last = speech
        rendered = chain.render(transcript, ends=False, target_s=(last - first) * CHUNK / RATE, source=spoken)
        times += [times[-1] + rendered.mt_ms / 1e3, times[-1] + (rendered.mt_ms + rendered.tts_ms) / 1e3]
        if rendered.speech is None:
            return FragmentResult(silence, transcript, rendered.translation, _stages(times))
        dub = soxr.resample(rendered.speech.samples, rendered.speech.rate, rate)
        placed = place(dub, first * CHUNK * rate // RATE, len(samples), rate)
        times.append(time.perf_counter())
        return FragmentResult(placed, transcript, rendered.translation, _stages(times))

    def say(self, text: str, language: str, voice: str | None) -> SaidResult:
        began = time.perf_counter()
        resolved = self._synthesizer.resolve(language, voice)
        said = " ".join(text.split())
        if not any(character.isalnum() for character in said):
            raise SpeechError("there is nothing to say in the text", code="bad_request")
        speech = self._synthesizer.speak(said if said[-1] in ".!?…" else f"{said}.", resolved)
        spent_ms = (time.perf_counter() - began) * 1e3
        stages = StageTimes(tts_ms=spent_ms, total_ms=spent_ms)
        return SaidResult(speech.samples, speech.rate, resolved, stages)

    def _recognize(self, pcm: bytes, source: str) -> tuple[list[Word], str | None]:
        """Its words, and the language that they are in."""
        recognizer = self.recognizer(source)
        try:
            recognizer.start()
            recognizer.feed(pcm)
            return recognizer.finish(), recognizer.language
        finally:
            self.recycle(recognizer)

    def close(self) -> None:
        self._asr.close()
        self._translator.close()
        self._synthesizer.close()


def hear(pcm: bytes, vad: Vad | None = None, *, denoise: bool = True) -> tuple[tuple[int, int] | None, bytes]:
    """The span with speech in chunks (None: there is none), and the sound, cleaned where the recogniser wants that."""
    vad, gate, denoiser = vad or SileroVad(), SpeechGate(), Denoiser() if denoise else None
    pcm += bytes(-len(pcm) % CHUNK_BYTES + CHUNK_BYTES * (WINDOW // CHUNK))  # what the filter holds back comes out
    spoken: list[int] = []
    clean = []
    for start in range(0, len(pcm), CHUNK_BYTES):
        gate.push(vad.probability(pcm[start : start + CHUNK_BYTES]))
        if gate.onset is not None and gate.pause == 0:
            spoken = spoken or list(range(gate.onset, gate.position - 1))
            spoken.append(gate.position - 1)
        chunk = pcm[start : start + CHUNK_BYTES]
        clean.append(denoiser.push(chunk, speech=not gate.quiet) if denoiser else chunk)
    if len(spoken) < _MIN_SPEECH_CHUNKS:
        return None, b""
    return (spoken[0], spoken[-1] + 1), b"".join(clean)


def place(speech: Pcm, start: int, length: int, rate: int) -> Pcm:
    """``speech`` in ``length`` samples of silence, at ``start`` or as much before as it needs; what does not fit
    is faded out."""
    out = np.zeros(length, np.float32)
    start = max(0, min(start, length - len(speech)))
    fitting = speech[: length - start].astype(np.float32)
    if len(fitting) < len(speech):
        fade = min(int(_FADE_S * rate), len(fitting))
        fitting[len(fitting) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    out[start : start + len(fitting)] = fitting
    return out


def _stages(times: list[float]) -> StageTimes:
    names = ("vad_ms", "asr_ms", "mt_ms", "tts_ms", "fit_ms")
    spent = {name: (after - before) * 1e3 for name, (before, after) in zip(names, pairwise(times), strict=False)}
    return StageTimes(**spent, total_ms=(times[-1] - times[0]) * 1e3)

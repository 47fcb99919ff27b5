"""The engine that needs no model download and no network: Silero VAD → pocketsphinx → apertium → espeak-ng."""

from __future__ import annotations

import logging
import threading
import time
from itertools import pairwise

import numpy as np
import soxr

from babelcast.errors import UnsupportedLanguageError
from babelcast.sts.asr.base import Word
from babelcast.sts.asr.pocketsphinx import PocketsphinxEngine
from babelcast.sts.denoise import WINDOW, Denoiser
from babelcast.sts.engine import FragmentResult
from babelcast.sts.mt.apertium import ApertiumTranslator
from babelcast.sts.session import DubSession
from babelcast.sts.text import believable, source_text, spoken_text
from babelcast.sts.tts.espeak import EspeakSynthesizer
from babelcast.sts.vad import CHUNK, CHUNK_BYTES, RATE, SileroVad, SpeechGate
from babelcast.units import Pcm
from babelcast.wire import Language, StageTimes, Start, Voice

log = logging.getLogger(__name__)

_FADE_S = 0.02
_MIN_SPEECH_CHUNKS = 5


class OfflineEngine:
    """See :class:`babelcast.sts.engine.Engine`. ``spares`` recognisers (135 MB each) are kept loaded."""

    def __init__(self, spares: int = 1) -> None:
        self._asr = PocketsphinxEngine(spares)
        self._translator = ApertiumTranslator()
        self._synthesizer = EspeakSynthesizer()
        self._preloading = threading.Lock()

    @property
    def stages(self) -> tuple[str, str, str]:
        return self._asr.name, self._translator.name, self._synthesizer.name

    @property
    def languages(self) -> tuple[Language, ...]:
        spoken = {voice.language.split("-")[0] for voice in self._synthesizer.voices}
        return tuple(
            Language(source=source, target=target)
            for source, target in self._translator.pairs
            if source in self._asr.languages and target in spoken
        )

    @property
    def voices(self) -> tuple[Voice, ...]:
        targets = {language.target for language in self.languages}
        return tuple(voice for voice in self._synthesizer.voices if voice.language.split("-")[0] in targets)

    def preload(self) -> None:
        with self._preloading:
            self._asr.preload()
            for language in self.languages:
                self._translator.preload(language.source, language.target)

    def resolve_voice(self, source: str, target: str, voice: str | None) -> str:
        pair = (source.split("-")[0].lower(), target.split("-")[0].lower())
        if pair not in {(language.source, language.target) for language in self.languages}:
            raise UnsupportedLanguageError(
                f"speech can't be dubbed from {source} to {target} here",
                code="unsupported_language",
                hint="installed: "
                + ", ".join(f"{language.source} to {language.target}" for language in self.languages),
            )
        return self._synthesizer.resolve(target, voice)

    def open(self, start: Start, session_id: str) -> DubSession:
        voice = self.resolve_voice(start.source_language, start.target_language, start.voice)
        return DubSession(
            start,
            session_id,
            voice,
            vad=SileroVad(),
            recognizer=self._asr.open(),
            translator=self._translator,
            synthesizer=self._synthesizer,
        )

    def process(
        self, samples: Pcm, rate: int, source: str, target: str, voice: str | None, sequence: int
    ) -> FragmentResult:
        began = time.perf_counter()
        resolved = self.resolve_voice(source, target, voice)
        silence = np.zeros(len(samples), np.float32)
        pcm = (soxr.resample(samples, rate, RATE).clip(-1, 1) * 32767).astype("<i2").tobytes()
        speech, clean = hear(pcm)
        times = [began, time.perf_counter()]
        if speech is None:
            return FragmentResult(silence, "", "", _stages(times))
        words = self._recognize(clean)
        times.append(time.perf_counter())
        if not believable(words):
            return FragmentResult(silence, "", "", _stages(times))
        transcript = source_text(words)
        translation = self._translator.translate(transcript, source, target)
        text = spoken_text(translation, target, ends=False)
        times.append(time.perf_counter())
        first, last = speech
        dub = self._synthesizer.speak(text, resolved, (last - first) * CHUNK / RATE)
        times.append(time.perf_counter())
        placed = place(soxr.resample(dub.samples, dub.rate, rate), first * CHUNK * rate // RATE, len(samples), rate)
        times.append(time.perf_counter())
        return FragmentResult(placed, transcript, text, _stages(times))

    def _recognize(self, pcm: bytes) -> list[Word]:
        recognizer = self._asr.open()
        try:
            recognizer.start()
            recognizer.feed(pcm)
            return recognizer.finish()
        finally:
            self._asr.give_back(recognizer)

    def close(self) -> None:
        self._asr.close()
        self._translator.close()
        self._synthesizer.close()


def hear(pcm: bytes) -> tuple[tuple[int, int] | None, bytes]:
    """The span with speech in chunks (None: there is none), and the sound cleaned for the recogniser."""
    vad, gate, denoiser = SileroVad(), SpeechGate(), Denoiser()
    pcm += bytes(-len(pcm) % CHUNK_BYTES + CHUNK_BYTES * (WINDOW // CHUNK))  # what the filter holds back comes out
    spoken: list[int] = []
    clean = []
    for start in range(0, len(pcm), CHUNK_BYTES):
        gate.push(vad.probability(pcm[start : start + CHUNK_BYTES]))
        if gate.onset is not None and gate.pause == 0:
            spoken = spoken or list(range(gate.onset, gate.position - 1))
            spoken.append(gate.position - 1)
        clean.append(denoiser.push(pcm[start : start + CHUNK_BYTES], speech=not gate.quiet))
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

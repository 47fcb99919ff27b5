"""Recognition in many languages with faster-whisper: passes over a sliding window, words final by local agreement.

The model is loaded once and decodes for all sessions, several in one batch
(:mod:`babelcast.sts.asr.whisper_model`). Whisper decodes a stretch of sound as a whole, so an utterance in
progress is decoded again every ``step_ms``; what two passes agree on is final (:mod:`babelcast.sts.asr.agreement`).
When the utterance outgrows the window, sound whose words are final is let go and its words become the prompt.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from babelcast.errors import MissingDependencyError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.models.cache import resolve
from babelcast.sts.asr.agreement import LocalAgreement
from babelcast.sts.asr.base import AsrOptions, Recognizer, Word
from babelcast.sts.asr.guards import Guards, too_fast, without_loops
from babelcast.sts.asr.whisper_model import Hypothesis, Pass, Request, WhisperPasses, load
from babelcast.sts.batching import Answers, BatchSettings, BatchStats, BlockingBatcher
from babelcast.sts.device import Compute
from babelcast.units import SPEECH_RATE

_MS = SPEECH_RATE // 1000
"""Samples of a millisecond."""
_PROMPT_CHARACTERS = 200
_CATCH_UP = 1.25
"""Sound between two passes at least, as a multiple of the time that a pass takes."""
_SURE = 0.7
"""A detected language with this probability is kept for the session."""
_DETECT_MS = 1_500
# tags whose primary part is not what Whisper calls the language
_CODES = {"nb": "no", "fil": "tl", "iw": "he", "in": "id", "cmn": "zh"}


@dataclass(frozen=True, slots=True)
class WhisperSettings:
    """``step_ms``: sound between two passes. ``window_ms``: longest stretch that is decoded at once. ``pad_s``: what
    the encoder sees, filled up with silence; Whisper is trained on 30, less is faster and may cost accuracy. 0 takes
    30 on a GPU, and on a CPU the window and a little."""

    step_ms: int = 800
    first_ms: int = 900
    """Sound before the first pass."""
    window_ms: int = 14_000
    pad_s: int = 0
    beam: int = 1
    final_beam: int = 3
    """Beam of the pass that ends an utterance."""
    batch: BatchSettings = field(default_factory=BatchSettings)
    """Passes of several sessions are decoded together."""
    guards: Guards = field(default_factory=Guards)


Decode = Callable[[Request], Hypothesis]


class WhisperRecognizer:
    """See :class:`babelcast.sts.asr.base.Recognizer`. What it says depends on the samples and their order, and on
    ``clock`` only where a pass takes longer than real time.

    ``decode`` is the engine's, or a script in tests.
    """

    def __init__(
        self,
        decode: Decode,
        options: AsrOptions,
        settings: WhisperSettings,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decode = decode
        self._clock = clock
        self._settings = settings
        self._hints = options.hints
        self._language = whisper_code(options.language) if options.language else None
        self._guess: str | None = None
        self._prompt = ""
        self._begin()

    @property
    def language(self) -> str | None:
        return self._language or self._guess

    def _begin(self) -> None:
        self._agreement = LocalAgreement()
        self._audio = np.zeros(0, np.float32)
        self._offset_ms = 0
        """Where the window begins in the utterance."""
        self._decoded = 0
        """Samples of the window at the last pass."""
        self._spent_ms = 0.0
        """Time that the last pass took, with its wait for a place in the engine."""
        self._let_go = ""
        """Final words whose sound is no longer in the window."""

    def start(self) -> None:
        self._begin()

    def feed(self, pcm: bytes) -> None:
        self._audio = np.concatenate([self._audio, np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)])
        settings = self._settings
        # where a pass takes longer than the sound between two of them, passes are left out instead of piling up
        step_ms = max(settings.step_ms, round(_CATCH_UP * self._spent_ms))
        due = self._decoded + step_ms * _MS if self._decoded else settings.first_ms * _MS
        if len(self._audio) >= due:
            self._agreement.push(self._pass(settings.beam))
            self._slide()

    def partial(self) -> list[Word]:
        return self._agreement.words

    def finish(self) -> list[Word]:
        if len(self._audio) > self._decoded:
            words = self._agreement.finish(self._pass(self._settings.final_beam))
        else:
            words = self._agreement.finish()
        if words:
            self._prompt = _end(" ".join(word.text for word in words))
        self._begin()
        return words

    def close(self) -> None:
        """The model is the engine's."""

    def _pass(self, beam: int) -> list[Word]:
        self._decoded = len(self._audio)
        prompt = _end(f"{self._prompt} {self._let_go}".strip())
        began = self._clock()
        found = self._decode(Request(self._audio, self._language, prompt, self._hints, beam))
        self._spent_ms = (self._clock() - began) * 1e3
        length_ms = len(self._audio) // _MS
        self._guess = found.language
        if self._language is None and found.certainty >= _SURE and length_ms >= _DETECT_MS:
            self._language = found.language
        words = without_loops(found.words, self._settings.guards)
        if too_fast(words, length_ms, self._settings.guards):
            return []
        return [shifted(word, self._offset_ms) for word in words]

    def _slide(self) -> None:
        """Let go of the older half of a full window, up to the end of a word; its words are final with that."""
        window = self._settings.window_ms * _MS
        if len(self._audio) < window:
            return
        keep_from = self._offset_ms + (len(self._audio) - window // 2) // _MS
        self._agreement.settle(keep_from)
        done = [word for word in self._agreement.final if word.end_ms <= keep_from and word.end_ms > self._offset_ms]
        cut_ms = done[-1].end_ms if done else keep_from
        self._let_go = _end(f"{self._let_go} {' '.join(word.text for word in done)}".strip())
        dropped = (cut_ms - self._offset_ms) * _MS
        self._audio = self._audio[dropped:]
        self._decoded -= dropped
        self._offset_ms = cut_ms


def shifted(word: Word, by_ms: int) -> Word:
    return Word(word.text, word.start_ms + by_ms, word.end_ms + by_ms, word.probability, word.final)


def _end(text: str) -> str:
    """The last words of ``text``, as much as goes into a prompt."""
    return text if len(text) <= _PROMPT_CHARACTERS else text[-_PROMPT_CHARACTERS:].partition(" ")[2]


def whisper_code(tag: str) -> str:
    """Whisper's code for a BCP 47 tag (``en-GB`` → ``en``, ``nb`` → ``no``)."""
    primary = tag.split("-")[0].lower()
    return _CODES.get(primary, primary)


class WhisperEngine:
    """See :class:`babelcast.sts.asr.base.AsrEngine`. ``model`` is a registry name or a folder of one's own."""

    wants_denoised = False
    """Trained on noisy sound; a filter's traces are what it does not know."""
    lead_words = 0
    """What was said before is its prompt."""

    def __init__(self, model: str, compute: Compute | None = None, settings: WhisperSettings | None = None) -> None:
        if importlib.util.find_spec("faster_whisper") is None:
            raise MissingDependencyError("faster-whisper is not installed", hint="pip install 'babelcast[engines]'")
        self._path = resolve(model, "asr")
        self._compute = compute or Compute()
        self._settings = settings or WhisperSettings()
        self._lock = threading.Lock()
        self._model: WhisperPasses | None = None
        self._closed = False
        self.name = f"faster-whisper ({model_name(self._path)})"
        self._batcher = BlockingBatcher(self.name, self._decode_batch, lambda one: one.key, self._settings.batch)

    @property
    def batches(self) -> BatchStats:
        return self._batcher.stats

    @property
    def languages(self) -> tuple[str, ...]:
        return self.passes().languages

    def preload(self) -> None:
        self.passes()

    def open(self, options: AsrOptions = AsrOptions()) -> WhisperRecognizer:  # noqa: B008 - frozen
        if self._closed:
            raise SpeechUnavailableError("the service is stopping", code="overloaded")
        languages = self.languages
        if options.language is not None and whisper_code(options.language) not in languages:
            raise UnsupportedLanguageError(
                f"{self.name} does not understand {options.language}", code="unsupported_language"
            )
        return WhisperRecognizer(self.decode, options, self._settings)

    def recycle(self, recognizer: Recognizer) -> None:
        recognizer.close()

    def close(self) -> None:
        with self._lock:
            self._closed, self._model = True, None
        self._batcher.close()

    def passes(self) -> WhisperPasses:
        """The model, loaded. Raises MissingDependencyError, SpeechUnavailableError."""
        with self._lock:
            if self._closed:
                raise SpeechUnavailableError("the service is stopping", code="overloaded")
            if self._model is None:
                settings = self._settings
                self._model = load(
                    self._path,
                    self._compute,
                    workers=settings.batch.workers,
                    pad_s=settings.pad_s,
                    window_ms=settings.window_ms,
                    guards=settings.guards,
                )
            return self._model

    def decode(self, request: Request) -> Hypothesis:
        """One pass, in a batch with those of other sessions. Blocks. Raises SpeechError."""
        return self._batcher.call(self.passes().prepare(request))

    def _decode_batch(self, batch: list[Pass]) -> Answers[Hypothesis]:
        return self.passes().decode(batch)


def model_name(path: Path) -> str:
    return path.name.removeprefix("faster-whisper-")

"""A Whisper model and its passes: stretches of sound of several sessions decoded as one batch.

The parts are faster-whisper's (features, tokenizer, alignment); the way through them is ours, because the library's own
batches are the pieces of one recording: one prompt for all, and each piece's word times lean on the piece before.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from babelcast.errors import MissingDependencyError, SpeechError
from babelcast.sts.asr.base import Word
from babelcast.sts.asr.guards import Guards, SegmentScore, believed
from babelcast.sts.batching import Answers
from babelcast.sts.device import Compute
from babelcast.units import Pcm

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

_MAX_NEW_TOKENS = 160
_PROMPT_TOKENS = (64, 32, 16, 8)
"""What a prompt is cut to, from its beginning: a batch's prompts must be of one length, so there are few lengths."""
_MAX_HINT_TOKENS = 150
_TRAINED_S = 30
"""What Whisper's encoder was trained to see."""
_LONGEST_WORD_S = 0.7
"""Where a sentence begins or ends, alignment lets a word run into the pause: it is twice as long as this at most."""
_BEFORE, _BEHIND = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
_ENDS = ".。!！?？"


@dataclass(frozen=True, slots=True)
class Request:
    """One pass. ``samples``: mono float32 at 16 kHz, shape (n,). ``prompt``: what was said before."""

    samples: Pcm
    language: str | None
    prompt: str
    hints: tuple[str, ...]
    beam: int


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """``words`` in ms from the first sample of the pass."""

    words: list[Word]
    language: str
    certainty: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """A request, made ready in its session's own thread. ``features``: log-mel spectrogram, float32, shape (mels,
    frames), ``frames`` of it sound and the rest padding. ``before``: tokens that the prompt begins with."""

    features: npt.NDArray[np.float32]
    frames: int
    language: str | None
    before: tuple[int, ...]
    beam: int

    @property
    def key(self) -> Hashable:
        """What passes must have in common to be a batch. Where the language is not known yet, there is no other."""
        return (self.language, self.beam, len(self.before)) if self.language else object()


class WhisperPasses:
    """A loaded model. ``prepare`` and ``decode`` may be called from several threads."""

    def __init__(self, model: WhisperModel, pad_s: int, guards: Guards) -> None:
        self._model = model
        self._guards = guards
        self._frames = pad_s * int(model.frames_per_second)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self._model.supported_languages)

    def prepare(self, request: Request) -> Pass:
        features = self._model.feature_extractor(request.samples)
        frames = min(features.shape[-1] - 1, self._frames)  # the last one is the extractor's own padding
        padded = np.zeros((features.shape[0], self._frames), np.float32)
        padded[:, :frames] = features[:, :frames]
        language = request.language if self._model.model.is_multilingual else "en"
        return Pass(padded, frames, language, self._before(request), request.beam)

    def _before(self, request: Request) -> tuple[int, ...]:
        """Hints, then as much of what was said before as fits one of the lengths."""
        tokenizer = self._tokenizer(None)
        hints = tokenizer.encode(" " + ", ".join(request.hints))[:_MAX_HINT_TOKENS] if request.hints else []
        said = tokenizer.encode(" " + request.prompt) if request.prompt else []
        kept = next((length for length in _PROMPT_TOKENS if length <= len(said)), 0)
        before = [*hints, *said[len(said) - kept :]]
        return (tokenizer.sot_prev, *before) if before else ()

    def decode(self, batch: Sequence[Pass]) -> Answers[Hypothesis]:
        """One batch: passes with the same key. Raises SpeechError."""
        try:
            return self._decode(batch)
        except (RuntimeError, ValueError) as error:
            raise SpeechError(f"faster-whisper failed: {error}", code="engine_failed", retryable=True) from error

    def _decode(self, batch: Sequence[Pass]) -> list[Hypothesis]:
        from faster_whisper.transcribe import get_suppressed_tokens

        encoded = self._model.encode(np.stack([one.features for one in batch]))
        language, certainty = self._language(batch[0], encoded)
        tokenizer = self._tokenizer(language)
        prompts = [[*one.before, *tokenizer.sot_sequence, tokenizer.no_timestamps] for one in batch]
        results = self._model.model.generate(
            encoded,
            prompts,
            beam_size=batch[0].beam,
            max_length=min(len(prompts[0]) + _MAX_NEW_TOKENS, self._model.max_length),
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        tokens = [[token for token in result.sequences_ids[0] if token < tokenizer.eot] for result in results]
        aligned = self._model.find_alignment(tokenizer, tokens, encoded, [one.frames for one in batch])
        hypotheses = []
        for one, result, words in zip(batch, results, aligned, strict=True):
            said = believed(self._score(tokenizer, result), self._guards)
            length_s = one.frames / self._model.frames_per_second
            hypotheses.append(Hypothesis(timed_words(words, length_s) if said else [], language, certainty))
        return hypotheses

    def _language(self, first: Pass, encoded: Any) -> tuple[str, float]:
        if first.language:
            return first.language, 1.0
        token, probability = self._model.model.detect_language(encoded)[0][0]
        return token[2:-2], probability

    def _tokenizer(self, language: str | None) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer

        model = self._model
        return Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language=language or "en")

    @staticmethod
    def _score(tokenizer: Tokenizer, result: Any) -> SegmentScore:
        from faster_whisper.transcribe import get_compression_ratio

        found = result.sequences_ids[0]
        # the score is a mean over the tokens; the end of the text is a decision of the model as well
        average = result.scores[0] * len(found) / (len(found) + 1)
        text = tokenizer.decode(found).strip()
        return SegmentScore(result.no_speech_prob, average, get_compression_ratio(text) if text else 0.0)


def timed_words(aligned: list[dict[str, Any]], length_s: float) -> list[Word]:
    """The library's alignment as words: punctuation joined to its word, and at a sentence's edge none longer than words
    are."""
    from faster_whisper.transcribe import merge_punctuations

    lengths = [found["end"] - found["start"] for found in aligned if found["end"] > found["start"]]
    longest = 2 * min(_LONGEST_WORD_S, float(np.median(lengths))) if lengths else 0.0
    for before, found in zip([None, *aligned], aligned, strict=False):
        if found["end"] - found["start"] <= longest:
            continue
        if (found["end"] > 2 * longest) if before is None else (before["word"] in _ENDS):
            found["start"] = found["end"] - longest
        elif found["word"] in _ENDS:
            found["end"] = found["start"] + longest
    merge_punctuations(aligned, _BEFORE, _BEHIND)
    return [
        Word(
            found["word"].strip(),
            round(1000 * min(float(found["start"]), length_s)),
            round(1000 * min(float(found["end"]), length_s)),
            min(max(float(found["probability"]), 0.0), 1.0),
        )
        for found in aligned
        if found["word"].strip()
    ]


def load(path: Path, compute: Compute, *, workers: int, pad_s: int, window_ms: int, guards: Guards) -> WhisperPasses:
    """Load a CTranslate2 Whisper model from a folder; never from the network. Raises MissingDependencyError."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from faster_whisper import WhisperModel

    missing = [name for name in ("model.bin", "tokenizer.json") if not (path / name).is_file()]
    if missing:
        raise MissingDependencyError(
            f"{path} is no faster-whisper model: no {missing[0]}", hint="babelcast models list"
        )
    device = compute.device_name()
    try:
        model = WhisperModel(
            str(path),
            device=device,
            compute_type=compute.type_name(),
            cpu_threads=compute.threads,
            num_workers=workers,
            local_files_only=True,
        )
    except (RuntimeError, ValueError) as error:
        raise MissingDependencyError(
            f"{path} can't be loaded: {error}", hint=f"babelcast models verify {path.name}"
        ) from error
    # less than the model was trained on is faster and may cost accuracy: see WhisperSettings.pad_s
    pad_s = pad_s or (_TRAINED_S if device == "cuda" else min(window_ms // 1000 + 2, _TRAINED_S))
    return WhisperPasses(model, pad_s, guards)

"""Synthesis with sherpa-onnx: Kokoro's and Piper's voices.

The model is loaded once and speaks for all sessions. sherpa-onnx has had no espeak-ng inside since 2.0, so phonemes
come from the espeak-ng program (:mod:`babelcast.sts.tts.phonemes`). A segment's voice is written
``sherpa:MODEL/VOICE@TEMPO``, for example ``sherpa:vits-piper-es_ES-davefx-medium/davefx@1.00``.

Piper's voices are run without noise: the same text, voice and tempo give the same samples. Kokoro draws noise inside
its network; its words and lengths repeat, its samples need not.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np

from babelcast.errors import (
    ConfigError,
    MissingDependencyError,
    SpeechError,
    SpeechUnavailableError,
    UnsupportedLanguageError,
)
from babelcast.models.cache import resolve
from babelcast.models.manifest import Manifest, VoiceRecord, read_manifest
from babelcast.sts.device import Compute
from babelcast.sts.tts.base import Gender, Speech, pick_voice, tempo_for, trimmed, voices_for
from babelcast.sts.tts.phonemes import Style, phonemize
from babelcast.units import Pcm
from babelcast.wire import Voice

_TURN_S = 30.0
"""How long a clause waits for its turn: one that hangs in the library must not keep all sessions for ever."""
_STYLES: dict[str, Style] = {"piper": "piper", "kokoro": "kokoro"}


class SherpaSynthesizer:
    """See :class:`babelcast.sts.tts.base.Synthesizer`. ``model`` is a registry name or a folder with a manifest;
    ``workers`` clauses are spoken at once, more wait."""

    def __init__(self, model: str, compute: Compute | None = None, *, workers: int = 1) -> None:
        if importlib.util.find_spec("sherpa_onnx") is None:
            raise MissingDependencyError("sherpa-onnx is not installed", hint="pip install 'babelcast[engines]'")
        self._path = resolve(model, "tts")
        manifest = read_manifest(self._path)
        if manifest is None or not manifest.voices:
            raise ConfigError(
                f"{self._path} has no manifest.json that names its voices",
                hint="docs/howto/models.md says what to write into it",
            )
        if manifest.family not in _STYLES:
            raise ConfigError(f"{manifest.name} is no voice for sherpa-onnx ({manifest.family})")
        self._manifest = manifest
        self._records = {voice.name: voice for voice in manifest.voices}
        self._compute = compute or Compute()
        self._turns = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._tts: Any = None
        self.name = f"sherpa-onnx ({manifest.name})"

    @property
    def voices(self) -> tuple[Voice, ...]:
        return tuple(
            Voice(name=voice.name, language=voice.language, gender=voice.gender, engine=self.name)
            for voice in self._manifest.voices
        )

    def preload(self) -> None:
        self._load()

    def resolve(self, language: str, voice: str | None) -> str:
        fitting = self._fitting(language)
        if voice is None:
            return fitting[0].name
        if voice in {"female", "male"}:
            return next((found.name for found in fitting if found.gender == voice), fitting[0].name)
        if voice not in {found.name for found in voices_for(self.voices, language.split("-")[0])}:
            raise UnsupportedLanguageError(f"no voice {voice!r} speaks {language}", code="unsupported_language")
        return voice

    def pick(self, language: str, speaker: int, gender: Gender | None = None) -> str:
        return pick_voice(self._fitting(language), speaker, gender).name

    def _fitting(self, language: str) -> list[Voice]:
        fitting = voices_for(self.voices, language)
        if not fitting:
            raise UnsupportedLanguageError(
                f"no voice of {self._manifest.name} speaks {language}", code="unsupported_language"
            )
        return fitting

    def speak(self, text: str, voice: str, target_s: float | None = None) -> Speech:
        record = self._records.get(voice)
        if record is None:
            raise UnsupportedLanguageError(f"no voice {voice!r}", code="unsupported_language")
        phonemes = phonemize(text, record.phonemes, _STYLES[self._manifest.family])
        tempo = 1.0
        samples, rate = self._say(phonemes, record, tempo)
        tempo = round(tempo_for(len(samples) / rate, target_s), 2)
        if tempo > 1:
            samples, rate = self._say(phonemes, record, tempo)
        return Speech(samples, rate, f"sherpa:{self._manifest.name}/{voice}@{tempo:.2f}")

    def _say(self, phonemes: str, record: VoiceRecord, tempo: float) -> tuple[Pcm, int]:
        tts = self._load()
        if not phonemes:
            return np.zeros(0, np.float32), int(tts.sample_rate)
        import sherpa_onnx

        config = sherpa_onnx.GenerationConfig()
        config.sid = record.speaker
        config.speed = tempo
        config.phoneme_codepoints = [[ord(character) for character in phonemes]]
        if not self._turns.acquire(timeout=_TURN_S):
            raise SpeechUnavailableError(f"{self.name} does not answer", code="deadline")
        try:
            audio = tts.generate("", config)
        except RuntimeError as error:
            raise SpeechError(f"sherpa-onnx failed: {error}", code="engine_failed", retryable=True) from error
        finally:
            self._turns.release()
        samples = np.asarray(audio.samples, np.float32)
        if not len(samples):
            raise SpeechError("sherpa-onnx made no sound of a clause", code="engine_failed", retryable=True)
        return trimmed(samples, int(audio.sample_rate)), int(audio.sample_rate)

    def close(self) -> None:
        with self._lock:
            self._tts = None

    def _load(self) -> Any:
        with self._lock:
            if self._tts is None:
                self._tts = load(self._path, self._manifest, self._compute)
            return self._tts


def load(path: Path, manifest: Manifest, compute: Compute) -> Any:
    """Load a voice's folder. sherpa-onnx ends the process over a file that is missing, so they are looked for first.
    Raises MissingDependencyError."""
    import sherpa_onnx

    networks = sorted(path.glob("*.onnx"))
    needed = [networks[0] if networks else path / "model.onnx", path / "tokens.txt"]
    if manifest.family == "kokoro":
        needed.append(path / "voices.bin")
    for file in needed:
        if not file.is_file():
            raise MissingDependencyError(
                f"{path} is not whole: no {file.name}", hint=f"babelcast models pull {manifest.name} --again"
            )
    # on a GPU only where it is asked for: the package from the registry is built for CPUs alone
    common = {"num_threads": compute.threads or 2, "provider": "cuda" if compute.device == "cuda" else "cpu"}
    model, tokens = str(needed[0]), str(needed[1])
    if manifest.family == "kokoro":
        kokoro = sherpa_onnx.OfflineTtsKokoroModelConfig(
            model=model, voices=str(needed[2]), tokens=tokens, lexicon=_lexicons(path)
        )
        network = sherpa_onnx.OfflineTtsModelConfig(kokoro=kokoro, **common)
    else:
        vits = sherpa_onnx.OfflineTtsVitsModelConfig(model=model, tokens=tokens, noise_scale=0.0, noise_scale_w=0.0)
        network = sherpa_onnx.OfflineTtsModelConfig(vits=vits, **common)
    config = sherpa_onnx.OfflineTtsConfig(model=network, max_num_sentences=1, silence_scale=1.0)
    if not config.validate():
        raise MissingDependencyError(
            f"sherpa-onnx does not take the model in {path}", hint=f"babelcast models verify {manifest.name}"
        )
    try:
        return sherpa_onnx.OfflineTts(config)
    except RuntimeError as error:
        raise MissingDependencyError(
            f"{path} can't be loaded: {error}", hint=f"babelcast models verify {manifest.name}"
        ) from error


def _lexicons(path: Path) -> str:
    """Kokoro's English lexicons, where they are: not used (phonemes are given), but some versions want to see them."""
    return ",".join(str(file) for file in sorted(path.glob("lexicon-*-en.txt")))

"""Synthesis with espeak-ng, one short-lived process per clause (about 10 ms; it is GPL, so never in-process).

espeak-ng is deterministic: the same text, voice and rate give the same samples. A segment's voice is written
``espeak-ng:VOICE@WPM``, for example ``espeak-ng:es-419+f2@190``; :func:`resynthesize` makes its samples again.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import wave

import numpy as np

from babelcast.errors import MissingDependencyError, SpeechError, UnsupportedLanguageError
from babelcast.sts.tts.base import MAX_TEMPO, Gender, Speech, tempo_for, trimmed
from babelcast.units import Pcm
from babelcast.wire import Voice

__all__ = ["MAX_TEMPO", "NORMAL_WPM", "RATE", "EspeakSynthesizer", "resynthesize", "synthesize"]

RATE = 22_050
"""espeak-ng's native sample rate in Hz."""
NORMAL_WPM = 170

_TIMEOUT_S = 5.0
_VOICE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*(\+[A-Za-z0-9]{1,20})?")
_WRITTEN = re.compile(rf"espeak-ng:({_VOICE.pattern})@(\d{{2,3}})")

# language tag → espeak-ng language; an unknown region falls back on its language
_LANGUAGES = {
    "es": "es",
    "es-es": "es",
    "es-419": "es-419",
    "es-mx": "es-419",
    "en": "en-us",
    "en-gb": "en-gb",
    "fr": "fr",
    "ca": "ca",
    "pt": "pt",
    "pt-br": "pt-br",
    "de": "de",
    "it": "it",
    "ro": "ro",
    "eo": "eo",
}
_GENDERS = {"female": "+f2", "male": "+m3"}
# one variant for each person of a programme; the first is the default
_VARIANTS = {"female": ("+f2", "+f4", "+f3", "+f1"), "male": ("+m3", "+m1", "+m7", "+m2")}


def synthesize(text: str, voice: str, rate_wpm: int) -> Pcm:
    """Say ``text``: mono float32 at :data:`RATE` Hz, shape (n,), silence trimmed at both ends.

    ``voice`` is espeak-ng's (``es-419+f2``), ``rate_wpm`` its words per minute (80 to 450). Empty for text
    without a sound. Raises SpeechError.
    """
    if not _VOICE.fullmatch(voice) or not 80 <= rate_wpm <= 450:
        raise SpeechError(f"not an espeak-ng voice and rate: {voice}@{rate_wpm}", code="bad_request")
    command = ["espeak-ng", "-v", voice, "-s", str(rate_wpm), "-b", "1", "--stdin", "--stdout"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise SpeechError("espeak-ng does not answer", code="deadline", retryable=True) from error
    except (subprocess.CalledProcessError, OSError) as error:
        raise SpeechError(f"espeak-ng failed: {error}", code="engine_failed", retryable=True) from error
    return trimmed(_samples(done.stdout), RATE)


def resynthesize(text: str, written_voice: str) -> Pcm | None:
    """The samples of a segment from its translation and its ``voice``, at the rate that the engine chose.

    Shape (n,), float32 at :data:`RATE` Hz; None for another engine's voice.
    """
    match = _WRITTEN.fullmatch(written_voice)
    return synthesize(text, match.group(1), int(match.group(match.lastindex or 0))) if match else None


def _samples(wav: bytes) -> Pcm:
    if not wav:
        return np.zeros(0, np.float32)
    with wave.open(io.BytesIO(wav)) as reader:
        # written to a pipe, the header's length is a placeholder: read what is there
        raw = reader.readframes(len(wav) // 2)
        if reader.getframerate() != RATE or reader.getnchannels() != 1 or reader.getsampwidth() != 2:
            raise SpeechError("espeak-ng answered with an unknown format", code="engine_failed")
    return np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


class EspeakSynthesizer:
    name = "espeak-ng"

    def __init__(self) -> None:
        if shutil.which("espeak-ng") is None:
            raise MissingDependencyError("espeak-ng is not installed", hint="apt-get install espeak-ng")

    @property
    def voices(self) -> tuple[Voice, ...]:
        return tuple(
            voice
            for tag, language in _LANGUAGES.items()
            for voice in (
                Voice(name=language + _GENDERS["female"], language=tag, gender="female", engine=self.name),
                Voice(name=language + _GENDERS["male"], language=tag, gender="male", engine=self.name),
            )
        )

    def preload(self) -> None:
        """Each clause has a process of its own: there is nothing to load."""

    def pick(self, language: str, speaker: int, gender: Gender | None = None) -> str:
        base = self._base(language)
        order = ("female", "male") if gender is None else (gender,)
        variants = _VARIANTS[order[speaker % len(order)]]
        return base + variants[speaker // len(order) % len(variants)]

    @staticmethod
    def _base(language: str) -> str:
        tag = language.lower()
        base = _LANGUAGES.get(tag) or _LANGUAGES.get(tag.split("-")[0])
        if base is None:
            raise UnsupportedLanguageError(f"no voice speaks {language}", code="unsupported_language")
        return base

    def resolve(self, language: str, voice: str | None) -> str:
        base = self._base(language)
        if voice is None or voice in _GENDERS:
            return base + _GENDERS[voice or "female"]
        if not _VOICE.fullmatch(voice) or voice.split("-")[0].split("+")[0] != base.split("-")[0]:
            raise UnsupportedLanguageError(f"no voice {voice!r} speaks {language}", code="unsupported_language")
        return voice

    def speak(self, text: str, voice: str, target_s: float | None = None) -> Speech:
        wpm = NORMAL_WPM
        samples = synthesize(text, voice, wpm)
        tempo = tempo_for(len(samples) / RATE, target_s)
        if tempo > 1:
            wpm = round(NORMAL_WPM * tempo)
            samples = synthesize(text, voice, wpm)
        return Speech(samples, RATE, f"{self.name}:{voice}@{wpm}")

    def close(self) -> None:
        """Nothing is kept between calls."""

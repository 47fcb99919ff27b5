"""Text to phonemes with the espeak-ng program, for voices that were trained on its phonemes.

espeak-ng is GPL, so it is never loaded into this process. It leaves punctuation out of its phonemes, which these voices
read as pauses and melody; so the text is cut at punctuation, and each part's phonemes get theirs back.
"""

from __future__ import annotations

import re
import subprocess
import unicodedata
from typing import Literal

from babelcast.errors import MissingDependencyError, SpeechError, UnsupportedLanguageError

Style = Literal["piper", "kokoro"]

_TIMEOUT_S = 5.0
_TIE = "^"
_VOICE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_PART = re.compile(r"(.+?)([.,;:!?…]+(?=\s|$)|$)")
"""Words up to punctuation with a space behind it: a decimal point is not cut at."""
_FLAGS = re.compile(r"\([a-z-]+\)")
"""Where espeak-ng changes its language within a text: ``(en)``."""
_SPACES = re.compile(r"\s+")
# Kokoro's alphabet (misaki) has one letter for what espeak-ng ties together
_KOKORO = {
    "a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q", "s^s": "S", "t^s": "ʦ",
    "t^ʃ": "ʧ", "ɔ^ɪ": "Y",
}  # fmt: skip


def phonemize(text: str, voice: str, style: Style) -> str:
    """``text`` as IPA with its punctuation, in the alphabet of a family of voices. ``voice``: espeak-ng's language.

    Raises SpeechError, UnsupportedLanguageError (espeak-ng has no such voice), MissingDependencyError.
    """
    parts = []
    for words, stops in _PART.findall(_SPACES.sub(" ", text.strip())):
        if sounds := _espeak(words.strip(" ¿¡\"'«»“”()[]-–—"), voice, tied=style == "kokoro"):
            parts.append(_in_style(sounds, style) + stops[:1].replace("…", "."))
    return " ".join(parts)


def _in_style(sounds: str, style: Style) -> str:
    if style == "piper":
        # Piper's tokens are code points of the decomposed form
        return unicodedata.normalize("NFD", sounds)
    for tied, letter in _KOKORO.items():
        sounds = sounds.replace(tied, letter)
    return sounds.replace(_TIE, "").replace("-", "")


def _espeak(text: str, voice: str, *, tied: bool) -> str:
    if not text:
        return ""
    if not _VOICE.fullmatch(voice):
        raise UnsupportedLanguageError(f"not an espeak-ng voice: {voice}", code="unsupported_language")
    command = ["espeak-ng", "-q", "--ipa", "-v", voice, "-b", "1", "--stdin", *([f"--tie={_TIE}"] if tied else [])]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_TIMEOUT_S, check=True)
    except FileNotFoundError:
        raise MissingDependencyError("espeak-ng is not installed", hint="apt-get install espeak-ng") from None
    except subprocess.TimeoutExpired as error:
        raise SpeechError("espeak-ng does not answer", code="deadline", retryable=True) from error
    except (subprocess.CalledProcessError, OSError) as error:
        raise SpeechError(f"espeak-ng failed: {error}", code="engine_failed", retryable=True) from error
    return _SPACES.sub(" ", _FLAGS.sub("", done.stdout.decode(errors="replace"))).strip()

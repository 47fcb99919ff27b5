"""What the session asks of synthesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from babelcast.units import Pcm
from babelcast.wire import Voice

Gender = Literal["female", "male"]

MAX_TEMPO = 1.35
"""Fastest speaking rate, as a multiple of a voice's own, that stays easy to understand."""
_SILENCE = 0.004
"""Samples below this level (-48 dBFS) at either end are cut off; voices peak near -6 dBFS."""
_EDGE_S = 0.005


@dataclass(frozen=True, slots=True)
class Speech:
    """``samples``: mono float32, shape (n,), at ``rate`` Hz, no silence at either end. ``voice`` says how to make
    the same samples again."""

    samples: Pcm
    rate: int
    voice: str

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


class Synthesizer(Protocol):
    """Implemented by espeak.EspeakSynthesizer and sherpa.SherpaSynthesizer; several.Synthesizers joins them. Safe to
    call from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def voices(self) -> tuple[Voice, ...]: ...

    def preload(self) -> None:
        """Do now what would make the first ``speak`` slow. Raises MissingDependencyError."""
        ...

    def resolve(self, language: str, voice: str | None) -> str:
        """The voice that ``speak`` will use for ``voice`` (None: the language's default; ``female``, ``male``: the
        first of that gender).

        Raises UnsupportedLanguageError when there is none.
        """
        ...

    def pick(self, language: str, speaker: int, gender: Gender | None = None) -> str:
        """A voice for the ``speaker``-th person of a programme, counted from 0: the same one each time, another one for
        each person as far as there are voices, of their gender where it is known and the language has one.

        Raises UnsupportedLanguageError when no voice speaks the language.
        """
        ...

    def speak(self, text: str, voice: str, target_s: float | None = None) -> Speech:
        """Say ``text`` with a resolved voice, faster where it would be longer than ``target_s`` (within a bound
        that keeps it intelligible). Raises SpeechError (``engine_failed``, ``deadline``).
        """
        ...

    def close(self) -> None: ...


def voices_for(voices: Sequence[Voice], language: str) -> list[Voice]:
    """Those that speak ``language``: of its very tag if there are any, else of its language."""
    tag = language.lower()
    exact = [voice for voice in voices if voice.language.lower() == tag]
    return exact or [voice for voice in voices if voice.language.split("-")[0].lower() == tag.split("-")[0]]


def pick_voice(voices: Sequence[Voice], speaker: int, gender: Gender | None) -> Voice:
    """See :meth:`Synthesizer.pick`; ``voices`` all speak the language and are not empty. Pure."""
    fitting = [voice for voice in voices if voice.gender == gender] if gender else list(voices)
    fitting = fitting or list(voices)
    return fitting[speaker % len(fitting)]


def tempo_for(length_s: float, target_s: float | None) -> float:
    """How much faster than its natural ``length_s`` something must be said to fit ``target_s``: 1 to MAX_TEMPO."""
    if target_s is None or length_s <= target_s:
        return 1.0
    return min(length_s / max(target_s, 0.1), MAX_TEMPO)


def trimmed(samples: Pcm, rate: int) -> Pcm:
    """``samples`` without the silence at their ends, 5 ms left of it."""
    loud = np.flatnonzero(np.abs(samples) > _SILENCE)
    if not len(loud):
        return samples[:0]
    edge = int(_EDGE_S * rate)
    return samples[max(0, loud[0] - edge) : loud[-1] + edge]

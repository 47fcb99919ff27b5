"""What the session asks of synthesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from babelcast.units import Pcm
from babelcast.wire import Voice


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
    """Implemented by espeak.EspeakSynthesizer. Safe to call from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def voices(self) -> tuple[Voice, ...]: ...

    def resolve(self, language: str, voice: str | None) -> str:
        """The voice that ``speak`` will use for ``voice`` (None: the language's default).

        Raises UnsupportedLanguageError when there is none.
        """
        ...

    def speak(self, text: str, voice: str, target_s: float | None = None) -> Speech:
        """Say ``text`` with a resolved voice, faster where it would be longer than ``target_s`` (within a bound
        that keeps it intelligible). Raises SpeechError (``engine_failed``, ``deadline``).
        """
        ...

    def close(self) -> None: ...

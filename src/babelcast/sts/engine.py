"""What the service asks of an engine: sessions, and single fragments. Everything blocks and runs in threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from babelcast.sts.batching import BatchStats
from babelcast.units import Pcm
from babelcast.wire import Language, Partial, Progress, Segment, StageTimes, Start, Voice


@dataclass(frozen=True, slots=True)
class Spoken:
    """A segment and its sound: mono float32, shape (``message.samples``,), at ``message.sample_rate`` Hz."""

    message: Segment
    samples: Pcm


Output = Partial | Progress | Spoken


class Session(Protocol):
    """One stream's life. Implemented by session.DubSession and tone.ToneSession. One thread at a time."""

    def push(self, source_ns: int, pcm: bytes) -> list[Output]:
        """Hear S16LE mono at ``Start.sample_rate``; ``source_ns`` is the time of its first sample."""
        ...

    def finish(self) -> list[Output]:
        """No more comes: speak what is left."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SaidResult:
    """``samples``: mono float32, shape (n,), at ``rate`` Hz. ``voice``: which one it was."""

    samples: Pcm
    rate: int
    voice: str
    stages: StageTimes


@dataclass(frozen=True, slots=True)
class FragmentResult:
    """``samples``: mono float32 at the rate that was asked, exactly as long as the fragment."""

    samples: Pcm
    transcript: str
    translation: str
    stages: StageTimes


class Engine(Protocol):
    """Implemented by chain.ChainEngine and tone.ToneEngine. Safe to call from several threads."""

    @property
    def stages(self) -> tuple[str, str, str]:
        """Names of ASR, MT and TTS."""
        ...

    @property
    def languages(self) -> tuple[Language, ...]: ...

    @property
    def voices(self) -> tuple[Voice, ...]: ...

    @property
    def batches(self) -> tuple[BatchStats, ...]:
        """Of those of its models that join the calls of several sessions."""
        ...

    def preload(self) -> None:
        """Do what would make the next session slow to open."""
        ...

    def resolve_voice(self, source: str, target: str, voice: str | None) -> str:
        """The voice for a language pair. Raises UnsupportedLanguageError."""
        ...

    def open(self, start: Start, session_id: str) -> Session:
        """Raises UnsupportedLanguageError, SpeechUnavailableError."""
        ...

    def process(
        self, samples: Pcm, rate: int, source: str, target: str, voice: str | None, sequence: int
    ) -> FragmentResult:
        """Dub one fragment: mono float32 at ``rate`` Hz. Raises SpeechError."""
        ...

    def say(self, text: str, language: str, voice: str | None) -> SaidResult:
        """Say ``text`` as it is. Raises SpeechError, UnsupportedLanguageError."""
        ...

    def close(self) -> None: ...

"""What the session asks of speech recognition. Calls block; a session runs in a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word with its place in the utterance, in ms from the first sample that was fed.

    ``probability`` is the engine's posterior in [0, 1]; of a partial result it is not known yet and 1.
    """

    text: str
    start_ms: int
    end_ms: int
    probability: float = 1.0


class Recognizer(Protocol):
    """One session's decoder: it keeps what it learns about the channel between utterances.

    Implemented by pocketsphinx.PocketsphinxRecognizer. Methods raise SpeechError (``engine_failed``).
    """

    def start(self) -> None:
        """Begin an utterance; one in progress is dropped."""
        ...

    def feed(self, pcm: bytes) -> None:
        """Decode more of the utterance: S16LE mono at 16 kHz."""
        ...

    def partial(self) -> list[Word]:
        """The words so far; the last ones may still change."""
        ...

    def finish(self) -> list[Word]:
        """End the utterance: its words, without fillers."""
        ...

    def close(self) -> None:
        """Free the decoder. Idempotent."""
        ...


class AsrEngine(Protocol):
    """Implemented by pocketsphinx.PocketsphinxEngine."""

    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]:
        """BCP 47 tags of what it understands."""
        ...

    def preload(self) -> None:
        """Do now what would make the next ``open`` slow. Blocks."""
        ...

    def open(self) -> Recognizer:
        """Raises SpeechUnavailableError when no decoder can be had."""
        ...

    def close(self) -> None: ...

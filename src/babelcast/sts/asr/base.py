"""What the session asks of speech recognition. Calls block; a session runs in a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

_PUNCTUATION = ".,;:!?…\"'“”‘’«»¿¡()[]{}-–—。，！？、"


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word with its place in the utterance, in ms from the first sample that was fed.

    ``text`` is as the engine writes it: some write capitals and punctuation, :attr:`key` has neither.
    ``probability`` is the engine's posterior in [0, 1]; of a partial result it may not be known yet and is 1.
    ``final`` words of a partial result will not change any more.
    """

    text: str
    start_ms: int
    end_ms: int
    probability: float = 1.0
    final: bool = False

    @property
    def key(self) -> str:
        """The word for comparing: lower case, no punctuation round it."""
        return self.text.strip(_PUNCTUATION).casefold()


@dataclass(frozen=True, slots=True)
class AsrOptions:
    """What a session says of its speech. ``language`` is a BCP 47 tag, None where it is to be detected; ``hints`` are
    names and terms that may come up. Engines that can't use them ignore them."""

    language: str | None = None
    hints: tuple[str, ...] = ()


class Recognizer(Protocol):
    """One session's decoder: it keeps what it learns about the channel between utterances.

    Implemented by pocketsphinx.PocketsphinxRecognizer and whisper.WhisperRecognizer. Methods raise SpeechError
    (``engine_failed``).
    """

    @property
    def language(self) -> str | None:
        """What is spoken, as a BCP 47 tag: as it was said, or detected; None before anything was heard."""
        ...

    def start(self) -> None:
        """Begin an utterance; one in progress is dropped."""
        ...

    def feed(self, pcm: bytes) -> None:
        """Decode more of the utterance: S16LE mono at 16 kHz."""
        ...

    def partial(self) -> list[Word]:
        """The words so far; those that are not ``final`` may still change."""
        ...

    def finish(self) -> list[Word]:
        """End the utterance: its words, without fillers."""
        ...

    def close(self) -> None:
        """Free the decoder. Idempotent."""
        ...


class AsrEngine(Protocol):
    """Loaded once, shared by all sessions. Implemented by pocketsphinx.PocketsphinxEngine and whisper.WhisperEngine."""

    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]:
        """BCP 47 tags of what it understands."""
        ...

    @property
    def wants_denoised(self) -> bool:
        """Whether it hears better behind :class:`babelcast.sts.denoise.Denoiser`."""
        ...

    @property
    def lead_words(self) -> int:
        """Words in front of a cut that it hears again, because it understands what follows better with them."""
        ...

    def preload(self) -> None:
        """Do now what would make the next ``open`` slow. Blocks."""
        ...

    def open(self, options: AsrOptions = AsrOptions()) -> Recognizer:
        """Raises SpeechUnavailableError when no decoder can be had, UnsupportedLanguageError."""
        ...

    def recycle(self, recognizer: Recognizer) -> None:
        """Take back a recogniser from :meth:`open` that is no longer needed: closed, or kept for the next."""
        ...

    def close(self) -> None: ...

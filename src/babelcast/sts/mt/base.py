"""What the session asks of translation."""

from __future__ import annotations

from typing import Protocol


class Translator(Protocol):
    """Implemented by apertium.ApertiumTranslator. Safe to call from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(source, target) language tags."""
        ...

    def preload(self, source: str, target: str) -> None:
        """Do now what would make the first ``translate`` slow. Raises UnsupportedLanguageError."""
        ...

    def translate(self, text: str, source: str, target: str) -> str:
        """``text`` is one clause as recognised: lower case, no punctuation. The answer has neither a capital at
        its start nor a final stop unless the words demand it.

        Raises UnsupportedLanguageError, or SpeechError (``engine_failed``, ``deadline``).
        """
        ...

    def close(self) -> None: ...

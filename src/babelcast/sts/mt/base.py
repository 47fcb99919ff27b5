"""What the session asks of translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Term:
    """A glossary entry: ``source`` is what is said, ``targets`` what it must become by language tag (``es``,
    ``pt-br``); in a language that is not named it stays as it is."""

    source: str
    targets: Mapping[str, str] = field(default_factory=dict)

    def for_language(self, tag: str) -> str:
        return self.targets.get(tag.lower()) or self.targets.get(primary(tag)) or self.source


class Translator(Protocol):
    """Implemented by apertium.ApertiumTranslator and ct2.Ct2Translator; hold.HoldingTranslator and
    several.Translators wrap others. Safe to call from several threads."""

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
        """``text`` is one clause as recognised: lower case without punctuation from some recognisers, written out from
        others. The answer need have neither a capital at its start nor a final stop.

        Raises UnsupportedLanguageError, or SpeechError (``engine_failed``, ``deadline``).
        """
        ...

    def close(self) -> None: ...


def primary(tag: str) -> str:
    """The language of a tag without region or script, in lower case."""
    return tag.split("-")[0].lower()

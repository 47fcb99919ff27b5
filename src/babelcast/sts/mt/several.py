"""Several translators as one: the first that has a pair translates it."""

from __future__ import annotations

from collections.abc import Sequence

from babelcast.errors import UnsupportedLanguageError
from babelcast.sts.mt.base import Translator, primary


class Translators:
    """See :class:`babelcast.sts.mt.base.Translator`. Owns its members."""

    def __init__(self, members: Sequence[Translator]) -> None:
        self._members = tuple(members)
        self._by_pair: dict[tuple[str, str], Translator] = {}
        for member in self._members:
            for pair in member.pairs:
                self._by_pair.setdefault(pair, member)

    @property
    def name(self) -> str:
        return ", ".join(member.name for member in self._members)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._by_pair)

    def _for(self, source: str, target: str) -> Translator:
        member = self._by_pair.get((primary(source), primary(target)))
        if member is None:
            here = ", ".join(sorted({pair[1] for pair in self._by_pair if pair[0] == primary(source)})) or "none"
            raise UnsupportedLanguageError(
                f"no translation from {source} to {target}",
                code="unsupported_language",
                hint=f"from {source} there is: {here}",
            )
        return member

    def preload(self, source: str, target: str) -> None:
        self._for(source, target).preload(source, target)

    def translate(self, text: str, source: str, target: str) -> str:
        return self._for(source, target).translate(text, source, target)

    def close(self) -> None:
        for member in self._members:
            member.close()

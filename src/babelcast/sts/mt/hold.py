"""Numbers and glossary terms that a translation must keep, round any translator. Pure but for the translator.

A neural model is free to drop a number or to translate a product's name. So each answer is checked, and where something
is missing the sentence is tried again in a form that leaves less freedom:

1. with the terms already in the target language put in their places (models copy most foreign words);
2. with codes in place of what must be held (``QX1``), put back afterwards;
3. in pieces between what must be held, joined again. That always holds it, at the price of worse grammar.

The second and third are only paid for by sentences that need them. Names that are not in the glossary are not held:
a check could not tell a lost name from a translated one (Germany, Alemania).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from babelcast.sts.mt.base import Term, Translator
from babelcast.sts.text import HANGUL, UNSPACED

_NUMBER = re.compile(r"\d+(?:[.,:'’\u00a0\u202f ]\d{3}(?!\d))*(?:[.,:]\d+)?")
_CODE = "QX{}"
_SEPARATORS = re.compile(r"\D")
_BEFORE, _BEHIND = rf"(?<![^\W{UNSPACED}{HANGUL}])", rf"(?![^\W{UNSPACED}{HANGUL}])"
"""Where a word begins and ends: beside letters of these scripts too (Babelcastへ, Babelcast는)."""


@dataclass(frozen=True, slots=True)
class Held:
    """A stretch of the source that must come out as ``target``. ``number``: any way of writing the digits will do."""

    start: int
    end: int
    target: str
    number: bool


class HoldingTranslator:
    """See :class:`babelcast.sts.mt.base.Translator`. Wraps ``inner`` and holds ``terms`` and numbers; ``terms`` have a
    target by language."""

    def __init__(self, inner: Translator, terms: Sequence[Term] = ()) -> None:
        self._inner = inner
        self._terms = tuple(terms)

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return self._inner.pairs

    def preload(self, source: str, target: str) -> None:
        self._inner.preload(source, target)

    def translate(self, text: str, source: str, target: str) -> str:
        terms = [(term.source, term.for_language(target)) for term in self._terms]
        return translate_holding(text, terms, lambda part: self._inner.translate(part, source, target))

    def close(self) -> None:
        self._inner.close()


def translate_holding(text: str, terms: Sequence[tuple[str, str]], translate: Callable[[str], str]) -> str:
    """``translate(text)``, with each of ``terms`` (source, target) and each number of the source in it."""
    held = find_held(text, terms)
    if not held:
        return translate(text)
    answer = translate(substituted(text, held, [item.target for item in held]))
    if holds(answer, held):
        return answer
    codes = [_CODE.format(number) for number in range(1, len(held) + 1)]
    answer = translate(substituted(text, held, codes))
    if all(len(_code_pattern(code).findall(answer)) == 1 for code in codes):
        for code, item in zip(codes, held, strict=True):
            answer = _code_pattern(code).sub(item.target.replace("\\", r"\\"), answer)
        if holds(answer, held):
            return answer
    return _in_pieces(text, held, translate)


def find_held(text: str, terms: Sequence[tuple[str, str]]) -> list[Held]:
    """What must be held in ``text``, in order, without overlaps: longer terms before shorter ones, terms before
    numbers."""
    found: list[Held] = []
    for source, target in sorted(terms, key=lambda term: -len(term[0])):
        for match in _word_pattern(source).finditer(text):
            _add(found, Held(match.start(), match.end(), target, number=False))
    for match in _NUMBER.finditer(text):
        _add(found, Held(match.start(), match.end(), match.group(), number=True))
    return sorted(found, key=lambda item: item.start)


def _add(found: list[Held], item: Held) -> None:
    if all(item.end <= other.start or item.start >= other.end for other in found):
        found.append(item)


def substituted(text: str, held: Sequence[Held], replacements: Sequence[str]) -> str:
    """``text`` with each of ``held`` replaced."""
    parts, place = [], 0
    for item, replacement in zip(held, replacements, strict=True):
        parts += [text[place : item.start], replacement]
        place = item.end
    return "".join([*parts, text[place:]])


def holds(answer: str, held: Sequence[Held]) -> bool:
    """Whether ``answer`` has every term as often as it must, and every number, however it is written."""
    digits = Counter(_SEPARATORS.sub("", match.group()) for match in _NUMBER.finditer(answer))
    for number, count in Counter(_SEPARATORS.sub("", item.target) for item in held if item.number).items():
        if digits[number] < count:
            return False
    for target, count in Counter(item.target for item in held if not item.number).items():
        if len(_word_pattern(target).findall(answer)) < count:
            return False
    return True


def _in_pieces(text: str, held: Sequence[Held], translate: Callable[[str], str]) -> str:
    edges = [0, *(edge for item in held for edge in (item.start, item.end)), len(text)]
    parts = []
    for index, (start, end) in enumerate(pairwise(edges)):
        piece = text[start:end].strip()
        if index % 2:
            parts.append(held[index // 2].target)
        elif any(character.isalpha() for character in piece):
            parts.append(translate(piece).strip(" .,;"))
    return " ".join(part for part in parts if part)


def _word_pattern(phrase: str) -> re.Pattern[str]:
    """``phrase`` as whole words, in any case, with any white space between them."""
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.compile(f"{_BEFORE}{words}{_BEHIND}", re.IGNORECASE)


def _code_pattern(code: str) -> re.Pattern[str]:
    """A code as models give it back: in any case, perhaps with a space in it."""
    return re.compile(rf"{_BEFORE}{code[:2]}\s?{code[2:]}{_BEHIND}", re.IGNORECASE)

"""Recognised words made fit for translation, and translations made fit for speaking."""

from __future__ import annotations

import re
from collections.abc import Sequence

from babelcast.sts.asr.base import Word
from babelcast.sts.mt.base import primary

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
"""Scripts without spaces between words, for a character class: Thai, Lao, Burmese, Khmer, kana, Han."""
HANGUL = "\uac00-\ud7af"

_BETWEEN = re.compile(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")
_FIRST_PERSON = re.compile(r"\bi\b(?=$|[ '])")
_INITIALS = re.compile(r"\b[a-z]\.(?: [a-z]\.)+")
_QUESTION_OPENERS = {"what", "who", "why", "how", "where", "whose"}
_AUXILIARIES = {
    "is", "are", "was", "were", "do", "does", "did", "can", "could", "will", "would", "have", "has", "should",
}  # fmt: skip
_STOPS = frozenset(".!?…。！？")
_SINGLE_WORD_PROBABILITY = 0.2
_MEAN_PROBABILITY = 0.1


def believable(words: Sequence[Word]) -> bool:
    """False for what a recogniser makes of noise: nothing, one unlikely word, or unlikely words throughout."""
    if not words:
        return False
    mean = sum(word.probability for word in words) / len(words)
    return mean >= (_SINGLE_WORD_PROBABILITY if len(words) == 1 else _MEAN_PROBABILITY)


def source_text(words: Sequence[Word]) -> str:
    """The transcript: ``I`` and initials in capitals, as translation dictionaries have them; spaces as the script
    has them."""
    text = _BETWEEN.sub("", " ".join(word.text for word in words))
    text = _INITIALS.sub(lambda match: match.group().replace(". ", ".").upper(), text)
    return _FIRST_PERSON.sub("I", text)


def is_question(transcript: str) -> bool:
    """As the recogniser wrote it where it writes stops; else a guess from the first words of the sentence, careful: a
    wrong question sounds worse than a missed one."""
    if transcript.rstrip()[-1:] in _STOPS:
        return transcript.rstrip()[-1] in "?？"
    first, _, rest = transcript.lower().partition(" ")
    if first not in _QUESTION_OPENERS:
        return False
    return rest.split(" ")[0] in _AUXILIARIES or (first == "how" and rest.startswith(("many ", "much ", "long ")))


def ends_sentence(words: Sequence[Word]) -> bool:
    """Whether a recogniser that writes stops wrote one behind the last word."""
    return bool(words) and words[-1].text[-1:] in _STOPS


def spoken_text(translation: str, target: str, *, begins: bool = True, ends: bool, question: bool = False) -> str:
    """``translation`` with a capital where a sentence ``begins``, and the stop that gives it the right melody: ``.`` or
    ``?`` where it ``ends``, ``,`` where it was cut and runs on. A ``?`` or ``!`` that the translation has is kept."""
    text = translation.strip(" ,.;")
    if not text:
        return ""
    if begins:
        text = text[0].upper() + text[1:]
    if text[-1] in "?!":
        return text
    if question and ends:
        return f"¿{text}?" if primary(target) == "es" else f"{text}?"
    return text + ("." if ends else ",")

"""Translations that can't be right: what a neural translator does when it loses the thread. Pure.

The recogniser has guards of its own (:mod:`babelcast.sts.asr.guards`): no-speech probability, repetition, speed.
"""

from __future__ import annotations

import re

_DENSE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LONGEST_LOOP = 6
"""Words in the longest phrase whose repetition is looked for."""
_ROUNDS = 3
_LONGER = 3.0
"""Languages differ in length by less than a factor of two; beyond this the translation holds what was not said."""
_SLACK = 24
"""Characters that a short clause may grow by in any case: an abbreviation written out, an article."""


def plausible(transcript: str, translation: str) -> bool:
    """Whether ``translation`` may be one of ``transcript``: neither far too long nor a loop that the source lacks."""
    if _letters(translation) > _LONGER * _letters(transcript) + _SLACK:
        return False
    return longest_run(translation) < _ROUNDS or longest_run(transcript) >= _ROUNDS


def _letters(text: str) -> int:
    """Characters, those of scripts that write a syllable or a word in one as several."""
    return len(text) + 2 * len(_DENSE.findall(text))


def longest_run(text: str) -> int:
    """How often in a row the most repeated phrase comes; one word counts from its second repetition (no no no)."""
    words = [word.strip(".,;:!?¿¡").casefold() for word in text.split()]
    most = 1
    for length in range(1, _LONGEST_LOOP + 1):
        for start in range(len(words) - length):
            rounds = 1
            phrase = words[start : start + length]
            while words[start + rounds * length : start + (rounds + 1) * length] == phrase:
                rounds += 1
            most = max(most, rounds - (length == 1))
    return most


def speech_enough(speech_ms: int, words: int) -> bool:
    """Whether ``words`` fit into the sound in which the voice detector heard somebody: nobody says eight a second,
    and less than 160 ms is a click, a cough or a drum."""
    return speech_ms >= 160 and words * 1000 <= 8 * speech_ms + 1000

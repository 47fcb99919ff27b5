"""What a recogniser of the Whisper kind makes of silence, music and noise, and how to tell. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from babelcast.sts.asr.base import Word

_LONGEST_LOOP = 8
"""Words in the longest phrase whose repetition is looked for."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Bounds beyond which a segment is not believed. The first three are Whisper's own."""

    no_speech: float = 0.6
    """A segment is silence if the model says so with this probability and was not sure of its words."""
    log_probability: float = -1.0
    """Mean log probability of a token that counts as sure."""
    compression_ratio: float = 2.4
    """Text that compresses better than this repeats itself."""
    hopeless: float = -2.0
    """Mean log probability below which nothing is believed, whatever the model says of speech."""
    words_per_s: float = 8.0
    """Nobody speaks faster."""
    repeats: int = 3
    """A phrase that comes this often in a row is a loop; it is kept once."""


@dataclass(frozen=True, slots=True)
class SegmentScore:
    """``average`` is the mean log probability of a token, natural logarithm."""

    no_speech: float
    average: float
    compression_ratio: float


def believed(score: SegmentScore, guards: Guards) -> bool:
    """False for a segment that the model made up."""
    if score.no_speech > guards.no_speech and score.average < guards.log_probability:
        return False
    return score.compression_ratio <= guards.compression_ratio and score.average >= guards.hopeless


def without_loops(words: Sequence[Word], guards: Guards) -> list[Word]:
    """``words`` up to and with the first round of a phrase that comes ``guards.repeats`` times in a row.

    What follows a loop is thrown away with it: the model has lost the sound by then.
    """
    keys = [word.key for word in words]
    for start in range(len(keys)):
        for length in range(1, _LONGEST_LOOP + 1):
            phrase = keys[start : start + length]
            rounds = 1
            while keys[start + rounds * length : start + (rounds + 1) * length] == phrase:
                rounds += 1
            # a word said three times is a way of speaking, four times is not
            if len(phrase) == length and rounds >= guards.repeats + (length == 1):
                return list(words[: start + length])
    return list(words)


def too_fast(words: Sequence[Word], audio_ms: int, guards: Guards) -> bool:
    """More words than the sound has room for."""
    return len(words) > 3 and len(words) * 1000 > guards.words_per_s * max(audio_ms, 1)

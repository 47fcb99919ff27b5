"""When a word of a running recognition is final: once two passes in a row agree on it. Pure.

LocalAgreement-2 of Liu et al., "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial
Hypothesis Selection" (Interspeech 2020), with the treatment of overlaps that Macháček et al., "Turning Whisper into
Real-Time Transcription System" (2023), describe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from babelcast.sts.asr.base import Word

_OVERLAP_MS = 120
"""A word that begins this much before the end of the last final one may still be a new one: times jitter."""
_OVERLAP_WORDS = 5
"""Final words that a pass may hear once more at its beginning."""


class LocalAgreement:
    """One utterance's words over successive passes, all timed from the same origin.

    ``push`` each pass's words; what two passes in a row begin with alike becomes final and never changes again.
    Words are compared without capitals and punctuation; the newer pass's spelling and times are kept.
    """

    def __init__(self) -> None:
        self.final: list[Word] = []
        self._tail: list[Word] = []
        """The last pass's words behind the final ones."""

    @property
    def words(self) -> list[Word]:
        """Final words and the ones that may still change, in order."""
        return [*self.final, *self._tail]

    def push(self, hypothesis: Sequence[Word]) -> list[Word]:
        """Take a pass's words in; returns those that have become final by it."""
        fresh = self._after_final(hypothesis)
        agreed = 0
        while agreed < min(len(fresh), len(self._tail)) and fresh[agreed].key == self._tail[agreed].key:
            agreed += 1
        committed = [replace(word, final=True) for word in fresh[:agreed]]
        self.final += committed
        self._tail = [replace(word, final=False) for word in fresh[agreed:]]
        return committed

    def settle(self, until_ms: int) -> None:
        """Make the words that end by ``until_ms`` final: their sound will not be heard again."""
        count = sum(word.end_ms <= until_ms for word in self._tail)
        self.final += [replace(word, final=True) for word in self._tail[:count]]
        self._tail = self._tail[count:]

    def finish(self, hypothesis: Sequence[Word] | None = None) -> list[Word]:
        """Make all of it final: the words of a last pass (of the last one, if None) count as they are."""
        if hypothesis is not None:
            self._tail = self._after_final(hypothesis)
        self.final += [replace(word, final=True) for word in self._tail]
        self._tail = []
        return self.final

    def _after_final(self, hypothesis: Sequence[Word]) -> list[Word]:
        """The words of ``hypothesis`` that are not a repetition of final ones."""
        if not self.final:
            return list(hypothesis)
        edge = self.final[-1].end_ms - _OVERLAP_MS
        fresh = [
            word for word in hypothesis if word.start_ms >= edge or word.end_ms > self.final[-1].end_ms + _OVERLAP_MS
        ]
        for count in range(min(_OVERLAP_WORDS, len(self.final), len(fresh)), 0, -1):
            near = fresh[0].start_ms < self.final[-1].end_ms + 2 * _OVERLAP_MS
            if near and [word.key for word in self.final[-count:]] == [word.key for word in fresh[:count]]:
                return fresh[count:]
        return fresh

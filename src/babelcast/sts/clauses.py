"""When a clause is spoken: the commit policy. Pure.

Waiting longer gives the translator more context and the listener more delay. The rules, in ms since the clause began:

- A pause ends a clause. The longer the clause already is, the shorter the pause that will do.
- From ``min_clause_ms`` on, a running clause is cut at a word boundary of which the recogniser is sure, if it is a good
  one: in a gap, before a conjunction, before a word that opens a phrase, never between an article or a preposition and
  its noun. How good it must be falls as the clause grows, until at ``due_clause_ms`` any that does no harm will do.
- At ``max_clause_ms`` it is cut at the best boundary there is.

What lies behind a cut is heard again as the beginning of the next clause, so no word is lost or said twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from babelcast.sts.asr.base import Word

_CONJUNCTIONS = frozenset("and but because so which who when while if or although where before after until".split())
_OPENERS = frozenset(
    "in on at to for with from by of about into over under through during between without against".split()
)
# words that lean on the next one
_LEANING = frozenset(
    "a an the my your his her its our their this these those some any no every each very more most "
    "of to in on at for with from by about into over under through and or but if that which who when "
    "i you he she it we they is are was were be been has have had will would can could should may must not "
    "do does did said says say than as so old new".split()
)


@dataclass(frozen=True, slots=True)
class ClauseSettings:
    max_clause_ms: int = 4_000
    min_clause_ms: int = 1_600
    due_clause_ms: int = 3_200
    long_pause_ms: int = 350
    """Ends a clause of any length."""
    short_pause_ms: int = 120
    """Ends a clause of ``min_clause_ms`` or more."""
    settled_ms: int = 350
    """A partial word is taken as final when this much sound came after it."""
    min_part_ms: int = 1_300
    """A cut leaves at least this much before it."""

    @classmethod
    def up_to(cls, max_clause_ms: int) -> ClauseSettings:
        """The defaults, tightened for a client that wants clauses no longer than this."""
        standard = cls()
        return cls(
            max_clause_ms=max_clause_ms,
            min_clause_ms=min(standard.min_clause_ms, max_clause_ms * 3 // 5),
            due_clause_ms=min(standard.due_clause_ms, max_clause_ms * 4 // 5),
            min_part_ms=min(standard.min_part_ms, max_clause_ms // 2),
        )

    def score_needed(self, clause_ms: int) -> float:
        """How good a boundary must be (see :func:`_boundary_score`): from a conjunction's at ``min_clause_ms`` to
        a harmless one's at ``due_clause_ms``."""
        share = min(max((clause_ms - self.min_clause_ms) / (self.due_clause_ms - self.min_clause_ms), 0.0), 1.0)
        return _CONJUNCTION + share * (_HARMLESS - _CONJUNCTION)

    def pause_needed_ms(self, clause_ms: int) -> int:
        """The pause that ends a clause of ``clause_ms``: falls from ``long_pause_ms`` at 500 ms to
        ``short_pause_ms`` at ``min_clause_ms``."""
        share = min(max((clause_ms - 500) / (self.min_clause_ms - 500), 0.0), 1.0)
        return round(self.long_pause_ms + share * (self.short_pause_ms - self.long_pause_ms))


def pause_ends(settings: ClauseSettings, clause_ms: int, pause_ms: int) -> bool:
    """Whether the pause in progress ends the clause; ``clause_ms`` counts up to the last speech."""
    return pause_ms >= settings.pause_needed_ms(clause_ms)


def soft_cut(settings: ClauseSettings, partial: Sequence[Word], heard_ms: int) -> int | None:
    """Where a running clause should be cut already, in ms of the utterance; None while there is no place good enough.

    ``heard_ms`` is how much of the utterance was decoded.
    """
    best: tuple[float, int] | None = None
    for before, word in pairwise(partial):
        if word.start_ms < settings.min_part_ms or not _settled(settings, word, heard_ms):
            continue
        score = _boundary_score(before, word)
        if best is None or score >= best[0]:
            best = (score, word.start_ms)
    return best[1] if best and best[0] >= settings.score_needed(heard_ms) else None


def _settled(settings: ClauseSettings, word: Word, heard_ms: int) -> bool:
    return word.final or word.end_ms + settings.settled_ms <= heard_ms


def hard_cut(settings: ClauseSettings, words: Sequence[Word], heard_ms: int) -> int | None:
    """The best place to cut the final ``words`` of a clause that may not go on, in ms of the utterance.

    None where there is no word boundary: then all of it is one clause.
    """
    best: tuple[float, int] | None = None
    for before, word in pairwise(words):
        if word.start_ms < settings.min_part_ms or not _settled(settings, word, heard_ms):
            continue
        score = _boundary_score(before, word) + word.start_ms / heard_ms
        if best is None or score >= best[0]:
            best = (score, word.start_ms)
    if best is not None:
        return best[1]
    return words[-1].start_ms if len(words) > 1 else None


_GAP = 2.0
_CONJUNCTION = 1.5
_OPENER = 0.7
_HARMLESS = 0.0
_TORN = -2.0


def _boundary_score(before: Word, word: Word) -> float:
    score = _GAP if word.start_ms - before.end_ms >= 60 else _HARMLESS
    if before.text[-1:] in ",;:.!?":  # written by recognisers that punctuate
        score += _GAP
    if word.key in _CONJUNCTIONS:
        score += _CONJUNCTION
    elif word.key in _OPENERS:
        score += _OPENER
    if before.key in _LEANING:
        score += _TORN
    return score

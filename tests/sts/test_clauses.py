from __future__ import annotations

from dataclasses import replace

import pytest

from babelcast.sts.asr.base import Word
from babelcast.sts.clauses import ClauseSettings, hard_cut, pause_ends, soft_cut

pytestmark = pytest.mark.unit

SETTINGS = ClauseSettings()


def words(text: str, step_ms: int = 400) -> list[Word]:
    return [Word(word, place * step_ms, (place + 1) * step_ms) for place, word in enumerate(text.split())]


def test_the_longer_the_clause_the_shorter_the_pause_that_ends_it() -> None:
    needed = [SETTINGS.pause_needed_ms(clause_ms) for clause_ms in (200, 1_000, 2_000, 2_500, 9_000)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == SETTINGS.long_pause_ms and needed[-1] == SETTINGS.short_pause_ms
    assert not pause_ends(SETTINGS, clause_ms=600, pause_ms=200)
    assert pause_ends(SETTINGS, clause_ms=2_600, pause_ms=130)


def test_soft_cut_is_before_a_settled_conjunction() -> None:
    partial = words("the ship came into port and the people waved", 250)
    assert soft_cut(SETTINGS, partial[:7], heard_ms=2_000) is None  # it may still become another word
    assert soft_cut(SETTINGS, partial, heard_ms=2_200) is None  # too early in the clause
    partial = words("the ship came into port and the people waved", 300)
    assert soft_cut(SETTINGS, partial, heard_ms=2_500) == 5 * 300


def test_words_that_two_passes_agreed_on_are_settled_at_once() -> None:
    partial = [replace(word, final=True) for word in words("the ship came into port and", 300)]
    assert soft_cut(SETTINGS, partial, heard_ms=1_800) == 5 * 300


def test_the_longer_the_clause_the_less_good_a_place_will_do() -> None:
    partial = words("thousands of people have come together here today", 400)
    assert soft_cut(SETTINGS, partial, heard_ms=2_400) is None
    assert soft_cut(SETTINGS, partial, heard_ms=3_200) == 6 * 400  # before "here": no good place, but time is up
    phrase = words("thousands gathered yesterday in town", 500)
    assert soft_cut(SETTINGS, phrase[:4], heard_ms=2_300) is None
    assert soft_cut(SETTINGS, phrase, heard_ms=2_600) == 1_500


def test_a_written_comma_is_a_good_place() -> None:
    partial = words("when the water rose, everybody left it", 400)
    assert soft_cut(SETTINGS, partial, heard_ms=2_400) == 4 * 400


def test_soft_cut_leaves_no_dangling_word_and_no_crumb() -> None:
    assert soft_cut(SETTINGS, words("we saw him there in the and", 200), heard_ms=3_100) is None
    assert soft_cut(SETTINGS, words("yes and then we went home", 200), heard_ms=1_900) is None


def test_a_client_that_wants_short_clauses_gets_them() -> None:
    short = ClauseSettings.up_to(1_000)
    assert short.min_clause_ms < short.due_clause_ms < short.max_clause_ms == 1_000
    assert ClauseSettings.up_to(4_000) == ClauseSettings()


def test_hard_cut_prefers_the_phrase_boundary() -> None:
    found = words("the mayor said that the festival is good for the town hall today")
    assert hard_cut(SETTINGS, found, heard_ms=4_800) == 8 * 400  # before "for", not after "the"


def test_hard_cut_prefers_a_gap() -> None:
    found = [Word("one", 0, 800), Word("two", 800, 1_500), Word("three", 1_700, 2_500), Word("four", 2_500, 3_300)]
    assert hard_cut(SETTINGS, found, heard_ms=4_000) == 1_700


def test_hard_cut_without_a_boundary() -> None:
    assert hard_cut(SETTINGS, words("hello"), heard_ms=4_000) is None
    assert hard_cut(SETTINGS, [], heard_ms=4_000) is None
    assert hard_cut(SETTINGS, words("good evening"), heard_ms=4_000) == 400  # too early, but the only one

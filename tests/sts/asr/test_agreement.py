"""Local agreement on scripted hypotheses: 400 ms a word, passes that change their mind."""

from __future__ import annotations

import random

import pytest

from babelcast.sts.asr.agreement import LocalAgreement
from babelcast.sts.asr.base import Word

pytestmark = pytest.mark.unit


def heard(text: str, start_ms: int = 0) -> list[Word]:
    return [
        Word(word, start_ms + 400 * number, start_ms + 400 * number + 380) for number, word in enumerate(text.split())
    ]


def said(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def test_a_word_is_final_once_two_passes_agree() -> None:
    agreement = LocalAgreement()
    assert said(agreement.push(heard("we saw tent"))) == ""
    assert said(agreement.push(heard("we saw ten ships"))) == "we saw"
    assert [word.final for word in agreement.words] == [True, True, False, False]
    assert said(agreement.push(heard("we saw ten ships near"))) == "ten ships"
    assert said(agreement.final) == "we saw ten ships" and said(agreement.words) == "we saw ten ships near"


def test_final_words_stay_whatever_later_passes_say() -> None:
    agreement = LocalAgreement()
    for text in ("the cat", "the cat sat", "a hat sat down", "a hat sat down there"):
        agreement.push(heard(text))
    assert said(agreement.final) == "the cat sat down"
    assert said(agreement.finish(heard("a hat sat down there now"))) == "the cat sat down there now"


def test_capitals_and_punctuation_are_no_disagreement_and_the_newer_spelling_wins() -> None:
    agreement = LocalAgreement()
    agreement.push(heard("Good evening."))
    assert said(agreement.push(heard("good Evening, and"))) == "good Evening,"


def test_jitter_neither_doubles_nor_drops_a_word() -> None:
    agreement = LocalAgreement()
    agreement.push(heard("one two three four"))
    agreement.push(heard("one two three four five"))
    later = heard("one two three four five six", start_ms=90)
    agreement.push(later)
    agreement.push(heard("one two three four five six", start_ms=-80))
    assert said(agreement.finish()) == "one two three four five six"


def test_a_pass_over_a_later_window_repeats_nothing() -> None:
    agreement = LocalAgreement()
    agreement.push(heard("one two three four five"))
    agreement.push(heard("one two three four five"))
    agreement.push(heard("four five six seven", start_ms=1_200))
    agreement.push(heard("four five six seven eight", start_ms=1_200))
    assert said(agreement.finish()) == "one two three four five six seven eight"


def test_words_said_twice_are_kept_twice() -> None:
    agreement = LocalAgreement()
    agreement.push(heard("no no no"))
    agreement.push(heard("no no no no"))
    assert said(agreement.finish()) == "no no no no"


def test_settling_makes_old_words_final_without_a_second_pass() -> None:
    agreement = LocalAgreement()
    agreement.push(heard("one two three"))
    agreement.settle(800)
    assert said(agreement.final) == "one two" and said(agreement.words) == "one two three"


def test_an_empty_pass_takes_back_what_was_not_final() -> None:
    agreement = LocalAgreement()
    agreement.push(heard("what is this"))
    assert agreement.push([]) == [] and agreement.words == []
    assert agreement.finish() == []


def test_whatever_the_passes_say_final_words_only_grow() -> None:
    chance = random.Random(3)
    for _ in range(200):
        agreement, before = LocalAgreement(), 0
        for length in range(1, 12):
            words = [chance.choice(["a", "b", "c"]) for _ in range(length)]
            known = [(word.text, word.start_ms) for word in agreement.final]
            agreement.push(heard(" ".join(words), start_ms=chance.randint(-60, 60)))
            assert [(word.text, word.start_ms) for word in agreement.final][: len(known)] == known
            assert len(agreement.final) >= before
            before = len(agreement.final)
        assert all(word.final for word in agreement.finish())

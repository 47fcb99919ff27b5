from __future__ import annotations

import pytest

from babelcast.sts.asr.base import Word
from babelcast.sts.text import believable, is_question, source_text, spoken_text

pytestmark = pytest.mark.unit


def words(text: str, probability: float = 1.0) -> list[Word]:
    return [Word(word, 0, 0, probability) for word in text.split()]


def test_source_text_restores_what_dictionaries_need() -> None:
    assert source_text(words("i think i'm in it")) == "I think I'm in it"
    assert source_text(words("the u. s. president")) == "the U.S. president"
    assert source_text(words("我 们 看 到 OK 船")) == "我们看到 OK 船"
    assert source_text(words("배가 열 척")) == "배가 열 척"


def test_noise_is_not_believed() -> None:
    assert not believable([])
    assert not believable(words("ah", 0.05))
    assert not believable(words("of the it", 0.01))
    assert believable(words("hello", 0.6))
    assert believable(words("good evening and welcome", 0.4))


@pytest.mark.parametrize(
    ("transcript", "question"),
    [("what is the name of the ship", True), ("how many people came", True), ("what a day", False), ("", False)],
)
def test_questions(transcript: str, question: bool) -> None:
    assert is_question(transcript) is question


def test_spoken_text_gets_its_melody() -> None:
    assert spoken_text("el tiempo es tibio", "es", ends=True) == "El tiempo es tibio."
    assert spoken_text("el tiempo", "es", ends=False) == "El tiempo,"
    assert spoken_text("qué es el nombre", "es-419", ends=True, question=True) == "¿Qué es el nombre?"
    assert spoken_text(" . ", "es", ends=True) == ""


def test_what_goes_on_has_no_capital_of_ours() -> None:
    assert spoken_text("y tranquilo", "es", begins=False, ends=True) == "y tranquilo."
    assert spoken_text("Burnley gana", "es", begins=False, ends=False) == "Burnley gana,"


def test_a_question_or_call_of_the_translation_is_kept() -> None:
    assert spoken_text("¿dónde está?", "es", ends=True) == "¿dónde está?"
    assert spoken_text("what a goal!", "en", ends=False) == "What a goal!"

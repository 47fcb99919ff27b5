"""What a translation must keep, with translators that drop, change and invent."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from babelcast.sts.mt.base import Term
from babelcast.sts.mt.hold import HoldingTranslator, find_held, holds, translate_holding

pytestmark = pytest.mark.unit

TERMS = (("Babelcast", "Babelcast"), ("penalty shoot-out", "tanda de penaltis"))


class Counting:
    """A translator that is a function, and counts how often it is asked."""

    name = "counting"
    pairs = (("en", "es"),)

    def __init__(self, translate: Callable[[str], str]) -> None:
        self._translate = translate
        self.asked: list[str] = []

    def preload(self, source: str, target: str) -> None:
        pass

    def translate(self, text: str, source: str = "en", target: str = "es") -> str:
        self.asked.append(text)
        return self._translate(text)

    def close(self) -> None:
        pass


def test_nothing_to_hold_costs_one_call() -> None:
    inner = Counting(str.upper)
    assert translate_holding("we saw ships", TERMS, inner.translate) == "WE SAW SHIPS"
    assert inner.asked == ["we saw ships"]


def test_a_model_that_copies_needs_one_call() -> None:
    inner = Counting(lambda text: text)
    answer = translate_holding("the Penalty  shoot-out on babelcast at 20:45", TERMS, inner.translate)
    assert answer == "the tanda de penaltis on Babelcast at 20:45"
    assert len(inner.asked) == 1


def test_a_model_that_changes_the_term_is_given_codes() -> None:
    inner = Counting(lambda text: text.replace("tanda", "ronda").replace("shoot", "tiro"))
    answer = translate_holding("a penalty shoot-out", TERMS, inner.translate)
    assert answer == "a tanda de penaltis"
    assert inner.asked[1] == "a QX1"


@pytest.mark.parametrize("answer", ["Babelcastへようこそ", "Babelcast는 좋다", "欢迎来到Babelcast"])
def test_in_scripts_without_spaces_a_word_ends_where_its_own_letters_end(answer: str) -> None:
    inner = Counting(lambda text: answer)
    assert translate_holding("welcome to babelcast", TERMS, inner.translate) == answer
    assert len(inner.asked) == 1
    inner = Counting(lambda text: "QX1へようこそ" if "QX1" in text else "ようこそ")
    assert translate_holding("welcome to babelcast", TERMS, inner.translate) == "Babelcastへようこそ"


@pytest.mark.parametrize("mangled", ["qx1", "QX 1", "Qx1"])
def test_codes_that_come_back_changed_are_known(mangled: str) -> None:
    answers = {"a Babelcast show": "un programa", "a QX1 show": f"un programa {mangled}"}
    assert translate_holding("a Babelcast show", TERMS, answers.__getitem__) == "un programa Babelcast"


def test_a_model_that_drops_even_codes_is_given_the_pieces() -> None:
    inner = Counting(lambda text: re.sub(r"[^\w\s]|\w*\d\w*|Babelcast", "", text).lower().strip())
    answer = translate_holding("Tonight on Babelcast: 12 ships and 300 sailors.", TERMS, inner.translate)
    assert answer == "tonight on Babelcast 12 ships and 300 sailors"
    assert inner.asked[-3:] == ["Tonight on", "ships and", "sailors."]


def test_a_model_that_says_a_code_twice_is_not_believed() -> None:
    def translate(text: str) -> str:
        return "QX1 QX1" if "QX1" in text else "nada"

    assert translate_holding("Babelcast", TERMS, translate) == "Babelcast"


@pytest.mark.parametrize(
    ("source", "answer", "ok"),
    [
        ("1,000 boats", "1.000 barcos", True),
        ("1,000 boats", "1000 barcos", True),
        ("1 000 boats", "mil barcos", False),
        ("at 20:45", "a las 20.45", True),
        ("2 of 2", "2 de dos", False),
        ("2 of 2", "2 de 2", True),
        ("a 3.5 km run", "una carrera de 3,5 km", True),
        ("room 12", "sala 123", False),
        ("in 2026", "en 2026", True),
    ],
)
def test_numbers_however_they_are_written(source: str, answer: str, ok: bool) -> None:
    assert holds(answer, find_held(source, ())) is ok


def test_longer_terms_go_first_and_words_are_whole() -> None:
    terms = (("cup", "copa"), ("cup final", "final de copa"))
    found = find_held("the cup final, a cup and a cupboard", terms)
    assert [item.target for item in found] == ["final de copa", "copa"]


def test_terms_by_language_through_the_wrapper() -> None:
    term = Term("shoot-out", {"es": "penaltis", "pt-br": "pênaltis"})
    assert [term.for_language(tag) for tag in ("es-419", "pt-BR", "pt", "de")] == [
        "penaltis", "pênaltis", "shoot-out", "shoot-out",
    ]  # fmt: skip
    inner = Counting(lambda text: text)
    translator = HoldingTranslator(inner, [term])
    assert translator.translate("the shoot-out", "en", "es") == "the penaltis"
    assert translator.name == "counting" and translator.pairs == inner.pairs


def test_whatever_the_model_does_terms_and_numbers_are_there() -> None:
    for broken in ("", "bla bla", "QX1 QX1 QX2", "QX2 QX1 12", "⁇"):
        answer = translate_holding("Babelcast has 12 voices", TERMS, lambda text, broken=broken: broken)  # type: ignore[misc]
        assert "Babelcast" in answer and "12" in answer

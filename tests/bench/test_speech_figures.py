"""The figures of ``make bench-speech`` against values worked out by hand, and chrF's against sacreBLEU's."""

from __future__ import annotations

import pytest

import run as bench_run
from speech_figures import (
    Piece,
    Span,
    chrf,
    delays_of,
    end_offset,
    laal,
    start_offset,
    word_errors,
    words_of,
)
from speech_texts import TEXTS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("hypothesis", "reference", "score"),
    [  # sacreBLEU 2.6.0, chrF2|nc:6|nw:0|space:no
        (
            "Los miles de personas han venido, a la ciudad hoy para ver las formas viejas,",
            "Miles de personas han venido hoy a la ciudad para ver los viejos barcos y escuchar la música.",
            53.5014,
        ),
        ("Hola Todo el mundo", "Hola a todos y bienvenidos al estadio.", 13.1485),
        ("no", "nosotros", 23.4043),
        ("El tiempo es tibio.", "El tiempo es cálido.", 55.7838),
    ],
)
def test_chrf_is_sacrebleus(hypothesis: str, reference: str, score: float) -> None:
    assert chrf(hypothesis, reference) == pytest.approx(score, abs=1e-4)


def test_chrf_at_its_ends() -> None:
    assert chrf("El tiempo es cálido.", "El tiempo es cálido.") == pytest.approx(100)
    assert chrf("", "algo") == chrf("xyz", "algo") == 0


def test_words_that_are_missing_too_many_or_others_count_once_each() -> None:
    truth = words_of("The weather is warm, today.")
    assert truth == ["the", "weather", "is", "warm", "today"]
    assert word_errors(truth, truth) == 0
    assert word_errors(truth, words_of("weather is very cold today")) == 3
    assert word_errors(truth, []) == 5


def test_words_go_to_the_sentences_that_their_segment_dubs() -> None:
    sentences = [Span(0.0, 2.0), Span(2.0, 4.0)]
    pieces = [
        Piece(Span(1.0, 3.0), 4.0, ("three", "four", "five", "six")),
        Piece(Span(0.0, 1.0), 2.0, ("one", "two")),
        Piece(Span(3.0, 4.1), 5.0, ("seven",)),
        Piece(Span(9.0, 9.5), 10.0, ("of", "nothing")),
    ]
    assert delays_of(sentences, pieces) == [[2.0, 2.0, 4.0, 4.0], [2.0, 2.0, 3.0]]
    # a tenth of a second that a segment reaches into the next sentence is none of its words
    assert delays_of(sentences, [Piece(Span(0.0, 2.1), 3.0, ("a", "b"))]) == [[3.0, 3.0], []]


def test_offsets_are_those_of_the_first_and_the_last_word() -> None:
    assert start_offset([1.5, 2.0, 5.0]) == 1.5
    assert end_offset([1.5, 2.0, 5.0], source_s=4.0) == 1.0


def test_laal_by_hand() -> None:
    # four words over four seconds, one a second: each one a second behind an even pace
    assert laal([1.0, 2.0, 3.0, 4.0], source_s=4.0, reference_words=4) == pytest.approx(1.0)
    # τ is the first word after the source's end; what comes then does not count
    assert laal([1.0, 4.5, 9.0, 9.0], source_s=4.0, reference_words=4) == pytest.approx((1.0 + 3.5) / 2)
    # twice as many words as the reference are not rewarded: the pace is theirs, not the reference's
    assert laal([1.0, 1.0, 2.0, 2.0], source_s=2.0, reference_words=2) == pytest.approx((1.0 + 0.5 + 1.0) / 3)
    # and with fewer, the pace is the reference's
    assert laal([2.0, 2.0], source_s=4.0, reference_words=4) == pytest.approx((2.0 + 1.0) / 2)


def test_every_sentence_has_a_reference_of_its_own() -> None:
    for text in TEXTS.values():
        references = [reference for _, _, reference in text]
        assert len(set(references)) == len(text)
        assert all(reference[-1] in ".?!" and reference != said for _, said, reference in text)


def test_one_section_is_replaced_and_the_others_stay() -> None:
    before = "# Benchmarks\n\nhead\n\n## One\n\nold\n\n## Two\n\nkept\n"
    after = bench_run.replaced(before, "One", "## One\n\nnew\n")
    assert after == "# Benchmarks\n\nhead\n\n## One\n\nnew\n\n## Two\n\nkept\n"
    assert bench_run.replaced(after, "Three", "## Three\n\nmore\n") == after + "\n## Three\n\nmore\n"

"""Which source a sound speaks: the alignment alone."""

from __future__ import annotations

import itertools
import random

import pytest

from babelcast.speech.lineage import Lineage, Span
from babelcast.units import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.unit

STEP = 100 * NS_PER_MS


class Source:
    """Time goes on in steps of 100 ms; speech where ``runs`` (seconds) say so."""

    def __init__(self, lineage: Lineage, runs: list[tuple[float, float]]) -> None:
        self.lineage = lineage
        self.runs = runs
        self.now = 0

    def go_to(self, seconds: float) -> None:
        """Send source up to there; as much output comes."""
        while self.now < round(seconds * NS_PER_S):
            middle = (self.now + STEP / 2) / NS_PER_S
            speech = any(start <= middle < end for start, end in self.runs)
            self.lineage.sent(self.now, self.now + STEP, speech=speech, audible=speech)
            self.now += STEP
            self.lineage.received(self.now)

    def spoken(self, start_s: float, end_s: float, *, opens: bool = True, closes: bool = True) -> Span:
        """The span of output [start, end), asked for when it has come."""
        self.go_to(end_s + 0.3)
        span = self.lineage.span(round(start_s * NS_PER_S), round(end_s * NS_PER_S), opens=opens, closes=closes)
        assert span is not None
        return span


def seconds(span: Span) -> tuple[float, float]:
    return round(span.start_ns / NS_PER_S, 2), round(span.end_ns / NS_PER_S, 2)


def test_onset_speaks_onset_and_a_short_dub_the_whole_run() -> None:
    source = Source(Lineage(), [(1.0, 3.0)])
    assert seconds(source.spoken(4.0, 5.5)) == (1.0, 3.0)


def test_pieces_of_one_run_follow_each_other() -> None:
    source = Source(Lineage(), [(1.0, 8.0)])
    spans = [
        source.spoken(4.0, 6.0, closes=False),
        source.spoken(6.0, 8.0, opens=False, closes=False),
        source.spoken(8.0, 10.9, opens=False),
    ]
    assert [seconds(span) for span in spans] == [(1.0, 3.0), (3.0, 5.0), (5.0, 8.0)]


def test_the_lag_is_learnt_and_followed() -> None:
    source = Source(Lineage(), [(10.0 * n, 10.0 * n + 2) for n in range(1, 12)])
    for number in range(1, 12):
        lag = 2.0 + 0.4 * number
        span = source.spoken(10.0 * number + lag, 10.0 * number + lag + 2)
        assert seconds(span)[0] == 10.0 * number
    assert source.lineage.lag_s is not None and source.lineage.lag_s > 5.0


def test_a_run_that_was_not_translated_is_passed_over() -> None:
    source = Source(Lineage(), [(1.0, 2.0), (5.0, 6.0), (9.0, 10.0)])
    assert seconds(source.spoken(4.0, 5.0))[0] == 1.0
    assert seconds(source.spoken(12.0, 13.0))[0] == 9.0


def test_sentences_decide_where_the_lag_jumps() -> None:
    def spans(*, texts: bool) -> list[float]:
        source = Source(Lineage(), [(1.0, 2.0), (5.0, 6.0), (8.0, 9.0), (11.0, 12.0)])
        found = []
        for number, out in enumerate((4.0, 8.0, 12.8)):  # the third comes 4.8 s after its source, not 3
            source.go_to(out)
            if texts:
                source.lineage.heard(" one." * (number + 1 - source.lineage._sentence_in))
            found.append(seconds(source.spoken(out, out + 1.0))[0])
            if texts:
                source.lineage.said(" uno.")
                source.lineage.take_translation()
        return found

    assert spans(texts=True) == [1.0, 5.0, 8.0]


def test_nothing_is_spoken_for_silence() -> None:
    source = Source(Lineage(), [])
    source.go_to(5.0)
    assert source.lineage.span(4 * NS_PER_S, 5 * NS_PER_S, opens=True, closes=True) is None


def test_progress_waits_for_what_is_owed_and_not_for_ever() -> None:
    lineage = Lineage()
    source = Source(lineage, [(3.0, 4.0)])
    source.go_to(2.5)
    assert lineage.progress_ns(0) == pytest.approx(2.1 * NS_PER_S)
    source.go_to(4.5)
    lineage.heard("well.")
    source.go_to(9.0)
    assert lineage.progress_ns(0) == 3 * NS_PER_S and lineage.give_up() is None
    source.go_to(13.5)
    assert lineage.give_up() == (3 * NS_PER_S, 4 * NS_PER_S)
    assert lineage.progress_ns(0) == pytest.approx(13.1 * NS_PER_S)


def test_music_without_a_transcript_is_no_speech() -> None:
    lineage = Lineage()
    source = Source(lineage, [(1.0, 60.0)])
    source.go_to(30.0)
    assert lineage.progress_ns(0) == 26 * NS_PER_S
    assert lineage.give_up() is None


def test_transcripts_go_with_their_source() -> None:
    lineage = Lineage()
    source = Source(lineage, [(1.0, 2.0), (4.0, 5.0)])
    source.go_to(3.0)
    lineage.heard("first.")
    source.go_to(5.8)
    lineage.heard("second.")
    assert lineage.take_transcript(2 * NS_PER_S) == "first."
    assert lineage.take_transcript(5 * NS_PER_S) == "second."


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_monotonic_and_causal_whatever_comes(seed: int) -> None:
    rng = random.Random(seed)
    runs, at = [], 0.5
    while at < 110:
        length = rng.uniform(0.2, 9.0)
        runs.append((at, at + length))
        at += length + rng.uniform(0.1, 4.0)
    lineage = Lineage()
    source, out = Source(lineage, runs), 2.0
    spans, progress = [], 0
    while out < 105:
        length = rng.uniform(0.1, 2.5)
        source.go_to(out + length + rng.choice([0.0, 0.3, 2.0]))
        if rng.random() < 0.4:
            lineage.heard(rng.choice([" so", " s.", "? and!"]))
            lineage.said(rng.choice([" pues", " t.", "。"]))
            lineage.take_translation()
        done = lineage.progress_ns(0) if rng.random() < 0.3 else None
        progress = max(progress, done or 0)
        start, end = round(out * NS_PER_S), round((out + length) * NS_PER_S)
        if lineage.sent_until_ns is not None and progress < lineage.sent_until_ns - 2.5 * NS_PER_S:
            span = lineage.span(start, end, opens=rng.random() < 0.5, closes=rng.random() < 0.5)
            if span is not None:
                assert span.start_ns >= progress
                assert span.end_ns <= source.now
                spans.append(span)
        out += length + rng.uniform(0.0, 1.0)
    assert spans
    for before, after in itertools.pairwise(spans):
        assert before.start_ns < before.end_ns <= after.start_ns

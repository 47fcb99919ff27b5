from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from babelcast.demo import gates, lineage, loudness, phrases, video
from babelcast.demo.clip import Sentence
from babelcast.demo.progress import Progress
from babelcast.demo.recording import Unit
from babelcast.demo.result import Gate
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S, RATE

pytestmark = pytest.mark.unit


def units(names: str, first_ms: int = 0) -> tuple[Unit, ...]:
    return tuple(Unit(first_ms + 40 * k, first_ms + 40 * k, k == 0, name.encode()) for k, name in enumerate(names))


def entry(start: float, end: float, text: str, sequence: int = 0) -> SegmentEntry:
    return SegmentEntry(
        sequence=sequence,
        segment_id=str(sequence),
        language="es",
        source_start_ns=round(start * NS_PER_S),
        source_end_ns=round(end * NS_PER_S),
        placed_ns=round(start * NS_PER_S),
        duration_ns=NS_PER_S,
        tempo=1.0,
        dub_lag_s=3.0,
        dub_offset_s=0.0,
        transcript=text,
        translation="",
        voice="",
    )


SENTENCES = (
    Sentence(text="The game will begin.", voice="slt", start_s=1.0, end_s=3.0),
    Sentence(text="Stay with us.", voice="rms", start_s=3.5, end_s=5.0),
    Sentence(text="The rain has stopped.", voice="slt", start_s=5.4, end_s=7.4),
)


# -- pictures


def test_recordings_that_began_at_different_times_are_aligned() -> None:
    result = video.compare(units("abcdefgh"), units("cdef", first_ms=9_000))
    assert result.identical and result.compared == 4 and result.jitter_ms == 0
    mapped = video.time_map(units("abcdefgh"), units("cdef", first_ms=9_000), result)
    assert mapped is not None and mapped(0.080) == pytest.approx(9.0)
    assert mapped(0.0) == pytest.approx(8.92)  # before the first common picture its difference holds


@pytest.mark.parametrize(
    ("dubbed", "missing", "altered", "first"),
    [("abdefg", 1, 0, 2), ("abXdefg", 0, 1, 2), ("abcXdefg", 0, 1, 3), ("abg", 4, 0, 2), ("Xbcdefg", 0, 1, 0)],
)
def test_what_differs_is_counted(dubbed: str, missing: int, altered: int, first: int) -> None:
    result = video.compare(units("abcdefg"), units(dubbed))
    assert not result.identical
    assert (result.missing, result.altered, result.first_mismatch) == (missing, altered, first)


def test_other_pictures_have_nothing_in_common() -> None:
    result = video.compare(units("abc"), units("xyz"))
    assert not result.identical and video.time_map(units("abc"), units("xyz"), result) is None


def test_repeated_pictures_do_not_mislead_the_alignment() -> None:
    assert video.compare(units("sssabssscdsss"), units("sabssscd")).identical


def test_a_picture_that_comes_late_is_jitter() -> None:
    late = [*units("abcd")]
    late[2] = Unit(late[2].pts_ms + 7, late[2].dts_ms, False, late[2].digest)
    assert video.compare(units("abcd"), tuple(late)).jitter_ms == 7


# -- journal and manifest


def test_the_worker_clock_is_found_by_the_words() -> None:
    entries = [
        entry(0.1, 2.0, "the game will begin", 0),
        entry(2.4, 4.0, "stay with us", 1),
        entry(4.4, 6.3, "the rain has slopped", 2),
    ]
    found = lineage.find_lineage(entries, SENTENCES)
    assert found is not None and found.how == "text" and found.origin_s == pytest.approx(1.0, abs=0.11)
    assert found.onset(entries[1], SENTENCES) == 3.5  # the sentence's own start


def test_without_words_it_is_found_by_speech_and_pause() -> None:
    entries = [entry(s.start_s - 0.8, s.end_s - 0.8, "", k) for k, s in enumerate(SENTENCES)]
    found = lineage.find_lineage(entries, SENTENCES)
    assert found is not None and found.how == "spans" and found.origin_s == pytest.approx(0.8, abs=0.03)


def test_half_a_sentence_is_dubbed_and_less_is_not() -> None:
    assert lineage.covered(SENTENCES[0], [(2.0, 3.0)])
    assert not lineage.covered(SENTENCES[0], [(2.2, 3.0)])


def test_two_segments_for_one_span_are_one_too_many() -> None:
    assert lineage.spoken_twice([(0.0, 2.0), (2.0, 4.0), (1.9, 4.1)]) == 1
    assert lineage.spoken_twice([(0.0, 2.0), (1.9, 4.0)]) == 0


# -- phrases


def test_overlap_and_order_of_what_was_found() -> None:
    def phrase(start: float) -> phrases.Phrase:
        return phrases.Phrase(entry(0, 1, ""), start, 1.0, 0.9)

    assert phrases.overlaps([phrase(0.0), phrase(0.7), phrase(2.0)]) == 1
    assert phrases.overlaps([phrase(0.0), phrase(1.0)]) == 0
    assert phrases.out_of_order([phrase(0.0), phrase(3.0), phrase(2.0)]) == 1


# -- loudness


def test_loudness_of_the_reference_tone() -> None:
    """EBU Tech 3341, case 1: a stereo sine of 1 kHz at −23 dBFS is −23 LUFS."""
    tone = 10 ** (-23 / 20) * np.sin(2 * np.pi * 1_000 * np.arange(5 * RATE) / RATE)
    stereo = np.stack([tone, tone], axis=1).astype(np.float32)
    assert loudness.integrated_lufs(stereo) == pytest.approx(-23.0, abs=0.1)
    assert loudness.integrated_lufs(np.zeros((RATE, 2), np.float32)) == -70.0


# -- gates


def test_a_run_without_pictures_is_no_success() -> None:
    figures: dict[str, object] = {limit.figure: None for limit in gates.LIMITS}
    figures |= {"output_seconds": 60.0, "original_seconds": 60.0}
    assert not gates.verdict(gates.check(figures, {}, 6.0, 60.0))
    good = {**figures, "video_identical": True}
    assert gates.verdict(gates.check(good, {}, 6.0, 60.0))
    assert not gates.verdict(gates.check({**good, "output_seconds": 50.0}, {}, 6.0, 60.0))
    assert gates.verdict(gates.check({**good, "output_seconds": 50.0, "start_lost_s": 8.0}, {}, 6.0, 60.0))
    assert not gates.verdict(gates.check({**good, "start_lost_s": 11.0}, {}, 6.0, 60.0))
    assert not gates.verdict(gates.check({**good, "first_output_s": 11.1}, {}, 6.0, 60.0))


def gate(figure: str, value: float | bool | None, unit: str = "", limit: str = "≤ 1") -> Gate:
    return Gate(figure=figure, title=figure, value=value, unit=unit, limit=limit, passed=value is not None)


@pytest.mark.parametrize(
    ("figure", "value", "unit", "shown"),
    [
        ("dub_offset_p50_s", -0.004, "s", "0 s"),
        ("dub_lag_p50_s", 2.839, "s", "2.84 s"),
        ("av_offset_ms_median", -0.9, "ms", "−0.9 ms"),
        ("sentences_dubbed_ratio", 0.952, "", "95 %"),
        ("video_identical", True, "", "yes"),
        ("dub_repeated", 0.0, "", "0"),
        ("dub_repeated", None, "", "–"),
    ],
)
def test_figures_are_shown_as_a_person_reads_them(figure: str, value: float | None, unit: str, shown: str) -> None:
    assert gates.shown(gate(figure, value, unit)) == shown


def test_what_was_missed_and_not_measured_is_counted() -> None:
    checked = (gate("a", 1.0), gate("b", None).model_copy(update={"passed": None}), gate("c", None))
    assert gates.summary(checked) == "1 of 3 limits met, 1 missed, 1 not measured"


# -- progress

STATUS = {
    "state": "live",
    "delay_s": 6.0,
    "av_sync_delta_ms": -3.2,
    "targets": [{"output_state": "live", "dub_lag_s": 2.9, "fallback": "original", "fallback_seconds": 1.5}],
}
SEGMENT = {"sequence": 0, "language": "es", "transcript": "hello [all]", "translation": "hola", "dub_lag_s": 2.9}


def test_without_a_terminal_progress_is_plain_lines() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=False, width=80), 60) as progress:
        progress.update(0.5, None, [], 0)
        progress.update(1.0, STATUS, [SEGMENT], 4_000_000)
        progress.update(6.0, STATUS, [], 4_000_000)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and "starting" in lines[0] and "“hello [all]” → “hola”" in lines[1]
    assert "dub lag 2.9 s" in lines[2] and "fallback 1.5 s, original now" in lines[2] and "sync −3.2 ms" in lines[2]
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_progress_is_a_panel() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=100, _environ={"TERM": "xterm"}), 60) as progress:
        progress.update(12.0, STATUS, [SEGMENT], 4_000_000)
    assert "hello [all]" in out.getvalue() and "hola" in out.getvalue() and "12.0 / 60 s" in out.getvalue()


def test_once_all_is_published_the_panel_says_what_is_waited_for() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=80, _environ={"TERM": "xterm"}), 60) as progress:
        progress.update(63.0, STATUS, [SEGMENT], 4_000_000)
    assert "60.0 / 60 s  all is published, the rest is on its way" in out.getvalue()

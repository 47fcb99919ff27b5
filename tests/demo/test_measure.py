"""Every figure of the report on recordings whose truth is known: each must be right, and able to fail."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from babelcast.demo.measure import measure, read_journal, write_json
from babelcast.demo.result import Report
from babelcast.errors import BabelcastError
from tests.demo.synthetic import Flaws, make_inputs

pytestmark = pytest.mark.integration


def measured(folder: Path, clip: Path, flaws: Flaws) -> Report:
    report, _ = measure(make_inputs(folder, clip, flaws))
    return report


def failed(report: Report) -> set[str]:
    return {gate.figure for gate in report.gates if gate.passed is not True}


def test_a_good_recording_meets_every_limit(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws())
    assert report.passed and failed(report) == set() and report.reasons == {} and report.start_lost_s == 0.0
    assert report.dub_segments == report.dub_segments_found == report.sentences == 3
    assert report.sentences_dubbed_ratio == 1.0
    assert report.dub_offset_p50_s == pytest.approx(0.0, abs=0.01)
    assert report.dub_lag_p50_s == pytest.approx(3.1, abs=0.15)
    assert report.av_offset_ms_median == pytest.approx(0.0, abs=1.0)
    assert report.av_offset_ms_worst == pytest.approx(0.0, abs=2.0)
    assert (report.av_pairs, report.av_flashes) == (6, 6)
    assert report.video_identical and report.video_compared == 420 and report.video_jitter_ms == 0.0
    assert report.output_seconds == pytest.approx(14.0, abs=0.05)
    assert report.original_speech_left_db is not None and report.original_speech_left_db < -20
    assert report.background_kept_db == pytest.approx(0.0, abs=0.5)
    assert report.journal_placement_error_ms == pytest.approx(0.0, abs=1.0)


def test_a_dub_that_is_late_is_late(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(late_s=0.8))
    assert report.dub_offset_p50_s == pytest.approx(0.8, abs=0.01)
    assert failed(report) == {"dub_offset_p50_s"}


@pytest.mark.parametrize("early_ms", [40.0, -60.0])
def test_sound_that_is_off_its_pictures_is_seen_with_its_sign(
    tmp_path: Path, short_clip: Path, early_ms: float
) -> None:
    report = measured(tmp_path, short_clip, Flaws(sound_early_ms=early_ms))
    assert report.av_offset_ms_median == pytest.approx(early_ms, abs=1.0)
    assert failed(report) == {"av_offset_ms_median", "av_offset_ms_worst"}


def test_one_altered_access_unit_is_found(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(altered=True))
    assert failed(report) == {"video_identical"}
    assert (report.video_altered, report.video_missing, report.video_first_mismatch) == (1, 0, 39)


def test_one_lost_access_unit_is_found(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(lost=True))
    assert failed(report) == {"video_identical"}
    assert (report.video_altered, report.video_missing) == (0, 1)


def test_what_was_over_before_the_reader_joined_is_told_and_not_held_against_the_dub(
    tmp_path: Path, short_clip: Path
) -> None:
    report = measured(tmp_path, short_clip, Flaws(joined_s=4.0))
    assert report.start_lost_s == pytest.approx(4.0, abs=0.05)
    assert (report.sentences, report.sentences_before_start) == (2, 1)
    assert report.output_seconds == pytest.approx(10.0, abs=0.05) and report.passed


def test_three_seconds_of_silence_are_found(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(silence_s=3.0))
    assert report.silent_gap_max_s == pytest.approx(3.0, abs=0.05)
    assert failed(report) == {"silent_gap_max_s"}


def test_a_phrase_that_is_not_heard_is_not_dubbed_whatever_the_journal_says(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(missing=(1,)))
    assert (report.dub_segments, report.dub_segments_found) == (3, 2)
    assert [row.dubbed for row in report.sentence_rows] == [True, False, True]
    assert failed(report) == {"sentences_dubbed_ratio"}


def test_a_phrase_that_is_heard_twice_counts_as_repeated(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(repeated=0))
    assert report.dub_repeated == 1
    assert report.segments[0].offset_s == pytest.approx(0.0, abs=0.01)  # the first time counts


def test_phrases_in_the_wrong_order_are_counted(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(swapped=True))
    assert report.dub_out_of_order == 1 and "dub_out_of_order" in failed(report)


def test_the_original_voice_left_in_and_the_bed_taken_away_are_measured(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(original_gain=0.3, bed_gain=0.5))
    assert report.original_speech_left_db == pytest.approx(-10.5, abs=1.5)
    assert report.background_kept_db == pytest.approx(-6.0, abs=0.5)


def test_a_dub_that_was_sped_up_is_still_found(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(tempo=1.2))
    assert report.dub_segments_found == 3 and report.passed


def test_a_journal_that_is_wrong_about_a_place_is_told(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(journal_wrong_s=0.3))
    assert report.journal_placement_error_ms == pytest.approx(300, abs=2)
    assert report.dub_offset_p50_s == pytest.approx(0.0, abs=0.01)  # measured, not believed


def test_nothing_dubbed_fails_and_says_so(tmp_path: Path, short_clip: Path) -> None:
    report = measured(tmp_path, short_clip, Flaws(dub=False, original_gain=1.0))
    assert report.dub_segments == 0 and report.sentences_dubbed_ratio == 0.0
    assert not report.passed and "sentences_dubbed_ratio" in failed(report)
    assert report.original_speech_left_db == pytest.approx(0.0, abs=1.0)
    assert "journal holds no segment" in report.reasons["dub_segments_found"]


def test_a_clip_of_the_users_own_leaves_null_what_needs_the_manifest(tmp_path: Path, short_clip: Path) -> None:
    inputs = make_inputs(tmp_path, short_clip, Flaws())
    own = tmp_path / "own.mp4"
    own.write_bytes(short_clip.read_bytes())
    report, _ = measure(dataclasses.replace(inputs, clip=own))
    assert report.sentences_dubbed_ratio is None and report.av_offset_ms_median is None
    assert "not the demo's own clip" in report.reasons["sentences_dubbed_ratio"]
    assert report.dub_segments_found == 3 and report.video_identical
    assert report.passed  # nothing failed; the gates that could not be measured say why
    assert all(gate.note for gate in report.gates if gate.passed is None)


def test_the_voice_of_another_engine_is_not_looked_for(tmp_path: Path, short_clip: Path) -> None:
    inputs = make_inputs(tmp_path, short_clip, Flaws())
    entries = tuple(entry.model_copy(update={"voice": "tone:440"}) for entry in inputs.entries)
    report, _ = measure(dataclasses.replace(inputs, entries=entries))
    assert report.dub_segments_found is None and report.dub_offset_p50_s is None
    assert "tone:440" in report.reasons["dub_segments_found"]
    assert report.sentences_dubbed_ratio == 1.0  # by the journal


def test_a_recording_that_holds_nothing_is_an_error(tmp_path: Path, short_clip: Path) -> None:
    inputs = make_inputs(tmp_path, short_clip, Flaws())
    inputs.dubbed.write_bytes(b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
    with pytest.raises(BabelcastError, match="neither pictures nor sound"):
        measure(inputs)


def test_an_mp4_measures_like_its_flv(tmp_path: Path, short_clip: Path) -> None:
    inputs = make_inputs(tmp_path, short_clip, Flaws())
    report, _ = measure(dataclasses.replace(inputs, original=short_clip))
    assert report.video_identical and report.passed


def test_the_json_holds_what_was_promised(tmp_path: Path, short_clip: Path) -> None:
    write_json(tmp_path / "report.json", measured(tmp_path, short_clip, Flaws()))
    written = json.loads((tmp_path / "report.json").read_text())
    promised = (
        "dub_segments dub_lag_p50_s dub_lag_p95_s dub_offset_p50_s dub_offset_p95_s sentences_dubbed_ratio "
        "av_offset_ms_median av_offset_ms_worst video_identical fallback_seconds silent_gap_max_s output_seconds "
        "media_server"
    )
    assert all(written[name] is not None for name in promised.split())


def test_a_journal_with_a_torn_line_is_read_up_to_it(tmp_path: Path, short_clip: Path) -> None:
    entries = make_inputs(tmp_path, short_clip, Flaws()).entries
    lines = [entry.model_dump_json() for entry in entries]
    journal = tmp_path / "segments.es.jsonl"
    journal.write_text("\n".join([*lines[:2], lines[2][:40]]))
    assert read_journal(journal) == entries[:2]
    assert read_journal(tmp_path / "absent.jsonl") == ()

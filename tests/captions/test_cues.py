"""Cues from segments: their clock, their broadcasts, their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from babelcast.captions.cues import Broadcast, Cue, OnAirMark, broadcasts, latest, tidy
from babelcast.captions.formats import srt, transcript, vtt
from babelcast.captions.journal import read_broadcasts, rotated
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S
from babelcast.worker.journal import Journal

pytestmark = pytest.mark.unit

AIR = 1_795_000_000.0


def entry(
    start_s: float,
    *,
    zero: float | None = AIR,
    late_s: float | None = 0.5,
    language: str = "es",
    sequence: int = 0,
    text: str = "hola",
) -> SegmentEntry:
    """A second of speech, 0.8 s of dub; ``late_s`` None: dropped."""
    start = round(start_s * NS_PER_S)
    return SegmentEntry(
        sequence=sequence,
        segment_id=f"{language}-{start_s:g}",
        language=language,
        source_start_ns=start,
        source_end_ns=start + NS_PER_S,
        placed_ns=None if late_s is None else start + round(late_s * NS_PER_S),
        duration_ns=800_000_000,
        tempo=1.0,
        dub_lag_s=2.0,
        dub_offset_s=late_s or 0.0,
        transcript="hello",
        translation=text,
        voice="v",
        air_unix_s=None if zero is None else zero + start_s,
    )


def mark(at: float, languages: tuple[str, ...] = ("es",)) -> OnAirMark:
    return OnAirMark(began_unix_s=at, source_language="en", languages=languages)


def times(cues: list[Cue]) -> list[tuple[float, float, str]]:
    return [(round(cue.start_s, 3), round(cue.end_s, 3), cue.text) for cue in cues]


def test_the_dub_stands_where_it_is_heard_and_the_original_at_its_pictures() -> None:
    (found,) = broadcasts([mark(AIR)], [entry(3.0)])
    assert times(found.cues("es")) == [(3.5, 4.3, "hola")]
    assert times(found.cues("en")) == [(3.0, 4.0, "Hello")]


def test_a_dropped_segment_was_said_and_not_heard() -> None:
    (found,) = broadcasts([mark(AIR)], [entry(3.0, late_s=None)])
    assert found.cues("es") == []
    assert times(found.cues("en")) == [(3.0, 4.0, "Hello")]


def test_a_restarted_worker_goes_on_with_the_broadcast_though_its_source_time_begins_anew() -> None:
    entries = [entry(3.0), entry(2.0, zero=AIR + 60.0)]
    (found,) = broadcasts([mark(AIR), mark(AIR + 60.0)], entries)
    assert times(found.cues("es")) == [(3.5, 4.3, "hola"), (62.5, 63.3, "hola")]


def test_half_an_hour_without_a_worker_is_the_end_and_silence_is_not() -> None:
    quiet = [entry(1.0), entry(4_000.0)]
    assert len(broadcasts([mark(AIR)], quiet)) == 1
    found = broadcasts([mark(AIR), mark(AIR + 1_900.0)], [entry(1.0), entry(2.0, zero=AIR + 1_900.0)])
    assert [times(each.cues("es")) for each in found] == [[(1.5, 2.3, "hola")], [(2.5, 3.3, "hola")]]


def test_a_broadcast_without_a_word_is_there() -> None:
    found = broadcasts([mark(AIR), mark(AIR + 9_000.0)], [entry(1.0)])
    assert [each.zero_unix_s for each in found] == [AIR, AIR + 9_000.0]
    assert found[-1].cues("es") == [] and found[-1].all_languages == ("en", "es")


def test_a_file_has_the_source_timeline_as_its_clock() -> None:
    (found,) = broadcasts([], [entry(3.0, zero=None)])
    assert found.zero_unix_s is None
    assert times(found.cues("es")) == [(3.5, 4.3, "hola")]


def test_a_language_that_joins_later_and_one_that_leaves_are_both_there() -> None:
    marks = [mark(AIR, ("es", "de")), mark(AIR + 60, ("fr",))]
    entries = [
        entry(1.0),
        entry(1.0, language="de", text="hallo"),
        entry(1.0, zero=AIR + 60, language="fr", text="bon"),
    ]
    (found,) = broadcasts(marks, entries)
    assert set(found.all_languages) == {"en", "es", "de", "fr"}
    assert times(found.cues("fr")) == [(61.5, 62.3, "bon")]
    assert times(found.cues("en")) == [(1.0, 2.0, "Hello"), (61.0, 62.0, "Hello")], "of all targets, each once"


def test_cues_never_overlap_and_short_ones_can_be_read() -> None:
    cues = tidy([Cue(5.0, 5.1, "b"), Cue(1.0, 3.0, "a"), Cue(2.0, 2.5, "c"), Cue(-3, -1, "gone"), Cue(9, 10, " ")])
    assert times(cues) == [(1.0, 2.0, "a"), (2.0, 2.7, "c"), (5.0, 5.7, "b")]
    assert times(latest(cues, 1.0, 3.0)) == [(2.0, 2.7, "c"), (5.0, 5.7, "b")]


def test_the_files() -> None:
    cues = [Cue(0.5, 2.0, "a < b & --> c"), Cue(3_725.25, 3_726.0, "a line that is too long for one line of a caption")]
    text = vtt(cues, zero_unix_s=AIR)
    assert text.startswith("WEBVTT\n\nNOTE 00:00:00.000 was on air at 2026-11-18T")
    assert "00:00:00.500 --> 00:00:02.000\na &lt; b &amp; --&gt; c\n" in text
    assert "01:02:05.250 --> 01:02:06.000\na line that is too long\nfor one line of a caption\n" in text
    assert srt(cues).startswith("1\n00:00:00,500 --> 00:00:02,000\na ‹ b & --› c\n\n2\n01:02:05,250")
    assert vtt([]) == "WEBVTT\n" and srt([]) == ""


def test_the_transcript_has_both_languages() -> None:
    (found,) = broadcasts([mark(AIR)], [entry(3.0), entry(5.0, late_s=None)])
    document = json.loads(json.dumps(transcript("show", found)))
    assert document["source_language"] == "en" and document["target_languages"] == ["es"]
    first, second = document["segments"]
    assert (first["start_s"], first["end_s"], first["dub_start_s"], first["dub_end_s"]) == (3.0, 4.0, 3.5, 4.3)
    assert (first["transcript"], first["translation"], first["voice"]) == ("hello", "hola", "v")
    assert second["dub_start_s"] is None


def test_the_journal_is_bounded_and_what_it_has_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 10, rotate_bytes=2_000)
    journal.mark(mark(AIR))
    for index in range(60):
        journal.add(entry(float(index), sequence=index))
    journal.close()
    files = rotated(tmp_path / "segments.es.jsonl")
    assert len(files) == 4 and all(file.stat().st_size < 2_600 for file in files)
    (found,) = read_broadcasts(tmp_path)
    starts = [cue.start_s for cue in found.cues("es")]
    assert starts[-1] == 59.5 and starts == sorted(starts) and 10 < len(starts) < 60


def test_a_half_written_line_costs_itself_only(tmp_path: Path) -> None:
    file = tmp_path / "segments.es.jsonl"
    file.write_text(entry(1.0).model_dump_json() + "\n" + entry(2.0).model_dump_json()[:50])
    journal = Journal(tmp_path, 10)
    journal.add(entry(3.0))
    journal.close()
    (found,) = read_broadcasts(tmp_path)
    assert [cue.start_s for cue in found.cues("es")] == [1.5, 3.5]


def test_nothing_where_there_is_no_journal(tmp_path: Path) -> None:
    assert read_broadcasts(tmp_path / "none") == []
    assert Broadcast(None, "en", ("es",)).cues("es") == []


def test_captions_are_in_order_and_never_overlap() -> None:
    text = vtt([Cue(3.0, 5.0, "two"), Cue(0.5, 3.6, "one <b>"), Cue(9, 9, " ")])
    assert text.splitlines() == [
        "WEBVTT",
        "",
        "00:00:00.500 --> 00:00:03.000",
        "one &lt;b&gt;",
        "",
        "00:00:03.000 --> 00:00:05.000",
        "two",
    ]


def test_a_long_caption_becomes_two_lines() -> None:
    text = vtt([Cue(3_661, 3_662, "Los visitantes necesitan un resultado bueno para quedarse")])
    lines = text.splitlines()
    assert lines[2].startswith("01:01:01.000") and len(lines) == 5 and all(len(line) <= 42 for line in lines[3:])

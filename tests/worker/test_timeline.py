"""The source timeline: connections, jumps and lateness, on made-up timestamps."""

from __future__ import annotations

import itertools

import pytest

from babelcast.units import NS_PER_MS, NS_PER_S
from babelcast.worker.timeline import SourceTimeline

pytestmark = pytest.mark.unit

PICTURE = 40 * NS_PER_MS
BLOCK = 100 * NS_PER_MS
LATE_LIMIT = 5 * NS_PER_S


def feed(
    timeline: SourceTimeline, running_ns: int, wall_ns: int, seconds: float, *, audio_offset_ns: int = 0
) -> list[tuple[int, int]]:
    """Units in real time from the given running and wall time; gives (video, audio) source times."""
    placed = []
    for i in range(round(seconds * 10)):
        at = i * BLOCK
        video = timeline.place("video", running_ns + at, BLOCK, wall_ns + at)
        audio = timeline.place("audio", running_ns + at + audio_offset_ns, BLOCK, wall_ns + at)
        placed.append((video, audio))
    return placed


def test_source_time_begins_at_zero_whatever_the_timestamps() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(90 * NS_PER_S, 1_000), (90 * NS_PER_S + PICTURE, 1_000 + PICTURE)])
    assert timeline.place("video", 90 * NS_PER_S, PICTURE, 1_000) == 0
    assert timeline.epoch_ns == 1_000


def test_a_burst_at_the_start_does_not_add_to_the_delay() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    # two seconds that the server had kept come at once; the last unit is the live one
    timeline.begin([(i * PICTURE, 7_000) for i in range(51)])
    assert timeline.epoch_ns == 7_000 - 50 * PICTURE


def test_a_new_connection_goes_on_at_the_wall_clock() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(0, 0)])
    feed(timeline, 0, 0, 2.0)
    timeline.begin([(55 * NS_PER_S, 7 * NS_PER_S)])  # five seconds later, other timestamps
    assert timeline.place("video", 55 * NS_PER_S, PICTURE, 7 * NS_PER_S) == 7 * NS_PER_S


def test_a_new_connection_never_goes_back() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(0, 0)])
    feed(timeline, 0, 0, 2.0)
    end = timeline.end_ns
    # its burst would lie before what has already come
    timeline.begin([(0, 2 * NS_PER_S), (NS_PER_S, 2 * NS_PER_S)])
    assert timeline.place("video", 0, PICTURE, 2 * NS_PER_S) == end


@pytest.mark.parametrize("restart_at_s", [0, 3_600])
def test_both_tracks_jump_to_the_same_place(restart_at_s: int) -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(100 * NS_PER_S, 0)])
    feed(timeline, 100 * NS_PER_S, 0, 2.0, audio_offset_ns=3 * NS_PER_MS)
    placed = feed(timeline, restart_at_s * NS_PER_S, 2 * NS_PER_S, 2.0, audio_offset_ns=3 * NS_PER_MS)
    assert timeline.rebases == 1
    assert [audio - video for video, audio in placed] == [3 * NS_PER_MS] * len(placed)
    assert placed[0][0] == pytest.approx(2 * NS_PER_S, abs=10 * NS_PER_MS)
    assert all(b[0] - a[0] == BLOCK for a, b in itertools.pairwise(placed))


def test_a_pause_of_the_source_is_no_jump() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(0, 0)])
    feed(timeline, 0, 0, 1.0)
    placed = feed(timeline, 6 * NS_PER_S, 6 * NS_PER_S, 1.0)
    assert timeline.rebases == 0
    assert placed[0] == (6 * NS_PER_S, 6 * NS_PER_S)


def test_a_source_that_lost_time_for_good_is_rebased_once() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(0, 0)])
    feed(timeline, 0, 0, 1.0)
    # it stood still for 8 s and goes on where it was: later than the delay allows
    placed = feed(timeline, NS_PER_S, 9 * NS_PER_S, 3.0)
    assert timeline.rebases == 1
    assert placed[-1][0] == pytest.approx(9 * NS_PER_S + 2_900 * NS_PER_MS, abs=NS_PER_MS)
    assert placed[-1][0] == placed[-1][1]


def test_one_late_unit_moves_nothing() -> None:
    timeline = SourceTimeline(LATE_LIMIT)
    timeline.begin([(0, 0)])
    feed(timeline, 0, 0, 1.0)
    assert timeline.place("video", NS_PER_S, PICTURE, 9 * NS_PER_S) == NS_PER_S
    feed(timeline, NS_PER_S + PICTURE, NS_PER_S + PICTURE, 2.0)
    assert timeline.rebases == 0


def test_a_file_has_no_wall_clock() -> None:
    timeline = SourceTimeline(None)
    timeline.begin([(0, 5)])
    for i in range(100):  # all at once, then nothing for a minute
        assert timeline.place("video", i * PICTURE, PICTURE, 5) == i * PICTURE
    assert timeline.place("video", 100 * PICTURE, PICTURE, 60 * NS_PER_S) == 100 * PICTURE

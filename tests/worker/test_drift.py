"""A source whose clock runs fast or slow, on a virtual clock."""

from __future__ import annotations

import itertools
import random

import pytest

from babelcast.units import NS_PER_MS, NS_PER_S
from babelcast.worker.drift import MAX_SLEW_PPM, DriftCorrection
from babelcast.worker.timeline import SourceTimeline

pytestmark = pytest.mark.unit

HOUR_S = 3_600


def drifting(
    ppm: float, seconds: int, *, per_second: int = 2, jitter_ns: int = 0
) -> tuple[SourceTimeline, list[tuple[int, int, int]]]:
    """A source whose clock makes ``1 + ppm/1e6`` seconds in one of ours; (wall, running, source) times."""
    timeline, rng = SourceTimeline(5 * NS_PER_S), random.Random(1)
    timeline.begin([(0, 0)])
    unit, seen = NS_PER_S // per_second, []
    for i in range(seconds * per_second):
        running = i * unit
        wall = round(running / (1 + ppm / 1e6)) + rng.randint(0, jitter_ns)
        seen.append((wall, running, timeline.place("video", running, unit, wall)))
    return timeline, seen


@pytest.mark.parametrize("ppm", [-500, 500])
def test_ten_hours_off_by_500_ppm_are_followed_without_a_jump(ppm: int) -> None:
    timeline, seen = drifting(ppm, 10 * HOUR_S, jitter_ns=80 * NS_PER_MS)
    assert timeline.rebases == 0
    late = [wall - source for wall, _, source in seen]
    # 18 s of drift in all; never more than 50 ms of it (and the network's 80 ms) show
    assert -50 * NS_PER_MS < min(late) and max(late) < 130 * NS_PER_MS
    for (_, running, source), (_, next_running, next_source) in itertools.pairwise(seen):
        step = next_running - running
        assert abs(next_source - source - step) <= step * MAX_SLEW_PPM / 1e6 + 1
    assert timeline.lost_for_ns(seen[-1][2]) is None


@pytest.mark.parametrize("ppm", [-4_000, 4_000])
def test_an_encoder_that_is_far_off_is_followed_too(ppm: int) -> None:
    timeline, seen = drifting(ppm, HOUR_S, per_second=10)
    assert timeline.rebases == 0
    assert max(abs(wall - source) for wall, _, source in seen) < 400 * NS_PER_MS


def test_a_steady_source_is_not_touched() -> None:
    timeline, seen = drifting(0, 600, per_second=25)
    assert all(running == source for _, running, source in seen)
    assert timeline.drift_ns == 0


def test_jitter_alone_moves_a_source_by_a_few_milliseconds_at_most() -> None:
    timeline, _ = drifting(0, 600, per_second=25, jitter_ns=200 * NS_PER_MS)
    assert abs(timeline.drift_ns) < 15 * NS_PER_MS


def test_a_pause_gives_no_leave_for_a_step() -> None:
    drift = DriftCorrection()
    for i in range(400):
        drift.step(i * NS_PER_S // 10, 0)
    moves = [drift.step((40 + 60 + i) * NS_PER_S, 4 * NS_PER_S) for i in range(60)]
    assert max(abs(move) for move in moves) <= NS_PER_S * MAX_SLEW_PPM // 1_000_000


def test_gaps_of_the_source_are_remembered() -> None:
    timeline = SourceTimeline(5 * NS_PER_S)
    assert timeline.lost_for_ns(0) is None
    timeline.begin([(0, 0)])
    for i in range(20):
        timeline.place("video", i * NS_PER_S // 10, NS_PER_S // 10, i * NS_PER_S // 10)
    assert timeline.lost_for_ns(2 * NS_PER_S + 400 * NS_PER_MS) is None
    assert timeline.lost_for_ns(5 * NS_PER_S) == 3 * NS_PER_S
    timeline.begin([(0, 9 * NS_PER_S)])
    for i in range(20):
        timeline.place("audio", i * NS_PER_S // 10, NS_PER_S // 10, 9 * NS_PER_S + i * NS_PER_S // 10)
    assert timeline.lost_for_ns(5 * NS_PER_S) == 3 * NS_PER_S, "still, though the source is back"
    assert timeline.lost_for_ns(NS_PER_S) is None
    assert timeline.lost_for_ns(10 * NS_PER_S) is None

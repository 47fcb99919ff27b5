"""Two hours of a programme on the virtual clock, with a backend that says a fifth more than the speaker did."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from babelcast.audio.fade import JOIN
from babelcast.audio.schedule import Dropped, DubTrack, Placement, ScheduleSettings
from babelcast.audio.stretch import stretched_length
from babelcast.units import RATE, DubSegment, Pcm, samples_to_ns

pytestmark = pytest.mark.unit

S = RATE
HOURS = 2.0
DELAY_S = 6.0
BLOCK = S // 10
SOUND = np.full(10 * S, 0.1, np.float32)


def cheap(voice: Pcm, tempo: float) -> Pcm:
    """As long as stretched speech, at none of its cost."""
    return SOUND[: stretched_length(len(voice), tempo)]


def evening(seed: int, pause_s: tuple[float, float], breath_every: int) -> tuple[list[tuple[int, DubSegment]], int]:
    """(arrival, segment) in order of arrival, times in samples; and the end. Clauses of 1 to 5 s, a pause from
    ``pause_s`` after each, 3 to 8 s after every ``breath_every``-th (a replay, a jingle)."""
    rng = np.random.default_rng(seed)
    at, i, spoken = S, 0, []
    while at < HOURS * 3_600 * S:
        length = int(rng.uniform(1.0, 5.0) * S)
        dub = SOUND[: int(1.2 * length)]
        segment = DubSegment(f"s{i}", i, samples_to_ns(at), samples_to_ns(at + length), dub, RATE)
        spoken.append((at + length + int(rng.uniform(1.0, 3.5) * S), segment))
        i += 1
        at += length + int((rng.uniform(3.0, 8.0) if i % breath_every == 0 else rng.uniform(*pause_s)) * S)
    arrivals = np.maximum.accumulate([arrival for arrival, _ in spoken])
    return [(int(a), segment) for a, (_, segment) in zip(arrivals, spoken, strict=True)], at


@pytest.mark.parametrize(
    ("name", "pause_s", "breath_every"),
    [("realistic pauses", (0.2, 1.2), 12), ("hardly any pauses", (0.05, 0.2), 1_000)],
)
def test_the_end_offset_stays_bounded_for_two_hours(name: str, pause_s: tuple[float, float], breath_every: int) -> None:
    segments, end = evening(3, pause_s, breath_every)
    track = DubTrack(stretcher=cheap)
    settled: list[Placement | Dropped] = []
    upcoming = iter([*segments, (1 << 62, segments[-1][1])])
    arrival, segment = next(upcoming)
    heard = 0
    for playhead in range(0, end + 10 * S, BLOCK):
        while arrival <= playhead + DELAY_S * S:
            track.add(segment, playhead)
            arrival, segment = next(upcoming)
        voice, active = track.read(playhead, BLOCK)
        heard += int(np.count_nonzero(voice)) if active else 0
        settled += track.take_settled()
    placed = [verdict for verdict in settled if isinstance(verdict, Placement)]
    dropped = [verdict for verdict in settled if isinstance(verdict, Dropped)]
    assert len(settled) == len(segments)

    ends_s = np.array([(v.start + v.duration) / S - v.segment.source_end_ns / 1e9 for v in placed])
    quarters = np.array_split(ends_s, 8)
    tempos = np.array([v.tempo for v in placed])
    print(
        f"{name}: {len(segments)} segments, {len(dropped)} dropped; end offset median {np.median(ends_s):.2f} s, "
        f"worst {ends_s.max():.2f} s, by quarter of an hour {[round(float(np.median(q)), 2) for q in quarters]}; "
        f"tempo median {np.median(tempos):.2f}, most {tempos.max():.2f}, "
        f"largest step {np.abs(np.diff(tempos)).max():.2f}"
    )
    assert len(dropped) <= len(segments) // 100
    assert ends_s.max() < 2.5
    assert max(np.median(q) for q in quarters) < np.median(quarters[0]) + 0.3  # it doesn't grow
    assert [v.segment.sequence for v in placed] == sorted(v.segment.sequence for v in placed)
    gap = round(ScheduleSettings().gap_s * S)
    for before, after in pairwise(placed):
        assert after.start >= before.start + before.duration + gap or (
            after.start == before.start + before.duration - JOIN  # speech that was cut in its middle is crossfaded
        )
    assert heard == pytest.approx(sum(v.duration for v in placed), rel=0.02)
    assert tempos.max() <= 1.45

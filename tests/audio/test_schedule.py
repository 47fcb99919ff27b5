from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.audio.signals import segment, sine, worst_step_db

from babelcast.audio.fade import JOIN
from babelcast.audio.schedule import Dropped, DubTrack, Placement, ScheduleSettings
from babelcast.audio.stretch import stretch, stretched_length
from babelcast.units import RATE, DubSegment, Pcm, ns_to_samples, samples_to_ns

pytestmark = pytest.mark.unit

S = RATE  # a second


def cheap(voice: Pcm, tempo: float) -> Pcm:
    """As long as stretched speech, at none of its cost."""
    return np.resize(voice, stretched_length(len(voice), tempo))


def placed(verdict: Placement | Dropped) -> Placement:
    assert isinstance(verdict, Placement)
    return verdict


def play(track: DubTrack, start: int, stop: int, block: int = 4_800) -> Pcm:
    return np.concatenate([track.read(pos, min(block, stop - pos))[0] for pos in range(start, stop, block)])


def test_an_early_segment_waits_for_its_place() -> None:
    track = DubTrack()
    verdict = placed(track.add(segment(4 * S, 6 * S, 2 * S), playhead=S))
    assert (verdict.start, verdict.duration, verdict.tempo, verdict.offset_s) == (4 * S, 2 * S, 1.0, 0.0)
    sound = play(track, S, 7 * S)
    heard = np.flatnonzero(np.abs(sound) > 1e-4) + S
    assert (heard[0], heard[-1]) == (pytest.approx(4 * S, abs=48), pytest.approx(6 * S, abs=48))


def test_a_late_segment_starts_at_once_and_plays_whole() -> None:
    track = DubTrack()
    play(track, 0, 5 * S)
    verdict = placed(track.add(segment(4 * S, 6 * S, 2 * S), playhead=5 * S))
    assert verdict.start == 5 * S + round(0.12 * S)
    assert verdict.offset_s == pytest.approx(1.12)
    sound = play(track, 5 * S, 9 * S)
    assert np.count_nonzero(np.abs(sound) > 1e-4) == pytest.approx(verdict.duration, rel=0.02)


def test_a_long_segment_is_sped_up_within_bounds() -> None:
    long_ = placed(DubTrack().add(segment(S, 3 * S, round(2.6 * S)), playhead=0))
    assert long_.tempo == pytest.approx(2.6 / 2.4)
    assert long_.duration == stretched_length(round(2.6 * S), long_.tempo)
    gradual = placed(DubTrack().add(segment(S, 3 * S, 6 * S), playhead=0))
    assert gradual.tempo == pytest.approx(1.15)  # no more than a step at once
    behind = DubTrack()
    play(behind, 0, 4 * S)
    assert placed(behind.add(segment(S, 3 * S, 6 * S), playhead=4 * S)).tempo == 1.3
    behind.add(segment(6 * S, 8 * S, 6 * S, sequence=1), playhead=4 * S)
    play(behind, 4 * S, 20 * S)
    assert [placed(verdict).tempo for verdict in behind.take_settled()] == [1.3, 1.45]


def test_tempo_comes_down_step_by_step_unless_there_was_a_rest() -> None:
    def tempos(pause: int) -> list[float]:
        track = DubTrack(stretcher=cheap)
        at = S
        for i, ratio in enumerate((1.5, 1.5, 1.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9)):
            track.add(segment(at, at + 3 * S, round(3 * S * ratio), sequence=i), playhead=0)
            at += 3 * S + (pause if i == 2 else 0)
        play(track, 0, at + 10 * S)
        verdicts = [placed(verdict) for verdict in track.take_settled()]
        return [round(verdict.tempo, 2) for verdict in verdicts]

    connected, rested = tempos(0), tempos(6 * S)
    assert all(b >= a - 0.151 for a, b in pairwise(connected)) and connected[3] > 1.1
    assert connected[-1] == 1.0
    assert rested[3:] == [1.0] * 6


def test_room_is_known_once_the_next_segment_is() -> None:
    track = DubTrack()
    first = segment(2 * S, 4 * S, round(2.4 * S))
    assert placed(track.add(first, playhead=0)).tempo == 1.0
    track.add(segment(4 * S, 6 * S, 2 * S, sequence=1), playhead=0)
    play(track, 0, 8 * S)
    replanned, following = [placed(verdict) for verdict in track.take_settled()]
    assert replanned.tempo == pytest.approx(1.15)
    assert following.offset_s < 0.2
    assert track.take_settled() == []


def test_tempo_keeps_the_pitch_and_the_length_is_exact() -> None:
    tone = sine(3 * S, 400.0)
    for tempo in (1.07, 1.2, 1.45):
        fast = stretch(tone, tempo)
        assert len(fast) == stretched_length(len(tone), tempo)
        spectrum = np.abs(np.fft.rfft(fast[: 2 * S] * np.hanning(2 * S)))
        assert np.argmax(spectrum) * RATE / (2 * S) == pytest.approx(400.0, abs=2)
        assert np.array_equal(fast, stretch(tone, tempo))  # the same every time


def test_other_rates_become_48_khz() -> None:
    verdict = placed(DubTrack().add(segment(S, 3 * S, 44_100, rate=22_050), playhead=0))
    assert verdict.duration == pytest.approx(2 * S, abs=100)


def test_silent_ends_do_not_take_part() -> None:
    spoken = segment(S, 3 * S, S)
    silence = np.zeros(S // 2, np.float32)
    padded = DubSegment(
        "p", 0, spoken.source_start_ns, spoken.source_end_ns, np.concatenate((silence, spoken.samples, silence)), RATE
    )
    assert placed(DubTrack().add(padded, playhead=0)).duration == pytest.approx(S, abs=RATE // 40)
    empty = DubSegment("e", 0, 0, S, silence, RATE)
    verdict = DubTrack().add(empty, playhead=0)
    assert isinstance(verdict, Dropped) and verdict.reason == "empty"


def test_the_oldest_unspoken_segment_is_dropped_past_the_backlog() -> None:
    track = DubTrack(ScheduleSettings(hard_backlog_s=4.0))
    play(track, 0, 2 * S)
    verdicts = []
    for i in range(4):  # each 1.0 s of source takes 5 s to say
        verdicts.append(track.add(segment((2 + i) * S, (3 + i) * S, 5 * S, sequence=i), playhead=2 * S))
    assert isinstance(verdicts[-1], Placement)
    assert track.dropped == 2
    play(track, 2 * S, 30 * S)
    settled = track.take_settled()
    assert [v.segment.sequence for v in settled if isinstance(v, Dropped)] == [0, 1]
    assert [v.segment.sequence for v in settled if isinstance(v, Placement)] == [2, 3]


def test_a_segment_that_is_too_stale_is_dropped_itself() -> None:
    track = DubTrack()
    verdict = track.add(segment(S, 2 * S, S), playhead=8 * S)
    assert isinstance(verdict, Dropped) and verdict.reason == "backlog"
    assert track.backlog_s(8 * S) == 0.0
    assert not track.active(0, 100 * S)


def test_what_is_on_air_is_neither_moved_nor_dropped() -> None:
    track = DubTrack(ScheduleSettings(hard_backlog_s=1.0))
    first = placed(track.add(segment(S, 2 * S, 4 * S), playhead=0))
    play(track, 0, 2 * S)
    for i in range(1, 5):
        track.add(segment((1 + i) * S, (2 + i) * S, 3 * S, sequence=i), playhead=2 * S)
    play(track, 2 * S, 20 * S)
    settled = [v for v in track.take_settled() if isinstance(v, Placement)]
    assert settled[0] == first


@pytest.mark.parametrize("seed", range(8))
def test_random_segments_never_overlap_keep_order_and_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = ScheduleSettings()
    track = DubTrack(settings, stretcher=cheap)
    talkative = rng.uniform(0.8, 1.8)
    source, playhead, settled = S, 0, []
    for i in range(30):
        length = int(rng.uniform(0.5, 5.0) * S)
        spoken = segment(source, source + length, int(length * talkative * rng.uniform(0.7, 1.3)), sequence=i)
        ready = source + length + int(rng.uniform(0.5, 4.0) * S) - 6 * S  # playhead when it arrives, at D = 6 s
        if ready > playhead:
            play(track, playhead, ready, int(rng.integers(480, 9_600)))
            playhead = ready
        track.add(spoken, playhead)
        assert track.backlog_s(playhead) <= settings.hard_backlog_s + spoken.duration_ns / 1e9
        settled += track.take_settled()
        source += length + int(rng.uniform(0.1, 1.0) * S)
    play(track, playhead, playhead + 60 * S)
    settled += track.take_settled()
    spoken_ = [v for v in settled if isinstance(v, Placement)]
    assert len(settled) == 30 == track.added
    assert len({v.segment.sequence for v in settled}) == 30
    assert track.dropped == 30 - len(spoken_)
    assert [v.segment.sequence for v in spoken_] == sorted(v.segment.sequence for v in spoken_)
    for a, b in pairwise(spoken_):
        assert b.start >= a.start + a.duration + round(settings.gap_s * RATE)
    for v in spoken_:
        assert 1.0 <= v.tempo <= 1.45
        assert v.start >= ns_to_samples(v.segment.source_start_ns)
        assert v.offset_s <= settings.hard_backlog_s + 0.01
    if talkative < 1.0:
        assert track.dropped == 0


def test_the_offset_does_not_grow_with_a_backend_that_talks_a_fifth_too_much() -> None:
    track = DubTrack(stretcher=cheap)
    source, offsets = S, []
    for i in range(60):
        length = 2 * S + (i % 5) * S // 2
        playhead = source + length + 2 * S - 6 * S
        if playhead > 0:
            track.read(playhead - 4_800, 4_800)
        track.add(segment(source, source + length, round(1.2 * length), sequence=i), max(playhead, 0))
        offsets += [v.offset_s for v in track.take_settled() if isinstance(v, Placement)]
        source += length + S // 3
    assert track.dropped == 0
    assert max(offsets) < 1.0


def test_segments_begin_and_end_without_a_click() -> None:
    track = DubTrack()
    track.add(segment(S, 2 * S, S, hz=200), playhead=0)
    track.add(segment(2 * S, 3 * S, S, hz=200, sequence=1), playhead=0)
    assert worst_step_db(play(track, 0, 5 * S)) < -60


def test_reading_in_any_cut_gives_the_same() -> None:
    def sound(block: int) -> Pcm:
        track = DubTrack()
        track.add(segment(1_000, 20_000, 25_000), playhead=0)
        track.add(segment(21_000, 30_000, 9_000, sequence=1), playhead=0)
        return play(track, 0, 48_000, block)

    whole = sound(48_000)
    for block in (7, 480, 4_800):
        assert np.array_equal(sound(block), whole)


def test_the_last_segment_can_be_repeated() -> None:
    track = DubTrack()
    assert track.last_spoken() is None
    track.add(segment(S, 2 * S, S), playhead=0)
    play(track, 0, 3 * S)
    last = track.last_spoken()
    assert last is not None and len(last) == S


def test_speech_that_was_cut_in_its_middle_is_crossfaded() -> None:
    """Two fragments of one tone: neither a hole nor a bump where they meet."""
    tone = sine(4 * S, 200, 0.2)
    halves = [
        DubSegment("a", 0, samples_to_ns(S), samples_to_ns(3 * S), tone[: 2 * S + JOIN], RATE),
        DubSegment("b", 1, samples_to_ns(3 * S), samples_to_ns(5 * S), tone[2 * S :], RATE),
    ]
    for block in (480, 4_800, 48_000):
        track = DubTrack()
        for half in halves:
            track.add(half, playhead=0)
        sound = play(track, 0, 6 * S, block)
        middle = sound[3 * S - 4_800 : 3 * S + 4_800]
        rms = np.sqrt(np.mean(middle.reshape(-1, 480) ** 2, axis=1))
        assert rms == pytest.approx(0.2 / 2**0.5, rel=0.45) and rms.min() > 0.135
        assert worst_step_db(sound) < -60
        first, second = [placed(verdict) for verdict in track.take_settled()]
        assert second.start == first.start + first.duration - JOIN


def test_speech_that_was_not_cut_keeps_its_pause() -> None:
    track = DubTrack()
    quiet = np.concatenate((sine(2 * S, 200, 0.2), np.zeros(S // 10, np.float32)))
    track.add(DubSegment("a", 0, samples_to_ns(S), samples_to_ns(3 * S), quiet, RATE), playhead=0)
    second = placed(track.add(segment(3 * S, 5 * S, 2 * S, sequence=1), playhead=0))
    first = placed(track.add(segment(9 * S, 10 * S, S, sequence=2), playhead=0))
    assert first.start == 9 * S
    assert second.start >= 3 * S + S // 100 + round(0.06 * S)


def test_a_part_that_is_on_air_is_not_joined_afterwards() -> None:
    track = DubTrack()
    track.add(segment(S, 3 * S, 2 * S), playhead=0)
    play(track, 0, 3 * S - 100)
    late = placed(track.add(segment(3 * S, 5 * S, 2 * S, sequence=1), playhead=3 * S - 100))
    assert late.start >= 3 * S + round(0.06 * S)
    assert worst_step_db(play(track, 3 * S - 100, 6 * S)) < -60


def test_nothing_is_stretched_before_it_is_read() -> None:
    calls: list[float] = []

    def counted(voice: Pcm, tempo: float) -> Pcm:
        calls.append(tempo)
        return cheap(voice, tempo)

    track = DubTrack(stretcher=counted)
    for i in range(5):
        track.add(segment((1 + i) * S, (2 + i) * S, round(1.1 * S), sequence=i), playhead=0)
    assert calls == []
    play(track, 0, 8 * S)
    assert len(calls) == 5


def test_a_segment_that_comes_again_and_again_breaks_nothing() -> None:
    """A backend that says the same thing over and over, under the same name."""
    track = DubTrack(ScheduleSettings(hard_backlog_s=1.0))
    track.add(segment(0, S, S), playhead=0)
    play(track, 0, S // 2)
    for _ in range(5):
        track.add(segment(0, S, S), playhead=S // 2)
    assert track.dropped == 5

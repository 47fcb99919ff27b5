"""PCM on the sample grid: what the timestamps say, and how sound is led there."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.units import NS_PER_MS, RATE, Pcm, ns_to_samples, samples_to_ns
from babelcast.worker.placement import AudioPlacement

pytestmark = pytest.mark.unit

BLOCK = 4_800
SILENCE = bytes(BLOCK * 4)


def tone(samples: int, hz: float = 440.0) -> Pcm:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)
    return np.repeat(wave.astype(np.float32)[:, None], 2, axis=1)


def feed(placement: AudioPlacement, sound: Pcm, offset_ns: list[int]) -> tuple[Pcm, list[int]]:
    """Blocks whose timestamps are off by ``offset_ns`` from their count; what comes out, and after every block by
    how many samples it lies off its timestamp."""
    out, errors = np.zeros((len(sound) + RATE, 2), np.float32), []
    for i, offset in enumerate(offset_ns):
        stamp = samples_to_ns(i * BLOCK) + offset
        position, pcm = placement.place(stamp, to_s16le(sound[i * BLOCK : (i + 1) * BLOCK]))
        block = from_s16le(pcm, 2)
        out[position : position + len(block)] = block
        errors.append(position - ns_to_samples(stamp))
    return out, errors


def worst_bend(sound: Pcm) -> float:
    """Largest second difference: a tone has a small one, a click a large one."""
    return float(np.abs(np.diff(sound[:, 0].astype(np.float64), 2)).max())


def test_rounded_timestamps_leave_no_gap_and_the_sound_as_it_came() -> None:
    placement, rng = AudioPlacement(), random.Random(1)
    pcm = to_s16le(tone(1_024))
    placed = [placement.place(samples_to_ns(i * 1_024) + rng.randint(-660_000, 660_000), pcm) for i in range(2_000)]
    assert {b[0] - a[0] for a, b in itertools.pairwise(placed)} == {1_024}
    assert all(block is pcm for _, block in placed)
    assert placement.corrections == 0


def test_one_wrong_timestamp_moves_nothing() -> None:
    placement = AudioPlacement()
    for i in range(30):
        wrong = 50 * NS_PER_MS if i == 15 else 0
        assert placement.place(samples_to_ns(i * BLOCK) + wrong, SILENCE) == (i * BLOCK, SILENCE)


@pytest.mark.parametrize("ppm", [300, -300])
def test_a_sound_card_that_is_off_is_followed_without_a_click(ppm: int) -> None:
    """As audiobuffersplit tells it: the count is right until it is 3 ms off, then the timestamp steps."""
    placement, blocks = AudioPlacement(), 600
    sound = tone(blocks * BLOCK)
    steps = [round(i * 100 * ppm / 1e6 / 3) * 3 * NS_PER_MS for i in range(blocks)]
    out, errors = feed(placement, sound, steps)
    assert max(abs(error) for error in errors) <= 8 * RATE // 1_000
    assert placement.jumps == 0
    heard = out[: placement.end]
    assert len(heard) == pytest.approx(blocks * BLOCK * (1 + ppm / 1e6), abs=6 * RATE // 1_000)
    assert worst_bend(heard) < 1.1 * worst_bend(sound)


@pytest.mark.parametrize("step_ms", [40, -40, 20, -70])
def test_a_step_is_led_to_within_a_second_and_never_jumped(step_ms: int) -> None:
    placement = AudioPlacement()
    sound = tone(60 * BLOCK)
    out, errors = feed(placement, sound, [0] * 20 + [step_ms * NS_PER_MS] * 40)
    assert errors[19] == 0
    assert abs(errors[20]) == abs(step_ms) * 48
    assert all(abs(error) <= 12 * 48 for error in errors[30:])
    assert abs(errors[-1]) <= 6 * 48 and abs(errors[-1]) < abs(errors[30])
    assert placement.jumps == 0
    assert worst_bend(out[: placement.end]) < 1.2 * worst_bend(sound)


def test_a_step_ahead_beyond_80_ms_is_followed_at_once() -> None:
    placement = AudioPlacement()
    placement.place(0, SILENCE)
    assert placement.place(samples_to_ns(BLOCK) + 101 * NS_PER_MS, SILENCE)[0] == BLOCK + 4_848
    assert placement.jumps == 1


def test_a_step_back_beyond_80_ms_skips_as_much_with_a_crossfade() -> None:
    placement = AudioPlacement()
    sound = tone(40 * BLOCK)
    out, errors = feed(placement, sound, [0] * 10 + [-120 * NS_PER_MS] * 30)
    assert placement.jumps == 1
    assert all(abs(error) <= 48 for error in errors[13:])
    heard = out[: placement.end]
    assert len(heard) == 40 * BLOCK - 120 * 48
    assert worst_bend(heard) < 1.5 * worst_bend(sound)


def test_a_new_connection_begins_at_its_timestamp() -> None:
    placement = AudioPlacement()
    placement.place(0, SILENCE)
    placement.restart()
    assert placement.end is None
    assert placement.place(samples_to_ns(BLOCK) + 20 * NS_PER_MS, SILENCE)[0] == BLOCK + 960

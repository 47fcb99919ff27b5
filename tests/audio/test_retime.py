"""Sound made longer and shorter: how clean, how long, and that nothing outside is touched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from babelcast.audio.clicks import find_clicks
from babelcast.audio.retime import MAX_SPLICE, crossfade, most_by_resampling, resample, splice
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit

BLOCK = 4_800


def stereo(wave: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Pcm:
    return np.repeat(wave.astype(np.float32)[:, None], 2, axis=1)


def tone(hz: float, samples: int = BLOCK) -> Pcm:
    return stereo(0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE))


@pytest.mark.parametrize("change", [4, -4, 1])
@pytest.mark.parametrize("hz", [100.0, 997.0, 5_000.0, 12_000.0, 18_000.0])
def test_resampling_is_clean_to_better_than_70_db(hz: float, change: int) -> None:
    """THD+N: what is left of a tone once the tone, at the pitch it must have, is taken out."""
    out = resample(tone(hz), change)[:, 0].astype(np.float64)
    assert len(out) == BLOCK + change
    middle = slice(700, -700)  # where the speed is even
    n = np.arange(len(out))[middle]
    inner = BLOCK + change - 64
    rate = 1 - change / (inner - inner // 10)
    basis = np.stack([wave(2 * np.pi * hz * rate * n / RATE) for wave in (np.sin, np.cos)], axis=1)
    fit, *_ = np.linalg.lstsq(basis, out[middle], rcond=None)
    error = np.mean((out[middle] - basis @ fit) ** 2)
    assert 10 * np.log10(0.125 / error) > 70


def test_resampling_leaves_the_ends_of_a_block_alone() -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (BLOCK, 2)).astype(np.float32)
    for change in (3, -3):
        out = resample(noise, change)
        assert np.array_equal(out[:32], noise[:32]) and np.array_equal(out[-32:], noise[-32:])
    assert resample(noise, 0) is noise
    with pytest.raises(ValueError):
        resample(noise, most_by_resampling(BLOCK) + 1)


@pytest.mark.parametrize("change", [480, -480, 900, -900, 120, -120])
def test_a_splice_keeps_pitch_level_and_smoothness(change: int) -> None:
    rng = np.random.default_rng(7)
    hum = sum(np.sin(2 * np.pi * hz * np.arange(BLOCK) / RATE + rng.uniform(0, 6)) for hz in (180, 360, 540, 720))
    block = stereo(0.2 * np.asarray(hum))
    out = splice(block, change)
    made = len(out) - BLOCK
    assert np.sign(made) == np.sign(change)
    assert abs(change) // 2 <= abs(made) <= min(abs(change) * 3 // 2 + 4, MAX_SPLICE)
    assert np.array_equal(out[:20], block[:20]) and np.array_equal(out[-20:], block[-20:])
    bend = np.abs(np.diff(block[:, 0].astype(np.float64), 2)).max()
    assert np.abs(np.diff(out[:, 0].astype(np.float64), 2)).max() < 1.3 * bend
    assert np.sqrt(np.mean(out**2)) == pytest.approx(np.sqrt(np.mean(block**2)), rel=0.06)


def test_a_splice_prefers_silence() -> None:
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, (BLOCK, 2)).astype(np.float32)
    noise[2_000:4_000] = 0
    out = splice(noise, -480)
    assert np.array_equal(out[:2_000], noise[:2_000])
    assert np.array_equal(out[-800:], noise[-800:])


def test_a_short_block_and_silence_are_no_trouble() -> None:
    short = tone(440, 900)
    assert splice(short, 480) is short
    assert not splice(np.zeros((BLOCK, 2), np.float32), 480).any()


def test_a_crossfade_of_unlike_sounds_keeps_their_power() -> None:
    rng = np.random.default_rng(3)
    mixed = np.concatenate([crossfade(*rng.normal(0, 0.2, (2, 960, 2)).astype(np.float32)) for _ in range(50)])
    level = np.sqrt(np.mean(np.square(mixed.reshape(50, 960, 2)), axis=(0, 2)))
    assert level.min() > 0.15 and level.max() < 0.25


def chord(samples: int) -> Pcm:
    at = np.arange(samples) / RATE
    return stereo(np.asarray(sum(0.1 * np.sin(2 * np.pi * hz * at) for hz in (131, 165, 196, 262.5, 2_093, 5_003))))


def crowd(samples: int) -> Pcm:
    return np.random.default_rng(5).normal(0, 0.1, (samples, 2)).astype(np.float32)


def voice(samples: int) -> Pcm:
    """A pulse train of moving pitch through two formants, three syllables a second."""
    at, k = np.arange(samples) / RATE, np.arange(2_400) / RATE
    phase = np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * at)) / RATE
    pulses = np.diff(np.floor(phase), prepend=0)
    mouth = np.exp(-300 * k) * np.sin(2 * np.pi * 700 * k) + 0.6 * np.exp(-400 * k) * np.sin(2 * np.pi * 1_800 * k)
    return stereo(np.convolve(pulses, mouth)[:samples] * 0.3 * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * at)))


@pytest.mark.parametrize("programme", [chord, crowd, voice])
def test_nothing_clicks(programme: Callable[[int], Pcm]) -> None:
    sound = programme(50 * BLOCK)
    assert not find_clicks(sound)
    changes = (480, -480, 960, -960, 0)
    spliced = [splice(sound[i * BLOCK : (i + 1) * BLOCK], changes[i % 5]) for i in range(50)]
    assert not find_clicks(np.concatenate(spliced))
    resampled = [resample(sound[i * BLOCK : (i + 1) * BLOCK], (4, -3, 0)[i % 3]) for i in range(50)]
    assert not find_clicks(np.concatenate(resampled))

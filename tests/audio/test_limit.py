from __future__ import annotations

import numpy as np
import pytest
import soxr
from tests.audio.signals import noise, sine, stereo, worst_step_db

from babelcast.audio.limit import LOOKAHEAD, PeakLimiter
from babelcast.audio.pcm import from_db
from babelcast.units import Pcm

pytestmark = pytest.mark.unit


def limit(signal: Pcm, block: int = 480) -> Pcm:
    limiter = PeakLimiter(2)
    return np.concatenate([limiter.process(signal[i : i + block]) for i in range(0, len(signal), block)])


def test_what_stays_below_is_not_touched_only_late() -> None:
    signal = stereo(sine(48_000, 700, 0.88), sine(48_000, 1_900, 0.88))
    out = limit(signal)
    assert np.array_equal(out[LOOKAHEAD:], signal[:-LOOKAHEAD])


@pytest.mark.parametrize("amplitude", [0.5, 1.5, 4.0])
def test_nothing_passes_the_ceiling(amplitude: float) -> None:
    out = limit(noise(96_000, seed=3, amplitude=amplitude))
    assert np.abs(out).max() <= from_db(-1.0) * (1 + 1e-6)


def test_gain_comes_back_and_then_nothing_is_touched() -> None:
    signal = stereo(sine(144_000, 200, 0.4), sine(144_000, 200, 0.4))
    signal[10_000:12_000] *= 5
    out = limit(signal)
    assert np.array_equal(out[96_000 + LOOKAHEAD :], signal[96_000:-LOOKAHEAD])
    assert worst_step_db(out[LOOKAHEAD + 1 : 9_000]) < -60


def test_a_loud_burst_is_turned_down_without_a_click() -> None:
    signal = stereo(sine(48_000, 100, 0.8), sine(48_000, 100, 0.8))
    signal *= np.interp(np.arange(48_000), [20_000, 22_000], [1, 2]).astype(np.float32)[:, None]
    assert worst_step_db(limit(signal)[LOOKAHEAD + 1 :]) < -60


def test_blocks_do_not_matter() -> None:
    signal = noise(48_000, amplitude=0.6)
    assert np.allclose(limit(signal, 48), limit(signal, 24_000), atol=1e-6)
    with pytest.raises(ValueError, match="milliseconds"):
        PeakLimiter(2).process(signal[:100])


def resampled_peak_db(signal: Pcm) -> float:
    """True peak by another's oversampling: soxr at its best, to 192 kHz."""
    return float(20 * np.log10(np.abs(soxr.resample(signal, 48_000, 192_000, quality="VHQ")).max()))


@pytest.mark.parametrize(("hz", "phase"), [(12_000, np.pi / 4), (8_000, np.pi / 8), (16_000, 0.3), (20_000, 0.5)])
def test_peaks_between_the_samples_are_found(hz: float, phase: float) -> None:
    """At a quarter of the rate and 45° every sample is 3 dB below the wave's own peak."""
    t = np.arange(96_000)
    tone = np.sin(2 * np.pi * hz * t / 48_000 + phase) * 0.97 * np.minimum(1, np.minimum(t, t[::-1]) / 4_800)
    signal = stereo(tone.astype(np.float32), 0.7 * tone.astype(np.float32))
    assert resampled_peak_db(signal) > -0.5
    assert resampled_peak_db(limit(signal)) == pytest.approx(-1.05, abs=0.05)

"""Separators: nothing lost, nothing shifted, nothing taken where nobody speaks."""

from __future__ import annotations

import numpy as np
import pytest
from tests.separate import material

from babelcast.separate.centre import CentreMask
from babelcast.separate.factory import SeparationMode, make_separator
from babelcast.separate.stft import BINS, Frames, Spectra, StftSeparator
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit

MODES: tuple[SeparationMode, ...] = ("auto", "centre", "spectral", "off")


def noise(n: int, seed: int = 1) -> Pcm:
    return (0.1 * np.random.default_rng(seed).standard_normal((n, 2))).astype(np.float32)


class Share:
    """An estimator for the frame round it: a fixed share of everything is speech."""

    active = "share"

    def __init__(self, share: float) -> None:
        self.share = np.float32(share)

    def speech(self, frames: Frames) -> Spectra | None:
        assert frames.spectra.shape[1:] == (2, BINS)
        assert frames.spectra.dtype == np.complex64
        return frames.spectra * self.share

    def restart(self) -> None:
        pass


@pytest.mark.parametrize("n", [100, 2_048, 50_000, 120_001])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_reconstruction_is_perfect(n: int, share: float) -> None:
    signal = noise(n)
    out = material.run(StftSeparator(Share(share)), signal, 1_000)
    assert len(out) == n
    error = np.concatenate((out.speech - share * signal, out.background - (1 - share) * signal))
    assert 20 * np.log10(np.abs(error).max() / 0.1) < -90


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [480, 1_024, 100_000])
def test_the_estimates_add_up_and_the_latency_is_as_declared(mode: SeparationMode, block: int) -> None:
    signal = noise(100_000)
    separator = make_separator(mode)
    taken, given, total = 0, 0, []
    for i in range(0, len(signal), block):
        taken += len(signal[i : i + block])
        out = separator.process(signal[i : i + block])
        given += len(out)
        assert 0 <= taken - given <= separator.latency_samples
        total.append(out.background + out.speech)
    rest = separator.flush()
    total.append(rest.background + rest.speech)
    summed = np.concatenate(total)
    assert summed.shape == signal.shape
    assert np.abs(summed - signal).max() < 1e-6


@pytest.mark.parametrize("mode", ["auto", "centre", "spectral"])
def test_without_speech_the_background_is_the_programme(mode: SeparationMode) -> None:
    signal = material.at_level(material.crowd(5 * RATE), 12)
    out = material.run(make_separator(mode), signal)
    assert np.array_equal(out.background, signal)
    assert not out.speech.any()


def test_off_gives_everything_to_the_background() -> None:
    signal = noise(1_000)
    out = material.run(make_separator("off"), signal, 100)
    assert np.array_equal(out.background, signal)
    assert make_separator("off").latency_samples == 0


def test_ten_minutes_of_mono_are_no_trouble_for_the_centre_mask() -> None:
    """It has no side power at all, and the learnt ratio of the two must stay a number (warnings are errors here)."""
    mask, rng = CentreMask(), np.random.default_rng(1)
    mono = np.repeat(rng.standard_normal((16, 1, BINS)), 2, axis=1).astype(np.complex64)
    nobody, somebody = np.zeros(16, np.bool_), np.ones(16, np.bool_)
    for _ in range(3_500):
        mask.speech(Frames(mono, nobody, somebody))
    speech = mask.speech(Frames(mono, somebody, nobody))
    assert speech is not None and np.isfinite(speech).all()

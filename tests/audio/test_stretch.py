from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import gated_lufs, sine
from tests.audio.voices import spoken

from babelcast.audio.clicks import find_clicks
from babelcast.audio.stretch import MAX_TEMPO, stretch, stretched_length, tempo_curve
from babelcast.units import RATE

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("seconds", [0.3, 1.2, 1.6, 3.0, 9.0])
@pytest.mark.parametrize("tempo", [1.02, 1.1, 1.2, 1.3, 1.44, 1.45])
def test_the_curve_has_its_mean_and_never_leaves_its_bounds(seconds: float, tempo: float) -> None:
    n = round(seconds * RATE)
    curve = tempo_curve(n, tempo)
    assert sum(samples for samples, _ in curve) == n
    assert sum(samples / piece for samples, piece in curve) == pytest.approx(n / tempo, rel=1e-4)
    tempos = [piece for _, piece in curve]
    assert 1.0 <= min(tempos) and max(tempos) <= MAX_TEMPO + 1e-9
    if len(curve) > 1:
        assert np.abs(np.diff(tempos)).max() < 0.15
        assert tempos[0] == tempos[-1] < tempo


def test_a_long_segment_begins_and_ends_slower_than_its_middle() -> None:
    curve = tempo_curve(3 * RATE, 1.2)
    assert [round(piece, 2) for _, piece in curve] == [1.1, 1.17, 1.24, 1.17, 1.1]


@pytest.mark.parametrize("tempo", [1.1, 1.3, 1.42])
@pytest.mark.parametrize("seconds", [1.0, 1.7, 3.0])
def test_a_tone_goes_through_without_a_click_or_a_hole(tempo: float, seconds: float) -> None:
    n = round(seconds * RATE)
    out = stretch(sine(n, 300, 0.3), tempo)
    assert len(out) == stretched_length(n, tempo)
    assert find_clicks(out) == []
    levels = np.sqrt(np.mean(out[4_800 : len(out) // 480 * 480 - 4_800].reshape(-1, 480) ** 2, axis=1))
    assert levels.min() > 0.19 and levels.max() < 0.235
    spectrum = np.abs(np.fft.rfft(out[4_800:-4_800] * np.hanning(len(out) - 9_600)))
    assert np.argmax(spectrum) * RATE / (len(out) - 9_600) == pytest.approx(300, abs=3)


@pytest.mark.parametrize("voice", ["rms", "slt"])
def test_speech_keeps_its_loudness_and_gets_no_click(voice: str) -> None:
    talk = spoken(voice, 1, 0.0)
    for tempo in (1.15, 1.35):
        fast = stretch(talk, tempo)
        assert gated_lufs(fast) == pytest.approx(gated_lufs(talk), abs=0.7)
        assert find_clicks(fast) == []
        assert np.array_equal(fast, stretch(talk, tempo))  # it can be made again from its journal

"""Against pyloudnorm, which shares no code with ours."""

from __future__ import annotations

import numpy as np
import pyloudnorm  # type: ignore[import-untyped]
import pytest
from tests.audio.signals import gated_lufs, made_crowd, made_music, noise, sine, stereo
from tests.audio.voices import spoken

from babelcast.audio.loudness import FLOOR_LUFS, HOP, hop_powers, lufs
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.integration

SIGNALS: dict[str, Pcm] = {
    "1 kHz": stereo(sine(4 * RATE, 997, 0.1), sine(4 * RATE, 997, 0.1)),
    "80 Hz": stereo(sine(4 * RATE, 80, 0.3), sine(4 * RATE, 80, 0.1)),
    "noise": noise(5 * RATE),
    "music": made_music(8),
    "crowd": made_crowd(8),
    "speech": stereo(spoken(lines=3), spoken(lines=3)),
    "speech, half a second": stereo(spoken()[4_800:28_800], spoken()[4_800:28_800]),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_gated_loudness(name: str) -> None:
    signal = SIGNALS[name]
    wanted = pyloudnorm.Meter(RATE).integrated_loudness(signal.astype(np.float64))
    assert gated_lufs(signal) == pytest.approx(wanted, abs=0.2)


def test_a_full_scale_tone_is_what_the_standard_says() -> None:
    """BS.1770-4: 0 dBFS at 997 Hz in one channel reads −3.01 LUFS."""
    tone = stereo(sine(4 * RATE, 997, 1.0), 0 * sine(4 * RATE))
    assert gated_lufs(tone) == pytest.approx(-3.01, abs=0.05)


def test_a_voice_counts_from_both_sides() -> None:
    voice = spoken()
    assert gated_lufs(voice) == pytest.approx(gated_lufs(stereo(voice, voice)), abs=1e-3)


def test_short_and_silent_spans() -> None:
    assert hop_powers(np.zeros(0, np.float32)).shape == (0,)
    assert gated_lufs(np.zeros((RATE, 2), np.float32)) == FLOOR_LUFS == lufs(0.0)
    tone = stereo(sine(RATE, 997, 0.1), sine(RATE, 997, 0.1))
    assert gated_lufs(tone[:1_000]) == pytest.approx(gated_lufs(tone), abs=1.5)
    assert len(hop_powers(tone[: 3 * HOP + 3_000])) == 4  # a last one from 50 ms on
    assert len(hop_powers(tone[: 3 * HOP + 1_000])) == 3

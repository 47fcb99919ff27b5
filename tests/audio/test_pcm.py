from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import noise, sine

from babelcast.audio import pcm

pytestmark = pytest.mark.unit


def test_s16le_round_trip_is_exact() -> None:
    raw = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert pcm.to_s16le(pcm.from_s16le(raw, 1)) == raw
    assert pcm.to_s16le(pcm.from_s16le(raw, 2)) == raw
    assert pcm.from_s16le(raw, 2).shape == (32768, 2)


def test_full_scale_is_clipped_not_wrapped() -> None:
    assert pcm.to_s16le(np.array([2.0, -2.0, 1.0], np.float32)) == np.array([32767, -32768, 32767], "<i2").tobytes()


def test_broken_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        pcm.from_s16le(b"\0\0\0\0\0\0", 2)


def test_levels() -> None:
    tone = sine(48_000, 1_000, 0.5)
    assert pcm.db(pcm.rms(tone)) == pytest.approx(-9.03, abs=0.01)
    assert pcm.peak(tone) == pytest.approx(0.5, abs=1e-3)
    assert pcm.peak(-np.abs(tone)) == pytest.approx(0.5, abs=1e-3)
    assert pcm.db(0.0) == pcm.MIN_DB
    assert pcm.rms(tone[:0]) == 0.0
    assert pcm.from_db(-6.0) == pytest.approx(0.501, abs=1e-3)


def test_mono_is_the_mean() -> None:
    block = noise(100)
    assert np.allclose(pcm.to_mono(block), block.mean(axis=1), atol=1e-7)
    assert pcm.to_mono(block[:, 0]) is not None

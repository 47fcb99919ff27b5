from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import sine, stereo

from babelcast.audio.resample import SpeechDownsampler

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("block", [480, 1_024, 4_800, 50_000])
def test_output_k_belongs_to_input_3k_whatever_the_blocks(block: int) -> None:
    n = 48_001
    tone = sine(n, 440, 0.3)
    down = SpeechDownsampler()
    for _ in range(2):  # a flush starts a new stream
        parts = [down.process(stereo(tone, tone)[i : i + block]) for i in range(0, n, block)]
        out = np.concatenate([*parts, down.flush()])
        assert len(out) == 16_001
        wanted = sine(16_001, 440, 0.3, rate=16_000)
        assert np.abs(out - wanted)[200:-200].max() < 1e-3


def test_what_16_khz_cannot_hold_is_gone() -> None:
    down = SpeechDownsampler()
    out = np.concatenate((down.process(sine(48_000, 10_000, 0.5)), down.flush()))
    assert np.abs(out[200:-200]).max() < 0.001

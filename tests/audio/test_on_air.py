"""What needs real speech, or another program's ears: changes on air, and the limiter's peaks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soxr
from tests.audio.signals import made_music, noise, source_of
from tests.audio.test_limit import limit, resampled_peak_db
from tests.audio.test_mix import MODES, S, programme
from tests.audio.voices import spoken

from babelcast.audio.clicks import find_clicks
from babelcast.audio.duck import Ducking
from babelcast.audio.fallback import FallbackMode
from babelcast.audio.mix import Mixer, MixSettings
from babelcast.audio.schedule import DubTrack
from babelcast.units import NS_PER_S, RATE, DubSegment, samples_to_ns

pytestmark = pytest.mark.integration

CHANGES = (
    MixSettings(bg_gain=0.0, dub_gain=2.0),
    MixSettings(ducking=Ducking(enabled=True, threshold_db=-60.0, ratio=20.0, range_db=40.0)),
    MixSettings(balance="auto", original_gain=0.5),
    MixSettings(bg_gain=4.0, original_gain=1.0, ceiling_db=-3.0),
    MixSettings(ducking=Ducking(enabled=True), balance="auto"),
    MixSettings(),
)


@pytest.mark.parametrize("every", [2_400, 4_800, 24_000])
def test_anything_can_be_changed_on_air_without_a_click(every: int) -> None:
    """Settings and modes that change at every block, over programme made of steady tones and over speech on music."""
    talk = spoken("rms", 2)
    n = len(talk)
    music = made_music(n / RATE + 0.1, -30)[:n]
    for audio in (programme(n / S), source_of(music + talk[:, None], music)):
        track = DubTrack()
        line = spoken("slt", 1)
        for i in range(3):
            start = samples_to_ns(S // 2 + i * 5 * S // 2)
            track.add(DubSegment(f"s{i}", i, start, start + NS_PER_S, line, RATE), playhead=-S)
        mixer = Mixer(audio, track)
        out = []
        for i, pos in enumerate(range(0, n - S // 2 - every, every)):
            mixer.settings = CHANGES[i % len(CHANGES)]
            mode: FallbackMode | None = MODES[i // 3 % len(MODES)]
            out.append(mixer.render(pos, every, mode))
        assert find_clicks(np.concatenate(out)) == []


def test_ffmpeg_measures_no_peak_above_the_ceiling(tmp_path: Path) -> None:
    signal = soxr.resample(noise(48_000, seed=5, amplitude=0.6), 24_000, 48_000)[:95_520].astype(np.float32)
    assert resampled_peak_db(signal) > 3
    for name, sound in (("before", signal), ("after", limit(signal))):
        raw = tmp_path / f"{name}.f32"
        raw.write_bytes(sound.tobytes())
        argv = f"ffmpeg -nostats -hide_banner -f f32le -ar 48000 -ac 2 -i {raw} -af ebur128=peak=true -f null -".split()
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
        peak = float(re.findall(r"Peak:\s+(-?[\d.]+) dBFS", said)[-1])
        assert peak > 3 if name == "before" else peak <= -0.9

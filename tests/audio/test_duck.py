from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import sine

from babelcast.audio.duck import Ducker, Ducking
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit

S = RATE
ON = Ducking(enabled=True)


def voice(level_db: float, n: int = S) -> Pcm:
    return sine(n, 1_000, 10 ** (level_db / 20) * 2**0.5)


def run(settings: Ducking, sidechain: Pcm, block: int = 4_800) -> Pcm:
    ducker = Ducker(settings)
    parts = []
    for pos in range(0, len(sidechain), block):
        part = sidechain[pos : pos + block]
        gain = ducker.gains(part, len(part))
        parts.append(np.ones(len(part), np.float32) if gain is None else gain)
    return np.concatenate(parts)


def reduction_db(gain: Pcm) -> Pcm:
    return np.asarray(-20 * np.log10(gain))


@pytest.mark.parametrize(("level_db", "expected_db"), [(-40, 0.0), (-30, 0.0), (-22, 6.0), (-18, 9.0), (-2, 14.0)])
def test_the_static_curve(level_db: float, expected_db: float) -> None:
    """4:1 from −30 dBFS: three quarters of what is above it, 14 dB at most."""
    assert reduction_db(run(ON, voice(level_db)))[-1] == pytest.approx(expected_db, abs=0.1)


def test_threshold_ratio_and_range_are_obeyed() -> None:
    assert reduction_db(run(Ducking(True, -40.0, 2.0), voice(-20)))[-1] == pytest.approx(10.0, abs=0.1)
    assert reduction_db(run(Ducking(True, -40.0, 20.0, range_db=6.0), voice(-20)))[-1] == pytest.approx(6.0, abs=0.05)
    assert (run(Ducking(True, ratio=1.0), voice(-10)) == 1.0).all()
    assert (run(Ducking(False), voice(-10)) == 1.0).all()


@pytest.mark.parametrize("attack_ms", [10.0, 50.0])
@pytest.mark.parametrize("release_ms", [300.0, 600.0])
def test_attack_and_release_take_their_time(attack_ms: float, release_ms: float) -> None:
    settings = Ducking(True, attack_ms=attack_ms, release_ms=release_ms)
    off = reduction_db(run(settings, np.concatenate((voice(-18), np.zeros(3 * S, np.float32)))))
    there = int(np.flatnonzero(off > 9.0 * 0.63)[0]) / RATE * 1e3
    assert there == pytest.approx(attack_ms, rel=0.15)
    gone = (int(np.flatnonzero(off[S:] < 9.0 * 0.37)[0])) / RATE * 1e3
    assert gone == pytest.approx(release_ms + attack_ms, rel=0.15)
    assert off[-1] < 0.1


def test_the_blocks_do_not_matter() -> None:
    talk = np.concatenate([voice(-18, S // 4), np.zeros(S // 2, np.float32)] * 6)
    whole = run(ON, talk, len(talk))
    for block in (48, 480, 4_800, 9_600):
        assert np.abs(run(ON, talk, block) - whole).max() < 1e-6


def test_no_gain_jumps_whatever_is_set() -> None:
    ducker = Ducker(ON)
    parts = []
    for settings in (ON, Ducking(True, -50.0, 20.0, range_db=40.0), Ducking(False), Ducking(True, attack_ms=1.0)):
        ducker.settings = settings
        gain = ducker.gains(voice(-10), S)
        parts.append(np.ones(S, np.float32) if gain is None else gain)
    steps = np.abs(np.diff(np.concatenate(parts)))
    assert steps.max() < 0.02
    assert np.abs(np.diff(np.concatenate(parts), 2)).max() < 1.5e-3


def test_it_rests_when_there_is_nothing_to_do() -> None:
    ducker = Ducker(ON)
    assert ducker.gains(None, 4_800) is None
    assert ducker.gains(voice(-18, 4_800), 4_800) is not None
    for _ in range(60):
        ducker.gains(np.zeros(4_800, np.float32), 4_800)
    assert ducker.gains(None, 4_800) is None

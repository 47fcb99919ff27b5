"""The delay changes on air, on a virtual clock: pictures and sound together, nothing lost, no click."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.units import NS_PER_MS, NS_PER_S, RATE, AccessUnit, Pcm, samples_to_ns
from babelcast.worker.air import SLEW_PPM, AirClock, OnAir

pytestmark = pytest.mark.unit

BLOCK = 4_800
PICTURE = 40 * NS_PER_MS
TICK = 50 * NS_PER_MS
EPOCH = 77 * NS_PER_S


class Recorder:
    """Implements Destination: what is on air when, counted from the epoch."""

    def __init__(self) -> None:
        self.pictures: list[tuple[int, int]] = []
        self.sound: list[tuple[int, Pcm]] = []

    def expect_video(self, caps: str) -> None: ...

    def push_video(self, units: list[AccessUnit], air_offset_ns: int) -> None:
        self.pictures += [(unit.dts_ns, unit.dts_ns + air_offset_ns - EPOCH) for unit in units]

    def push_audio(self, position: int, pcm: bytes, air_offset_ns: int, *, video_expected: bool) -> None:
        self.sound.append((samples_to_ns(position) + air_offset_ns - EPOCH, from_s16le(pcm, 2)))


def run(air: AirClock, until_s: float, changes: dict[float, float]) -> tuple[Recorder, list[int]]:
    """A programme with a picture every 40 ms, and the tone of an organ; the delay is set at given wall seconds.
    Also by how much sound was early after each block."""
    recorder = Recorder()
    on_air = OnAir(recorder, air)
    picture, position, off, pending = 0, 0, [], dict(changes)
    for now in range(0, round(until_s * NS_PER_S), TICK):
        for at in [at for at in pending if at * NS_PER_S <= now]:
            air.set_delay(round(pending.pop(at) * NS_PER_S))
        due = air.due(now)
        units = []
        while picture * PICTURE <= due:
            units.append(AccessUnit(picture * PICTURE, picture * PICTURE, True, b"", ""))
            picture += 1
        on_air.push_video(units, EPOCH)
        while samples_to_ns(position) <= due:
            on_air.push_audio(position, to_s16le(organ(position)), EPOCH, video_expected=True)
            off.append(on_air.sound_off_ns)
            position += BLOCK
    return recorder, off


def organ(position: int) -> Pcm:
    time = np.arange(position, position + BLOCK) / RATE
    wave = sum(0.15 * np.sin(2 * np.pi * hz * time) for hz in (131.0, 262.5, 392.0))
    return np.repeat(np.asarray(wave, np.float32)[:, None], 2, axis=1)


def test_a_delay_that_stands_changes_nothing() -> None:
    recorder, off = run(AirClock(2 * NS_PER_S), 6, {})
    assert all(on_air - source == 2 * NS_PER_S for source, on_air in recorder.pictures)
    assert [at for at, _ in recorder.sound] == [i * 100 * NS_PER_MS + 2 * NS_PER_S for i in range(len(recorder.sound))]
    assert not any(off)


@pytest.mark.parametrize(("before", "after"), [(2.0, 2.7), (4.0, 3.3)])
def test_the_delay_changes_without_gap_click_or_loss_of_sync(before: float, after: float) -> None:
    air = AirClock(round(before * NS_PER_S))
    recorder, off = run(air, 46, {5.0: after})
    assert air.delay_ns == air.target_delay_ns == after * NS_PER_S and not air.changing
    delays = [on_air - source for source, on_air in recorder.pictures]
    assert (delays[0], delays[-1]) == (before * NS_PER_S, after * NS_PER_S)
    for (_, one), (_, two) in itertools.pairwise(recorder.pictures):
        assert abs(two - one - PICTURE) <= PICTURE * SLEW_PPM // 1_000_000 + 1_000
    # sound: gapless on air, with its pictures, smooth
    for (at, block), (following, _) in itertools.pairwise(recorder.sound):
        assert abs(following - at - samples_to_ns(len(block))) <= 1
    assert -15 * NS_PER_MS < min(off) and max(off) < 15 * NS_PER_MS
    assert abs(off[-1]) <= NS_PER_MS // 10
    heard = np.concatenate([block for _, block in recorder.sound])[:, 0].astype(np.float64)
    usual = np.abs(np.diff(organ(0)[:, 0].astype(np.float64), 2)).max()
    assert np.abs(np.diff(heard, 2)).max() < 1.6 * usual
    level = np.sqrt(np.mean(np.square(heard[: len(heard) // BLOCK * BLOCK].reshape(-1, BLOCK)), axis=1))
    assert level.min() > 0.75 * level.max()


def test_a_change_of_mind_begins_from_where_it_is() -> None:
    air = AirClock(2 * NS_PER_S)
    recorder, _ = run(air, 40, {5.0: 10.0, 12.0: 2.0})
    delays = [on_air - source for source, on_air in recorder.pictures]
    assert 2.18 * NS_PER_S < max(delays) < 2.25 * NS_PER_S
    assert delays[-1] == 2 * NS_PER_S
    assert all(b > a for (_, a), (_, b) in itertools.pairwise(recorder.pictures))


def test_before_anything_is_on_air_the_delay_is_simply_another() -> None:
    air = AirClock(2 * NS_PER_S)
    air.set_delay(9 * NS_PER_S)
    assert (air.delay_ns, air.due(9 * NS_PER_S), air.changing) == (9 * NS_PER_S, 0, False)

"""Balance, judged from outside: what goes on air is taken apart again and measured with pyloudnorm."""

from __future__ import annotations

import functools

import numpy as np
import pyloudnorm  # type: ignore[import-untyped]
import pytest
from tests.audio.signals import made_crowd, made_music, noise, source_of, stereo
from tests.audio.voices import spoken

from babelcast.audio.balance import BedKind, BedMeter
from babelcast.audio.mix import Mixer, MixSettings
from babelcast.audio.schedule import DubTrack
from babelcast.units import RATE, DubSegment, Pcm, samples_to_ns

pytestmark = pytest.mark.integration

S = RATE
SECONDS = 26


def loudness(signal: Pcm) -> float:
    return float(pyloudnorm.Meter(RATE).integrated_loudness(signal.astype(np.float64)))


def babble() -> Pcm:
    rng = np.random.default_rng(2)
    voices = [spoken(name, 3, 0.05) for name in ("kal", "slt", "rms", "awb")]
    n = min(map(len, voices))
    sides = [sum(np.roll(voices[i % 4][:n], int(rng.integers(n))) for i in range(12)) for _ in range(2)]
    return 0.2 * stereo(*[np.asarray(side, np.float32) for side in sides])


@functools.cache
def bed(name: str) -> Pcm:
    if name == "babble":
        return babble()
    if name == "both":
        return made_music(SECONDS, -30) + made_crowd(SECONDS, -34)
    if name == "noise":
        return noise(SECONDS * S, amplitude=0.03)
    return made_music(SECONDS, -26) if name == "music" else made_crowd(SECONDS, -28)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("music", "music"), ("both", "music"), ("crowd", "ambience"), ("noise", "ambience"), ("babble", "ambience")],
)
def test_music_and_ambience_are_told_apart(name: str, kind: BedKind) -> None:
    meter = BedMeter()
    assert meter.kind == "music"  # until it is sure
    sound = bed(name)
    for pos in range(0, len(sound) - 4_799, 4_800):
        meter.feed(sound[pos : pos + 4_800])
    assert meter.kind == kind
    print(f"{name}: tonality {meter.tonality:.2f}")


def on_air(name: str, settings: MixSettings, block: int = 4_800) -> tuple[Pcm, Pcm, list[tuple[int, int]]]:
    """(background as heard, dub as heard, spans with dub): 4 s alone, 10 s of dub, 8 s alone."""
    track = DubTrack()
    line, at, spans, i = spoken("slt", 1, 0.0), 4 * S, [], 0
    while at + len(line) < 14 * S:
        start, stop = samples_to_ns(at), samples_to_ns(at + len(line))
        track.add(DubSegment(f"s{i}", i, start, stop, line, RATE), playhead=-S)
        spans.append((at, at + len(line)))
        at += len(line) + S // 2
        i += 1
    sound = bed(name)
    mixer = Mixer(source_of(sound, sound), track, settings)
    n = 22 * S
    out = np.concatenate([mixer.render(pos, min(block, n - pos)) for pos in range(0, n, block)])
    dub = np.concatenate([_again(spans, line, pos) for pos in range(0, n, S)])[:, None] * settings.dub_gain
    return (out - dub).astype(np.float32), np.repeat(dub, 2, axis=1).astype(np.float32), spans


def _again(spans: list[tuple[int, int]], line: Pcm, pos: int) -> Pcm:
    track = DubTrack()
    for i, (start, stop) in enumerate(spans):
        track.add(DubSegment("s", i, samples_to_ns(start), samples_to_ns(stop), line, RATE), playhead=-S)
    return track.read(pos, S)[0]


@pytest.mark.parametrize(("name", "over_lu"), [("music", 10.0), ("crowd", 15.0)])
@pytest.mark.parametrize("gains", [(1.0, 1.0), (2.0, 0.7)])
def test_the_dub_stands_clear_of_the_background(name: str, over_lu: float, gains: tuple[float, float]) -> None:
    settings = MixSettings(bg_gain=gains[0], dub_gain=gains[1], balance="auto", ceiling_db=20.0)
    background, dub, spans = on_air(name, settings)
    first, last = spans[0][0], spans[-1][1]
    difference = loudness(dub[first:last]) - loudness(background[first:last])
    print(f"{name}, gains {gains}: the dub stands {difference:.1f} LU over the background")
    assert over_lu <= difference < over_lu + 4.0
    for start, stop in spans:
        assert loudness(dub[start:stop]) - loudness(background[start:stop]) > over_lu - 1.0
    untouched = gains[0] * bed(name)
    assert np.abs(background[: 2 * S] - untouched[: 2 * S]).max() < 1e-6
    assert loudness(background[21 * S : 22 * S]) > loudness(background[8 * S : 9 * S]) + 3.0  # it comes back


def test_a_background_that_is_quiet_enough_is_left_alone() -> None:
    quiet = made_music(SECONDS, -50)
    track = DubTrack()
    line = spoken("slt", 1, 0.0)
    track.add(DubSegment("s", 0, samples_to_ns(2 * S), samples_to_ns(2 * S + len(line)), line, RATE), playhead=-S)
    mixer = Mixer(source_of(quiet, quiet), track, MixSettings(balance="auto"))
    out = np.concatenate([mixer.render(pos, 4_800) for pos in range(0, 8 * S, 4_800)])
    assert np.array_equal(out[: 2 * S], quiet[: 2 * S])
    assert np.array_equal(out[6 * S :], quiet[6 * S : 8 * S])


def test_it_is_slow_and_does_not_pump() -> None:
    background, _, spans = on_air("music", MixSettings(balance="auto", ceiling_db=20.0))
    gain = np.array(
        [
            np.sqrt(np.mean(background[pos : pos + 4_800] ** 2) / np.mean(bed("music")[pos : pos + 4_800] ** 2))
            for pos in range(0, 21 * S, 4_800)
        ]
    )
    steps = np.diff(20 * np.log10(gain))
    assert steps.min() > -1.4 and steps.max() < 0.25  # dB per 100 ms
    while_dubbed = 20 * np.log10(gain[spans[1][0] // 4_800 : spans[-1][1] // 4_800])
    assert while_dubbed.max() - while_dubbed.min() < 2.5


def test_the_blocks_do_not_matter() -> None:
    settings = MixSettings(balance="auto")
    assert np.abs(on_air("crowd", settings, 480)[0] - on_air("crowd", settings, 12_000)[0]).max() < 1e-6

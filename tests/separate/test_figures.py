"""Floors under what the separators reach on talk by flite (ffmpeg) over beds made by code."""

from __future__ import annotations

import numpy as np
import pytest
from tests.separate import material

from babelcast.separate.auto import AutoEstimator
from babelcast.separate.centre import power
from babelcast.separate.factory import SeparationMode, make_separator
from babelcast.separate.spectral import RoomTone, SpectralHold
from babelcast.separate.stft import BINS, Frames, StftSeparator
from babelcast.units import RATE

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("mode", ["auto", "centre", "spectral"])
def test_blocks_do_not_matter_and_a_flush_starts_anew(mode: SeparationMode) -> None:
    voice = material.talk()[: 4 * RATE]
    signal = voice[:, None] + material.at_level(material.crowd(len(voice)), 12)
    once = material.run(make_separator(mode), signal, 1_024)
    assert np.abs(once.background - material.run(make_separator(mode), signal, 96_000).background).max() < 1e-5
    separator = make_separator(mode)
    material.run(separator, signal)
    again = material.run(separator, signal)
    assert len(again) == len(signal)
    assert material.residual_speech_db(again.background, signal - voice[:, None], voice) < -15


@pytest.mark.parametrize(
    ("mode", "bed", "below", "si_sdr", "residual", "level"),
    [
        ("centre", "music", 0, 3.0, -13, 3.5),
        ("centre", "music", 10, 1.5, -24, 3.5),
        ("centre", "crowd", 0, 10.0, -25, 1.5),
        ("centre", "crowd", 10, 8.0, -34, 1.5),
        ("centre", "crowd", 17, 4.5, -38, 1.5),
        ("spectral", "music", 10, -1.5, -23, 4.0),
        ("spectral", "crowd", 0, 9.0, -16, 2.0),
        ("spectral", "crowd", 10, 5.5, -27, 2.0),
        ("spectral", "crowd", 17, 2.0, -34, 2.0),
    ],
)
def test_figures(mode: SeparationMode, bed: str, below: float, si_sdr: float, residual: float, level: float) -> None:
    """Floors a little under what was measured; docs/reference/separation.md has figures of other programmes."""
    voice = material.talk()
    make = material.music if bed == "music" else material.crowd
    background = material.at_level(make(len(voice)), below)
    out = material.run(make_separator(mode), voice[:, None] + background).background
    said = material.spoken(voice)
    figures = (
        material.si_sdr(background, out),
        material.residual_speech_db(out, background, voice),
        material.level_change_db(out, background, said),
        material.level_change_db(out, background, ~said),
    )
    print(mode, bed, below, [round(figure, 1) for figure in figures])
    assert figures[0] > si_sdr
    assert figures[1] < residual
    assert abs(figures[2]) < level
    assert abs(figures[2] - figures[3]) < 3.0  # speech that begins or ends doesn't pump the background


def test_mono_goes_through_the_spectral_hold() -> None:
    voice = material.talk()
    bed = material.at_level(np.repeat(material.crowd(len(voice))[:, :1], 2, axis=1), 12)
    separator = make_separator("auto")
    out = material.run(separator, voice[:, None] + bed)
    assert separator.active == "spectral"
    assert material.residual_speech_db(out.background, bed, voice) < -18


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("mode", ["auto", "centre"])
def test_a_tick_at_a_side_survives_in_time(mode: SeparationMode, side: int) -> None:
    voice = material.talk()
    bed = material.at_level(material.crowd(len(voice)), 15)
    n = RATE * 40 // 1000
    tick = np.sin(2 * np.pi * 3_500 * np.arange(n) / RATE) * np.hanning(n) * 0.1
    places = [at for at in range(2 * RATE, len(voice) - RATE, RATE) if material.spoken(voice)[at : at + n].all()]
    assert len(places) >= 5
    for at in places:
        bed[at : at + n, side] += tick
    out = material.run(make_separator(mode), voice[:, None] + bed).background[:, side]
    for at in places:
        around = out[at - 2_000 : at + n + 2_000]
        match = np.correlate(around, tick)
        gain = match.max() / (tick @ tick)
        assert abs(int(match.argmax()) - 2_000) <= 12  # 0.25 ms: a period of the tick is 14 samples
        assert 0.75 < gain < 1.25


def test_ticks_in_anti_phase_survive_exactly_in_time() -> None:
    voice = material.talk()
    bed = material.at_level(material.crowd(len(voice)), 15)
    n = RATE * 40 // 1000
    tick = (np.sin(2 * np.pi * 3_500 * np.arange(n) / RATE) * np.hanning(n) * 0.03).astype(np.float32)
    at = 3 * RATE
    bed[at : at + n] += np.stack([tick, -tick], axis=1)
    out = material.run(make_separator("centre"), voice[:, None] + bed).background
    side = out[at - 500 : at + n + 500] @ np.array([0.5, -0.5], np.float32)
    assert int(np.correlate(side, tick).argmax()) == 500


def test_auto_changes_over_when_the_speaker_moves_and_does_not_flap() -> None:
    voice = np.tile(material.talk(), 2)
    half = len(voice) // 2
    bed = material.at_level(material.crowd(half), 12)
    pan = np.ones((len(voice), 2), np.float32)
    pan[half:, 1] = 0.1
    estimator = AutoEstimator()
    separator = StftSeparator(estimator)
    out = material.run(separator, voice[:, None] * pan + np.tile(bed, (2, 1)))
    assert separator.active == "spectral"
    assert estimator.changes == 2  # to the centre mask once the voice was heard there, and back
    assert material.residual_speech_db(out.background[:half], bed, voice[:half]) < -30
    late = slice(len(voice) - 5 * RATE, len(voice))
    left = material.residual_speech_db(
        out.background[late, :1].repeat(2, axis=1), bed[-5 * RATE :, :1].repeat(2, axis=1), voice[late]
    )
    assert left < -14


def test_auto_takes_the_first_words_of_a_speaker_at_a_side_too() -> None:
    """Before anybody was heard, nothing says that the voice will be in the middle."""
    voice = material.talk()
    bed = material.at_level(material.crowd(len(voice)), 12)
    out = material.run(make_separator("auto"), voice[:, None] * np.array([1.0, 0.2], np.float32) + bed).background
    first = slice(0, round(2.5 * RATE))  # it begins after 1.5 s
    left = material.residual_speech_db(out[first, :1].repeat(2, axis=1), bed[first, :1].repeat(2, axis=1), voice[first])
    assert left < -25


def test_the_room_tone_is_what_was_heard_and_as_loud() -> None:
    rng, tone = np.random.default_rng(1), RoomTone()
    quiet = (rng.standard_normal((300, 2, BINS)) + 1j * rng.standard_normal((300, 2, BINS))).astype(np.complex64)
    tone.learn(quiet[:30])
    assert tone.next(16) is None  # too little to be a texture
    for at in range(30, 300, 16):
        tone.learn(quiet[at : at + 16])
    found = [tone.next(16) for _ in range(30)]
    frames = np.concatenate([each[0] for each in found if each is not None])
    assert len(frames) == 480
    assert {frame.tobytes() for frame in frames} == {frame.tobytes() for frame in quiet[-192:]}
    assert found[0] is not None and found[0][1] == pytest.approx(power(quiet[-192:]).mean(axis=0), rel=1e-3)


def test_what_may_be_speech_is_no_room_tone() -> None:
    """Within the gate's padding a frame can be quiet and possible speech at once."""
    hold, rng = SpectralHold(), np.random.default_rng(1)
    bed = (0.1 * rng.standard_normal((96, 2, BINS))).astype(np.complex64)
    word = np.zeros((16, 2, BINS), np.complex64)
    word[:, :, 100] = 50.0
    yes, no = np.ones(16, np.bool_), np.zeros(16, np.bool_)
    for at in range(0, 96, 16):
        hold.speech(Frames(bed[at : at + 16], no, yes))
    for _ in range(12):
        hold.speech(Frames(word, yes, yes))
    tone = hold._tone.next(96)
    assert tone is not None and np.abs(tone[0][:, :, 100]).max() < 1.0

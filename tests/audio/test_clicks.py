from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from tests.audio.signals import made_crowd, made_music, noise, sine, stereo
from tests.audio.voices import spoken, through_aac

from babelcast.audio.clicks import find_clicks
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.integration

AT = 20_000
QUIET = 10 ** (-50 / 20)


@functools.cache
def over_music() -> Pcm:
    voice = spoken()
    return made_music(len(voice) / RATE, -32)[: len(voice)] + voice[:, None]


PROGRAMMES: dict[str, Callable[[], Pcm]] = {
    "speech": lambda: stereo(spoken(), spoken()),
    "speech over music": over_music,
    "music": functools.cache(lambda: made_music(5)),
    "crowd": functools.cache(lambda: made_crowd(4)),
    "noise": lambda: noise(4 * RATE, amplitude=1e-4),
    "tones": lambda: stereo(sine(4 * RATE, 440, 0.3), sine(4 * RATE, 3_000, 0.1)),
}


def pieces(programme: Pcm, count: int = 10) -> list[Pcm]:
    """Stretches of 0.8 s with sound in their middle, and no attack right there that would hide a click."""
    rng = np.random.default_rng(4)
    found: list[Pcm] = []
    while len(found) < count:
        begin = int(rng.integers(0, len(programme) - 2 * AT))
        piece = programme[begin : begin + 2 * AT]
        near = np.abs(piece[AT - 2_400 : AT + 2_400])
        if near.max() > 5e-4:
            found.append(piece)
    return found


def impulse(x: Pcm) -> Pcm:
    out = x.copy()
    out[AT] += QUIET
    return out


def step(x: Pcm) -> Pcm:
    out = x.copy()
    out[AT : AT + 2_400] += (QUIET * np.linspace(1, 0, 2_400, dtype=np.float32) ** 2)[:, None]
    return out


def cut(x: Pcm) -> Pcm:
    return np.concatenate((x[:AT], x[AT + 2_000 :]))


def repeated_block(x: Pcm) -> Pcm:
    return np.concatenate((x[:AT], x[AT - 960 :]))


def phase_jump(x: Pcm) -> Pcm:
    return np.concatenate((x[:AT], -x[AT:]))


def hole(x: Pcm) -> Pcm:
    out = x.copy()
    out[AT : AT + 480] = 0
    return out


def lost_sample(x: Pcm) -> Pcm:
    return np.delete(x, AT, axis=0)


@pytest.mark.parametrize("name", PROGRAMMES)
def test_nothing_is_found_in_clean_sound(name: str) -> None:
    assert find_clicks(PROGRAMMES[name]()) == []


@pytest.mark.parametrize("name", ["speech", "speech over music", "music"])
def test_nothing_is_found_behind_a_real_codec(name: str) -> None:
    coded = through_aac(PROGRAMMES[name]())
    assert np.abs(coded).max() > 0.1
    assert find_clicks(coded, coded=True) == []


@pytest.mark.parametrize("name", PROGRAMMES)
@pytest.mark.parametrize("fault", [impulse, step, cut, repeated_block, phase_jump, hole])
def test_planted_clicks_are_found(name: str, fault: Callable[[Pcm], Pcm]) -> None:
    if name == "noise" and fault not in (impulse, step):
        pytest.skip("noise has no phase: what is cut out of it, nobody can tell")
    hits = 0
    for piece in pieces(PROGRAMMES[name]()):
        found = find_clicks(fault(piece))
        assert all(abs(click.sample - AT) < 1_100 for click in found)
        hits += bool(found)
    assert hits >= 8  # a drum or a consonant at the very place hides one now and then


@pytest.mark.parametrize("name", ["speech", "crowd", "tones"])
def test_even_a_lost_sample_is_found(name: str) -> None:
    hits = sum(bool(find_clicks(lost_sample(piece))) for piece in pieces(PROGRAMMES[name]()))
    assert hits >= 7


@pytest.mark.parametrize("fault", [cut, repeated_block, phase_jump, hole])
def test_faults_of_splicing_are_found_behind_a_real_codec(fault: Callable[[Pcm], Pcm]) -> None:
    hits = 0
    for piece in pieces(over_music(), 6):
        found = find_clicks(through_aac(fault(piece)), coded=True)
        hits += any(abs(click.sample - AT - 1_024) < 1_600 for click in found)
    assert hits >= 3  # a jump that lands where the wave was anyway is below the codec's own


def test_a_click_says_where_and_how_high() -> None:
    out = 0.5 * made_crowd(2)
    out[30_000, 1] += 0.1
    (click,) = find_clicks(out)
    assert (click.sample, click.channel) == (30_000, 1)
    assert click.height_db == pytest.approx(-20, abs=0.5)
    assert click.time_s == pytest.approx(30_000 / RATE)
    assert find_clicks(out, threshold_db=-15) == []
    assert find_clicks(out[:, 1])[0].sample == 30_000
    assert find_clicks(np.zeros((RATE, 2), np.float32)) == []
    assert find_clicks(np.zeros((100, 2), np.float32)) == []

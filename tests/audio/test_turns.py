from __future__ import annotations

import functools

import numpy as np
import pyloudnorm  # type: ignore[import-untyped]
import pytest
from tests.audio.signals import made_crowd, segment, source_of, stereo
from tests.audio.voices import spoken

from babelcast.audio.loudness import hop_powers
from babelcast.audio.schedule import DubTrack
from babelcast.audio.source import SourceAudio
from babelcast.audio.turns import TurnLoudness, speech_powers
from babelcast.units import RATE, DubSegment, Pcm, samples_to_ns

pytestmark = pytest.mark.integration

S = RATE


def loudness(signal: Pcm) -> float:
    both = stereo(signal, signal) if signal.ndim == 1 else signal
    return float(pyloudnorm.Meter(RATE).integrated_loudness(both.astype(np.float64)))


@functools.cache
def programme(gain_db: float) -> tuple[SourceAudio, Pcm]:
    """Talk over a crowd, the talk at another level; and the talk alone, shape (n,)."""
    talk = spoken("awb", 3) * np.float32(10 ** (gain_db / 20))
    bed = made_crowd(len(talk) / RATE + 0.1, -40)[: len(talk)]
    return source_of(bed + talk[:, None], bed), talk


def dub(start: int, stop: int, voice: Pcm, i: int = 0, name: str = "v") -> DubSegment:
    return DubSegment(f"s{i}", i, samples_to_ns(start), samples_to_ns(stop), voice, RATE, voice=name)


@pytest.mark.parametrize("gain_db", [-8.0, 0.0, 7.0])
@pytest.mark.parametrize("name", ["slt", "kal"])
def test_the_dub_is_as_loud_as_the_speech_it_replaces(gain_db: float, name: str) -> None:
    source, talk = programme(gain_db)
    track = DubTrack(speech=functools.partial(speech_powers, source))
    voice = spoken(name, 2)
    track.add(dub(0, len(talk), voice), playhead=-S)
    told = track.loudness(0, S)
    heard = np.concatenate([track.read(pos, S)[0] for pos in range(0, len(voice) + S, S)])
    assert loudness(heard) == pytest.approx(loudness(talk), abs=0.5)
    assert told == pytest.approx(loudness(heard), abs=0.3)
    assert track.loudness(len(voice) + S, len(voice) + 2 * S) is None


def test_the_gain_has_bounds() -> None:
    source, talk = programme(-30.0)
    track = DubTrack(speech=functools.partial(speech_powers, source))
    voice = spoken("slt", 1)
    track.add(dub(0, len(talk), voice), playhead=-S)
    heard = np.concatenate([track.read(pos, S)[0] for pos in range(0, 4 * S, S)])
    assert loudness(heard) == pytest.approx(loudness(voice) - 12.0, abs=0.3)


def test_nothing_is_matched_to_a_residue_or_to_what_is_not_held() -> None:
    bed = made_crowd(4)
    audio = source_of(bed, bed)
    assert speech_powers(audio, 100 * S, 101 * S) is None
    assert speech_powers(audio, S, S) is None
    track = DubTrack(speech=functools.partial(speech_powers, audio))
    track.add(segment(S, 2 * S, S, amplitude=0.2), playhead=0)
    assert np.abs(track.read(0, 3 * S)[0]).max() == pytest.approx(0.2, abs=0.01)


class Clauses:
    """Source speech with a level of its own for each second, and the gains that a dub of one level gets."""

    def __init__(self, *levels_db: float, limit_db: float = 12.0) -> None:
        self.powers = [np.full(10, 10 ** (level / 10)) for level in levels_db]
        self.turns = TurnLoudness(lambda start, stop: self.powers[start // S % len(self.powers)], limit_db)
        self.dub = hop_powers(spoken("slt", 1))

    def gain(self, second: int, voice: str = "a", start: int | None = None) -> float:
        at = second * S if start is None else start
        return self.turns.gain_db(voice, at, at + S, self.dub)


def test_within_a_turn_the_gain_moves_slowly_and_settles() -> None:
    clauses = Clauses(-20.0, -20.0, -30.0, -20.0, -30.0, -20.0)
    gains = [clauses.gain(second) for second in range(6)]
    assert gains[0] == pytest.approx(gains[1], abs=0.1)
    assert np.abs(np.diff(gains)).max() <= 1.5
    assert abs(gains[-1] - gains[0]) < 2.5  # the gate and the window outvote the quiet clauses


def test_another_voice_and_a_pause_begin_a_new_turn() -> None:
    clauses = Clauses(-20.0, -28.0)
    first = clauses.gain(0)
    assert clauses.gain(1, "b") == pytest.approx(first - 8.0, abs=0.1)
    assert clauses.gain(0, "b", start=10 * S) == pytest.approx(first, abs=0.1)
    assert clauses.gain(1, "b", start=11 * S + S // 2) > first - 2.0  # half a second later: the same turn


def test_where_the_speech_is_unknown_a_voice_keeps_its_gain() -> None:
    known = True
    powers = np.full(10, 10 ** (-2.6))
    turns = TurnLoudness(lambda start, stop: powers if known else None, 12.0)
    voice = hop_powers(spoken("slt", 1))
    gain = turns.gain_db("a", 0, S, voice)
    known = False
    assert turns.gain_db("a", 20 * S, 21 * S, voice) == gain != 0.0
    assert turns.gain_db("stranger", 30 * S, 31 * S, voice) == 0.0
    for i in range(100):
        turns.gain_db(f"voice {i}", (40 + i) * S, (41 + i) * S, voice)
    assert turns.gain_db("a", 200 * S, 201 * S, voice) == 0.0  # only so many are remembered


def test_a_span_of_any_length_costs_no_memory() -> None:
    """A backend may say that it spoke a month of source."""
    source, _ = programme(0.0)
    assert speech_powers(source, 0, 30 * 24 * 3_600 * S) is None
    assert speech_powers(source, S, 0) is None

"""One connection's sound after another's: neither a click nor a dip, however the blocks lie."""

from __future__ import annotations

import numpy as np
import pytest

from babelcast.audio.clicks import find_clicks
from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.audio.source import SourceAudio
from babelcast.units import NS_PER_MS, RATE, Pcm, samples_to_ns
from babelcast.worker.placement import AudioPlacement
from babelcast.worker.seam import TAIL, Seam
from tests.audio.signals import made_crowd, made_music, sine

pytestmark = pytest.mark.unit

END = 2 * RATE
ROUNDED = 32
"""Samples: two timestamps of FLV may be as much apart."""


def heard(sound: Pcm, begins: int, block: int, *, off: int = ROUNDED) -> tuple[Pcm, Seam]:
    """``sound`` by a connection that ended at END, and by another one that has it ``off`` samples elsewhere."""
    audio, seam = SourceAudio(10), Seam(END)
    audio.write_original(0, sound[:END])
    for at in range(begins, len(sound) - off - block, block):
        position, pcm = seam.take(at + off, to_s16le(sound[at : at + block]))
        audio.write_original(position, from_s16le(pcm, 2))
    assert seam.passed
    return audio.read_original(0, END + RATE)[0], seam


def spoken_music() -> Pcm:
    return made_music(4) + made_crowd(4)


@pytest.mark.parametrize("block", [480, 1_021, 4_800])
@pytest.mark.parametrize("begins", [END - RATE, END - 4_801, END - 4_800 - ROUNDED])
def test_the_same_sound_goes_on(begins: int, block: int) -> None:
    found, _ = heard(spoken_music(), begins, block)
    assert find_clicks(found) == []


def test_its_level_stays() -> None:
    tone = np.repeat(sine(4 * RATE, 100.0)[:, None], 2, axis=1)
    found, _ = heard(tone, END - RATE, 4_800)
    assert np.abs(found[END - RATE : END + RATE]).max() < 1.01 * np.abs(tone).max()


@pytest.mark.parametrize("late", [-700, -200, -ROUNDED - 1, -ROUNDED, 0, 4_800])
def test_one_that_begins_about_there_is_faded_in(late: int) -> None:
    """Nothing, or too little, of it overlaps."""
    found, _ = heard(spoken_music(), END + late, 4_800)
    assert find_clicks(found) == []
    assert np.abs(found[END + RATE // 2 :]).max() > 0.01


@pytest.mark.parametrize("block", [480, 1_021, 4_800])
@pytest.mark.parametrize("off", [-110, -ROUNDED, 0, 1, ROUNDED, 110])
def test_where_the_first_ones_end_is_known_it_goes_on_to_the_sample(block: int, off: int) -> None:
    """As the ingest does it: stamps, placement, seam."""
    sound = spoken_music()
    placement, seam = AudioPlacement(), Seam(END, to_s16le(sound[:END])[-TAIL * 8 :])
    out, expected = np.zeros_like(sound), END
    out[:END] = sound[:END]
    for at in range(END - RATE, len(sound) - block, block):
        position, pcm = placement.place(samples_to_ns(at + off) + NS_PER_MS // 10, to_s16le(sound[at : at + block]))
        if not seam.passed:
            position, pcm = seam.take(position, pcm)
            placement.move(seam.moved)
        if pcm:
            assert position == expected
            expected += len(pcm) // 4
            out[position:expected] = from_s16le(pcm, 2)
    assert np.abs(out[:expected] - sound[:expected]).max() < 1e-4
    assert abs(seam.moved + off) <= 5, "what the stamps are off, and their rounding"
    assert placement.jumps == 0


@pytest.mark.parametrize("tail", ["silence", "something else", "short"])
def test_an_end_that_is_not_found_is_crossfaded(tail: str) -> None:
    sound = spoken_music()
    last = {"silence": np.zeros((TAIL, 2), np.float32), "something else": sound[:TAIL], "short": sound[END - 9 : END]}
    audio, seam = SourceAudio(10), Seam(END, to_s16le(last[tail]))
    audio.write_original(0, sound[:END])
    for at in range(END - RATE, len(sound) - 4_800, 4_800):
        position, pcm = seam.take(at + ROUNDED, to_s16le(sound[at : at + 4_800]))
        audio.write_original(position, from_s16le(pcm, 2))
    assert find_clicks(audio.read_original(0, END + RATE)[0]) == []


def test_what_came_before_is_not_handed_on_twice() -> None:
    seam = Seam(END)
    assert not seam.take(END - 9_600, bytes(4_800 * 4))[1]
    assert not seam.take(END - 4_800, bytes(4_801 * 4))[1]
    position, pcm = seam.take(END + 1, bytes(4_800 * 4))
    assert (position, len(pcm) // 4) == (END - RATE * 15 // 1_000, 4_800 + 721)
    assert seam.passed


def test_blocks_that_do_not_touch_are_not_joined() -> None:
    seam = Seam(END)
    seam.take(END - 9_600, bytes(4_800 * 4))
    position, pcm = seam.take(END - 200, bytes(4_800 * 4))
    assert (position, len(pcm) // 4) == (END + 1, 4_800 - 201)

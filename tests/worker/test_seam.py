"""One connection's sound after another's: neither a click nor a dip, however the blocks lie."""

from __future__ import annotations

import numpy as np
import pytest

from babelcast.audio.clicks import find_clicks
from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.audio.source import SourceAudio
from babelcast.units import RATE, Pcm
from babelcast.worker.seam import Seam
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


def test_what_came_before_is_not_handed_on_twice() -> None:
    seam = Seam(END)
    assert not seam.take(END - 9_600, bytes(4_800 * 4))[1]
    position, pcm = seam.take(END - 4_800, bytes(4_801 * 4))
    assert (position, len(pcm) // 4) == (END - RATE * 15 // 1_000, 721)
    assert seam.passed


def test_blocks_that_do_not_touch_are_not_joined() -> None:
    seam = Seam(END)
    seam.take(END - 9_600, bytes(4_800 * 4))
    position, pcm = seam.take(END - 200, bytes(4_800 * 4))
    assert (position, len(pcm) // 4) == (END + 1, 4_800 - 201)

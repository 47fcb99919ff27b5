"""What the mixer reads of the source has no edges, however it comes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import noise, worst_step_db

from babelcast.audio.fade import CROSSFADE
from babelcast.audio.pcm import from_s16le
from babelcast.audio.source import SourceAudio
from babelcast.units import RATE

pytestmark = pytest.mark.unit


def test_the_edges_of_a_gap_in_the_source_do_not_click() -> None:
    audio = SourceAudio(5)
    level = np.full((24_000, 2), 0.5, np.float32)
    audio.write_original(0, level)
    audio.write_original(30_000, level)
    block, present = audio.read_original(-1_000, 50_000)
    assert present == 43_000
    assert worst_step_db(block) < -60
    assert audio.background_lacks(0, 60_000) == 48_000


def test_a_step_back_is_crossfaded() -> None:
    audio = SourceAudio(5)
    audio.write_original(0, np.full((24_000, 2), 0.5, np.float32))
    audio.write_original(20_000, np.full((24_000, 2), -0.5, np.float32))
    audio.write_original(44_000, np.full((4_000, 2), -0.5, np.float32))
    block, _ = audio.read_original(0, 44_000)
    assert worst_step_db(block) < -60
    assert block[20_000 + 720 :].max() == -0.5  # the new block holds from then on


def test_the_same_sound_again_is_not_louder_where_it_is_crossfaded() -> None:
    audio = SourceAudio(5)
    level = np.full((24_000, 2), 0.5, np.float32)
    audio.write_original(0, level)
    audio.write_original(20_000, level)
    assert np.abs(audio.read_original(15_000, 20_000)[0] - 0.5).max() < 1e-3


@pytest.mark.parametrize("back", [300, 720, 2_000, 4_000])
def test_a_step_back_to_what_was_heard_fading_has_no_edge(back: int) -> None:
    audio = SourceAudio(5)
    level = np.full((24_000, 2), 0.5, np.float32)
    audio.write_original(0, level)
    heard = [audio.read_original(0, 22_800)[0]]  # in the middle of the fade at the end
    audio.write_original(24_000 - back, level[:200])
    audio.write_original(24_200 - back, level)
    heard += [audio.read_original(pos, 1_200)[0] for pos in range(22_800, 39_600, 1_200)]
    assert worst_step_db(np.concatenate(heard)) < -60
    assert (heard[-1] == 0.5).all()


def test_the_end_of_what_has_come_is_faded_and_so_is_what_comes_after_all() -> None:
    audio = SourceAudio(5)
    level = np.full((24_000, 2), 0.5, np.float32)
    audio.write_original(0, level)
    heard = [audio.read_original(pos, 4_800)[0] for pos in range(0, 24_000 - 4_800, 4_800)]
    assert np.array_equal(audio.peek_original(19_200, 4_800)[0], level[:4_800])  # measuring fades nothing
    heard.append(audio.read_original(19_200, 2_400)[0])
    audio.write_original(24_000, level)
    heard += [audio.read_original(pos, 2_400)[0] for pos in range(21_600, 40_800, 2_400)]
    sound = np.concatenate(heard)
    assert worst_step_db(sound) < -60
    assert sound[24_000 - 1 : 24_000 + 1].max() < 0.01
    assert (sound[28_000:] == 0.5).all()


def test_blocks_in_a_row_are_not_faded() -> None:
    audio = SourceAudio(5)
    signal = noise(48_000)
    for pos in range(0, 48_000, 1_024):
        audio.write_background(pos, signal[pos : pos + 1_024])
    assert np.array_equal(audio.read_background(1_000, 43_000)[0], signal[1_000:44_000])


def test_what_comes_after_its_turn_rises_from_where_the_reader_is() -> None:
    """A source that stalled for longer than the delay: all of it comes at once, its first part too late."""
    audio = SourceAudio(5)
    heard = [audio.read_original(pos, 4_800)[0] for pos in range(-4_800, 48_000, 4_800)]
    for pos in range(9_600, 96_000, 1_200):  # shorter than the fade
        audio.write_original(pos, np.full((1_200, 2), 0.5, np.float32))
    heard += [audio.read_original(pos, 4_800)[0] for pos in range(48_000, 76_800, 4_800)]
    sound = np.concatenate(heard)[4_800:]
    assert worst_step_db(sound) < -60
    assert not sound[:48_000].any() and (sound[48_000 + CROSSFADE :] == 0.5).all()
    assert (audio.peek_original(24_000, 24_000)[0] == 0.5).all(), "what is measured is as it came"


@pytest.mark.parametrize("seed", range(60))
def test_nothing_clicks_however_late_it_comes(seed: int) -> None:
    """Half a second of delay, stalls of up to 1.25 s, gaps of as much, blocks from 10 to 200 ms."""
    rng = np.random.default_rng(seed)
    audio, delay, end = SourceAudio(5), RATE // 2, 0
    waiting: list[tuple[int, int, int]] = []  # comes at, position, samples
    heard = []
    for now in range(0, 8 * RATE, 480):
        while end < now:
            end += int(rng.integers(0, 60_000)) if rng.random() < 0.05 else 0
            stall = int(rng.integers(0, 60_000)) if rng.random() < 0.02 else 0
            samples = int(rng.integers(480, 9_600))
            comes = max(end + samples, now + stall, waiting[-1][0] if waiting else 0)
            waiting.append((comes, end, samples))
            end += samples
        while waiting and waiting[0][0] <= now:
            _, position, samples = waiting.pop(0)
            audio.write_original(position, np.full((samples, 2), 0.5, np.float32))
        heard.append(audio.read_original(now - delay, 480)[0])
    sound = np.concatenate(heard)
    assert (sound == 0.5).mean() > 0.2
    assert worst_step_db(sound) < -60


def test_what_nothing_is_done_to_goes_out_to_the_bit_as_it_came() -> None:
    audio, random = SourceAudio(5), np.random.default_rng(3)
    came = random.integers(-32_768, 32_767, (96_000, 2), np.int16, endpoint=True)
    for pos in range(0, len(came), 4_800):
        audio.write_original(pos, came[pos : pos + 4_800])
    assert audio.original_s16le(4_800, 48_000) == came[4_800:52_800].tobytes()
    heard, present = audio.read_original(4_800, 48_000)
    assert present == 48_000
    assert np.array_equal(heard * 32_768, came[4_800:52_800])


def test_what_goes_out_as_it_came_is_faded_at_its_end_all_the_same() -> None:
    audio = SourceAudio(5)
    audio.write_original(0, np.full((24_000, 2), 16_384, np.int16))
    heard = from_s16le(audio.original_s16le(0, 30_000), 2)
    assert worst_step_db(heard[4_800:]) < -60
    assert not heard[24_000:].any()

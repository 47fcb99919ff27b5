"""PCM on the sample grid."""

from __future__ import annotations

import itertools
import random

import pytest

from babelcast.units import NS_PER_MS, samples_to_ns
from babelcast.worker.placement import AudioPlacement

pytestmark = pytest.mark.unit

BLOCK = 4_800


def test_rounded_timestamps_leave_no_gap() -> None:
    placement, rng = AudioPlacement(), random.Random(1)
    places = [placement.place(samples_to_ns(i * 1_024) + rng.randint(-660_000, 660_000), 1_024) for i in range(2_000)]
    assert {b - a for a, b in itertools.pairwise(places)} == {1_024}
    assert placement.corrections == 0


def test_a_lasting_step_is_followed_after_nine_blocks() -> None:
    placement = AudioPlacement()
    for i in range(20):
        placement.place(samples_to_ns(i * BLOCK), BLOCK)
    step = 40 * NS_PER_MS
    places = [placement.place(samples_to_ns(i * BLOCK) + step, BLOCK) for i in range(20, 40)]
    assert placement.corrections == 1
    assert places[0] == 20 * BLOCK
    assert places[-1] == 39 * BLOCK + 1_920


def test_one_wrong_timestamp_moves_nothing() -> None:
    placement = AudioPlacement()
    for i in range(30):
        wrong = 50 * NS_PER_MS if i == 15 else 0
        assert placement.place(samples_to_ns(i * BLOCK) + wrong, BLOCK) == i * BLOCK


def test_a_step_beyond_100_ms_is_followed_at_once() -> None:
    placement = AudioPlacement()
    placement.place(0, BLOCK)
    assert placement.place(samples_to_ns(BLOCK) + 101 * NS_PER_MS, BLOCK) == BLOCK + 4_848


def test_a_new_connection_begins_at_its_timestamp() -> None:
    placement = AudioPlacement()
    placement.place(0, BLOCK)
    placement.restart()
    assert placement.place(samples_to_ns(BLOCK) + 20 * NS_PER_MS, BLOCK) == BLOCK + 960

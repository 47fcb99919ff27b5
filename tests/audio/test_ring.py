from __future__ import annotations

import numpy as np
import pytest
from tests.audio.signals import noise

from babelcast.audio.ring import SampleRing

pytestmark = pytest.mark.unit


def test_reads_what_was_written_across_the_wrap() -> None:
    ring = SampleRing(100, 2)
    signal = noise(1_000)
    for pos in range(0, 1_000, 30):
        ring.write(pos, signal[pos : pos + 30])
    block, present = ring.read(910, 90)
    assert present == 90
    assert np.array_equal(block, signal[910:1000])
    assert ring.end == 1_000


def test_zeros_and_a_count_where_nothing_is() -> None:
    ring = SampleRing(100, 1)
    ring.write(10, np.ones(10, np.float32))
    ring.write(30, np.full(10, 2.0, np.float32))
    block, present = ring.read(5, 40)
    assert present == 20
    assert block[:, 0].tolist() == [0] * 5 + [1] * 10 + [0] * 10 + [2] * 10 + [0] * 5
    assert ring.present(0, 100) == 20
    assert ring.read(200, 10)[1] == 0


def test_what_is_older_than_the_capacity_is_gone() -> None:
    ring = SampleRing(50, 1)
    ring.write(0, np.ones(40, np.float32))
    ring.write(80, np.full(10, 3.0, np.float32))  # the window is now [40, 90)
    block, present = ring.read(0, 90)
    assert present == 10
    assert not block[:80].any()
    ring.write(0, np.ones(20, np.float32))  # too late: dropped
    assert ring.present(0, 90) == 10


def test_a_block_longer_than_the_ring_leaves_its_end() -> None:
    ring = SampleRing(50, 1)
    ring.write(7, np.arange(120, dtype=np.float32))
    block, present = ring.read(77, 50)
    assert present == 50
    assert np.array_equal(block[:, 0], np.arange(70, 120))


def test_overwriting_and_writing_before() -> None:
    ring = SampleRing(100, 1)
    ring.write(20, np.ones(20, np.float32))
    ring.write(30, np.full(20, 2.0, np.float32))
    ring.write(10, np.full(5, 3.0, np.float32))
    block, present = ring.read(0, 60)
    assert present == 35
    assert block[:, 0].tolist() == [0] * 10 + [3] * 5 + [0] * 5 + [1] * 10 + [2] * 20 + [0] * 10


def test_negative_positions() -> None:
    ring = SampleRing(100, 1)
    ring.write(-30, np.ones(20, np.float32))
    assert ring.end == -10
    assert ring.read(-40, 40)[1] == 20


def test_against_a_plain_model() -> None:
    rng = np.random.default_rng(5)
    ring = SampleRing(64, 1)
    model: dict[int, float] = {}
    end = 0
    for step in range(2_000):
        pos = int(end + rng.integers(-70, 40))
        block = np.full(int(rng.integers(1, 90)), float(step), np.float32)
        ring.write(pos, block)
        model.update((pos + i, float(step)) for i in range(len(block)))
        end = max(end, pos + len(block))
        model = {at: value for at, value in model.items() if at >= end - 64}
        got, present = ring.read(end - 80, 100)
        assert present == len(model)
        assert got[:, 0].tolist() == [model.get(end - 80 + i, 0.0) for i in range(100)]

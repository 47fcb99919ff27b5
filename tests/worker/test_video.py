"""The queue that holds pictures for the delay."""

from __future__ import annotations

import pytest

from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit
from babelcast.worker.video import VideoQueue

pytestmark = pytest.mark.unit

PICTURE = 40 * NS_PER_MS


def unit(i: int, size: int = 10) -> AccessUnit:
    return AccessUnit(i * PICTURE, i * PICTURE, i % 25 == 0, bytes(size), "caps")


def test_units_leave_in_order_when_they_are_due() -> None:
    queue = VideoQueue(2 * NS_PER_S)
    for i in range(10):
        queue.put(unit(i))
    assert [taken.dts_ns // PICTURE for taken in queue.take(3 * PICTURE)] == [0, 1, 2, 3]
    assert (len(queue), queue.size_bytes) == (6, 60)


def test_a_full_queue_loses_its_oldest_groups_of_pictures() -> None:
    queue = VideoQueue(2 * NS_PER_S)
    for i in range(25 * 30):
        queue.put(unit(i))
    kept = queue.take(1 << 62)
    assert kept[0].key
    assert kept[-1].dts_ns - kept[0].dts_ns <= 17 * NS_PER_S
    assert queue.dropped + len(kept) == 25 * 30


def test_memory_is_bounded() -> None:
    queue = VideoQueue(20 * NS_PER_S)
    for i in range(300):
        queue.put(unit(i, 1 << 20))
        assert queue.size_bytes <= 192 << 20

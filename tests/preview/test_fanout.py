"""The latest group of pictures and the viewers' queues."""

from __future__ import annotations

import asyncio

import pytest

from babelcast.preview import fanout
from babelcast.preview.fanout import Fanout, Queue, Sound, catch_up
from babelcast.preview.media import Picture

pytestmark = pytest.mark.unit


def _picture(n: int, *, key: bool = False, size: int = 1) -> Picture:
    return Picture(bytes([n % 256]) * size, n * 40, key)


async def _taken(queue: Queue) -> list[int]:
    """The numbers of the pictures that are in the queue now."""
    found: list[int] = []
    while True:
        try:
            item = await asyncio.wait_for(queue.get(), 0.01)
        except TimeoutError:
            return found
        assert item is not None
        found.append(item.data[0])


async def test_a_late_viewer_begins_with_the_latest_group() -> None:
    source, queue = Fanout(), Queue()
    for n in range(7):
        source.put_picture(_picture(n, key=n % 5 == 0))
    source.join(queue, None)
    source.put_picture(_picture(7))
    assert await _taken(queue) == [5, 6, 7]


def test_the_group_is_moved_to_the_live_edge() -> None:
    group = [_picture(n, key=n == 0) for n in range(50)]
    moved = [each.pts_ms for each in catch_up(group)]
    assert moved == list(range(49 * 40 - 49, 49 * 40 + 1))


async def test_a_viewer_before_the_source_waits_for_a_key_picture() -> None:
    source, queue, sound = Fanout(), Queue(), Queue()
    source.join(queue, sound)
    source.put_picture(_picture(1))
    source.put_sound(Sound(b"\x09", 0))
    source.put_picture(_picture(2, key=True))
    assert (await _taken(queue), await _taken(sound), source.dropped) == ([2], [9], 0)


async def test_a_slow_viewer_skips_to_the_next_key_picture_and_is_counted() -> None:
    source, slow = Fanout(), Queue(max_items=4)
    source.join(slow, None)
    for n in range(9):
        source.put_picture(_picture(n, key=n in (0, 7)))
    assert await _taken(slow) == [7, 8]
    assert slow.dropped == 7
    source.leave(slow)
    assert source.dropped == 7


async def test_slow_sound_goes_on_at_once() -> None:
    queue = Queue(max_items=2)
    for n in range(4):
        queue.put(Sound(bytes([n]), n * 960))
    assert await _taken(queue) == [3]


async def test_the_group_that_a_viewer_begins_with_does_not_count_as_slowness() -> None:
    source, queue = Fanout(), Queue(max_items=4)
    for n in range(20):
        source.put_picture(_picture(n, key=n == 0))
    source.join(queue, None)
    for n in range(20, 24):
        source.put_picture(_picture(n))
    assert await _taken(queue) == list(range(24))
    assert queue.dropped == 0


async def test_a_group_beyond_its_bound_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MAX_GROUP_BYTES", 100)
    source, queue = Fanout(), Queue()
    for n in range(5):
        source.put_picture(_picture(n, key=n == 0, size=30))
    source.join(queue, None)
    assert await _taken(queue) == []
    source.put_picture(_picture(5, key=True))
    assert await _taken(queue) == [5]


async def test_closing_ends_a_wait_and_leaving_twice_is_harmless() -> None:
    source, queue = Fanout(), Queue()
    source.join(queue, None)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()
    assert await asyncio.wait_for(waiting, 1) is None
    source.leave(queue)
    source.leave(queue)

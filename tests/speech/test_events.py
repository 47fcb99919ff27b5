"""The queue between a session and its reader."""

from __future__ import annotations

import asyncio

import pytest

from babelcast.speech.base import ClosedEvent, ProgressEvent, SpeechEvent
from babelcast.speech.events import EventQueue

pytestmark = pytest.mark.unit

END = ClosedEvent("finished", "", retryable=False)


async def read(queue: EventQueue) -> list[SpeechEvent]:
    async with asyncio.timeout(2):
        return [event async for event in queue.read()]


async def test_put_waits_for_room_and_push_makes_it() -> None:
    queue = EventQueue(2)
    queue.push(ProgressEvent(0))
    await queue.put(ProgressEvent(1))
    assert queue.full and len(queue) == 2
    waiting = asyncio.create_task(queue.put(ProgressEvent(3)))
    await asyncio.sleep(0)
    queue.push(ProgressEvent(2))  # instead of the oldest
    assert not waiting.done()
    reading = asyncio.create_task(read(queue))
    await waiting
    await queue.put(END)
    assert await reading == [ProgressEvent(1), ProgressEvent(2), ProgressEvent(3), END]


async def test_nothing_follows_the_end_and_a_full_queue_does_not_keep_it_out() -> None:
    queue = EventQueue(2)
    for i in range(3):
        queue.push(ProgressEvent(i))
    queue.push(END)
    assert queue.ended
    queue.push(ProgressEvent(3))
    queue.push(ClosedEvent("internal", "again", retryable=True))
    await queue.put(ProgressEvent(4))
    assert await read(queue) == [ProgressEvent(2), END]

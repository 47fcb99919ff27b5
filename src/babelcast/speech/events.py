"""A session's events on their way to whoever reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from babelcast.speech.base import ClosedEvent, SpeechEvent


class EventQueue:
    """Bounded; a ClosedEvent is the last, and nothing follows it. What a full queue means is said by whoever puts:
    wait for room (:meth:`put`), drop the oldest (:meth:`push`), or something else (:attr:`full`)."""

    def __init__(self, bound: int) -> None:
        self._queue: asyncio.Queue[SpeechEvent] = asyncio.Queue(bound)
        self.ended = False
        """The last event is in the queue, or was read."""

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        return self._queue.full()

    async def put(self, event: SpeechEvent) -> None:
        """Wait for room. Cancellable: then the event isn't in the queue."""
        if not self.ended:
            await self._queue.put(event)
            self.ended = self.ended or isinstance(event, ClosedEvent)

    def push(self, event: SpeechEvent) -> None:
        """Drop the oldest where there is no room."""
        if self.ended:
            return
        self.ended = isinstance(event, ClosedEvent)
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(event)

    async def read(self) -> AsyncIterator[SpeechEvent]:
        """Until the last one. Call once."""
        while True:
            event = await self._queue.get()
            yield event
            if isinstance(event, ClosedEvent):
                return

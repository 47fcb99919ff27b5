"""One stream for many listeners: none of them can hold up the others or the clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from babelcast.errors import BabelcastError


class Full(BabelcastError):
    """There are enough listeners, or producers."""


class Stuck(BabelcastError):
    """A listener took nothing for too long."""


class Listeners:
    """Batches of frames, the latest ``backlog`` of them kept for everybody; a listener is a place in them.

    Policy for a slow one: what it is too late for is *skipped and counted*; one that takes nothing at all for
    ``stuck_s`` is *dropped and counted*.
    """

    def __init__(self, backlog: int, stuck_s: float, most: int = 200) -> None:
        self._batches: deque[bytes] = deque(maxlen=backlog)
        self._end = 0
        """How many batches there have been."""
        self._news = asyncio.Event()
        self._stuck_s = stuck_s
        self._most = most
        self.count = 0
        self.refused = 0
        self.skipped = 0
        """Batches, over all listeners."""
        self.dropped = 0

    def publish(self, batch: bytes) -> None:
        self._batches.append(batch)
        self._end += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Of one listener. Raises Full where one more would be too many."""
        if self.count >= self._most:
            self.refused += 1
            raise Full(f"{self.count} listen already")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def follow(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Everything from now on, until cancelled or until ``write`` raises. Raises Stuck."""
        place = self._end
        while True:
            if place == self._end:
                await self._news.wait()
            kept = len(self._batches)
            behind = self._end - place
            if behind > kept:
                self.skipped += behind - kept
                behind = kept
            data = b"".join(self._batches[at] for at in range(kept - behind, kept))
            place = self._end
            await self._write(write, data)

    async def _write(self, write: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        try:
            async with asyncio.timeout(self._stuck_s):
                await write(data)
        except TimeoutError:
            self.dropped += 1
            raise Stuck(f"it took nothing for {self._stuck_s:g} s") from None

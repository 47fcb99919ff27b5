"""A speech backend without a service: hears everything, speaks a tone for every second, or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from babelcast.errors import SpeechUnavailableError
from babelcast.speech.base import (
    ClosedEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
)
from babelcast.units import NS_PER_S, DubSegment, SpeechFrame

RATE = 16_000


class FakeSession:
    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend
        self._events: asyncio.Queue[SpeechEvent] = asyncio.Queue()
        self._next_ns: int | None = None
        self._sequence = 0
        self.dropped_frames = 0

    async def send(self, frame: SpeechFrame) -> None:
        self._backend.frames.append(frame)
        if self._next_ns is None:
            self._next_ns = frame.start_ns
        while self._next_ns + NS_PER_S <= frame.end_ns:
            if self._backend.speaks:
                self._events.put_nowait(SegmentEvent(self._segment(self._next_ns)))
            self._next_ns += NS_PER_S
        self._events.put_nowait(ProgressEvent(self._next_ns))

    def _segment(self, start_ns: int) -> DubSegment:
        time = np.arange(RATE // 2, dtype=np.float32) / RATE
        voice = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        self._sequence += 1
        return DubSegment(
            f"{id(self)}-{self._sequence}", self._sequence - 1, start_ns, start_ns + NS_PER_S, voice, RATE, "one", "uno"
        )

    async def events(self) -> AsyncIterator[SpeechEvent]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, ClosedEvent):
                return

    async def finish(self) -> None:
        self._events.put_nowait(ClosedEvent("finished", "", retryable=False))

    async def aclose(self) -> None:
        pass


class FakeBackend:
    """``there`` False: opening a session fails, as it does while a service is down."""

    name = "fake"

    def __init__(self, *, speaks: bool = True, there: bool = True) -> None:
        self.speaks = speaks
        self.there = there
        self.frames: list[SpeechFrame] = []

    async def open(self, target: SpeechTarget) -> SpeechSession:
        if not self.there:
            raise SpeechUnavailableError("not there")
        return FakeSession(self)

    async def aclose(self) -> None:
        pass

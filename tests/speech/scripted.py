"""Speech backends whose every step the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from babelcast.speech.base import ClosedEvent, SegmentEvent, SpeechEvent, SpeechTarget
from babelcast.units import NS_PER_S, DubSegment, SpeechFrame

TARGET = SpeechTarget("show", "en", "es")


def frame(second: float) -> SpeechFrame:
    """A whole second of sound."""
    return SpeechFrame(int(second * NS_PER_S), bytes(32_000))


def segment(sequence: int, start: float, end: float) -> SegmentEvent:
    samples = np.zeros(10, np.float32)
    return SegmentEvent(
        DubSegment(f"s{sequence}", sequence, int(start * NS_PER_S), int(end * NS_PER_S), samples, 22_050)
    )


class ScriptedSession:
    def __init__(self) -> None:
        self.heard: list[SpeechFrame] = []
        self.says: asyncio.Queue[SpeechEvent] = asyncio.Queue()
        self.finished = self.closed = False
        self.dropped_frames = 0

    async def send(self, frame: SpeechFrame) -> None:
        self.heard.append(frame)

    async def events(self) -> AsyncIterator[SpeechEvent]:
        while True:
            event = await self.says.get()
            yield event
            if isinstance(event, ClosedEvent):
                return

    async def finish(self) -> None:
        self.finished = True
        self.says.put_nowait(ClosedEvent("finished", "", retryable=False))

    async def aclose(self) -> None:
        self.closed = True


class ScriptedBackend:
    """Opens what ``script`` holds: an error is raised, a session given."""

    name = "scripted"

    def __init__(self, *script: ScriptedSession | Exception) -> None:
        self.script = list(script)
        self.opened = 0

    async def open(self, target: SpeechTarget) -> ScriptedSession:
        step = self.script.pop(0)
        self.opened += 1
        if isinstance(step, Exception):
            raise step
        return step

    async def aclose(self) -> None:
        pass


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)

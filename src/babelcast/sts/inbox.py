"""Sound that waits for a session's engine."""

from __future__ import annotations

import asyncio
from collections import deque

from babelcast.errors import SpeechError, SpeechUnavailableError

_BATCH_S = 0.3
_MAX_FRAME_S = 2.0


class Inbox:
    """Frames that wait, in order. Full policy: raise SpeechUnavailableError, which ends the session."""

    def __init__(self, rate: int, bound_s: float) -> None:
        self._rate = rate
        self._bound = int(bound_s * rate) * 2
        self._frames: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._ended = False

    @property
    def queued_s(self) -> float:
        return self._bytes / 2 / self._rate

    def put(self, source_ns: int, pcm: bytes) -> None:
        if self._ended:
            raise SpeechError("a frame after finish", code="bad_request")
        if not pcm or len(pcm) % 2 or len(pcm) > _MAX_FRAME_S * self._rate * 2:
            raise SpeechError("a frame is 1 sample to 2 s of S16LE mono", code="bad_request")
        if self._bytes + len(pcm) > self._bound:
            raise SpeechUnavailableError("the session can't keep up with its sound", code="overloaded")
        self._frames.append((source_ns, pcm))
        self._bytes += len(pcm)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def take(self) -> list[tuple[int, bytes]]:
        """At least one frame, at most about :data:`_BATCH_S` of sound; empty at the end."""
        while not self._frames:
            if self._ended:
                return []
            self._wake.clear()
            await self._wake.wait()
        batch, size = [], 0
        while self._frames and size < _BATCH_S * self._rate * 2:
            frame = self._frames.popleft()
            batch.append(frame)
            size += len(frame[1])
        self._bytes -= size
        return batch

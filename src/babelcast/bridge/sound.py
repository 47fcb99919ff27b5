"""Sound from a movable source: an endless row of samples, paced by the clock, silence where the source gives nothing.

Whoever encodes reads a pipe that never stalls, so a source of sound may be slow, die, come back, or be exchanged for
another one while the pictures go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator

from babelcast.audio.pcm import to_s16le
from babelcast.bridge import command
from babelcast.bridge.encoder import Ffmpeg, outcome
from babelcast.bridge.jitter import SoundQueue
from babelcast.bridge.settings import is_file, listens
from babelcast.bridge.status import SoundState
from babelcast.errors import BabelcastError, IngestError
from babelcast.worker.backoff import Backoff

log = logging.getLogger(__name__)

_STEP_S = 0.02
_TARGET_S, _LATE_S, _MOST_S = 0.2, 1.0, 10.0
_FRAME = 2 * command.CHANNELS
_PIPE_BYTES = 16 << 10  # 85 ms: what was written before a reader came must not become delay
_MOST_BEHIND_S = 0.5
_LOOK_S = 0.2
_STALLED_S, _GONE_S = 1.0, 15.0


class Sound:
    """``run()`` until cancelled. :meth:`use` chooses the source at any time."""

    def __init__(self) -> None:
        self.state: SoundState = "silence"
        self.last_error: str | None = None
        self.reconnects = 0
        self._queue = _empty()
        self._writers: set[int] = set()
        self._source = "silence"
        self._heard_at = 0.0
        self._chosen = asyncio.Event()

    def use(self, source: str) -> None:
        """The value of ``AUDIO_SOURCE``. No effect where it is the present one."""
        if source != self._source:
            self._source = source
            self._chosen.set()

    @contextlib.contextmanager
    def pipe(self) -> Iterator[int]:
        """The reading end of a pipe of samples, for a child; the reader closes it. Writing ends with the block."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._writers.add(writing)
        try:
            yield reading
        finally:
            self._writers.discard(writing)
            os.close(writing)

    async def run(self) -> None:
        self._chosen.set()  # also where it begins again
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pace(), name="bridge sound")
            group.create_task(self._sources(), name="bridge sound source")

    async def _pace(self) -> None:
        begun, written = time.monotonic(), 0
        while True:
            await asyncio.sleep(_STEP_S)
            due = int((time.monotonic() - begun) * command.RATE)
            if due - written > _MOST_BEHIND_S * command.RATE:
                written = due - int(_STEP_S * command.RATE)  # we were suspended: what is missed stays missed
            while written < due:
                frames = min(due - written, 1024)  # 4096 bytes: a pipe takes them whole or not at all
                block = self._queue.take(frames)
                self._write(bytes(frames * _FRAME) if block is None else to_s16le(block))
                written += frames

    def _write(self, data: bytes) -> None:
        for writer in self._writers:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # nobody reads now: nothing to be late for
                os.write(writer, data)

    async def _sources(self) -> None:
        while True:
            await self._chosen.wait()
            self._chosen.clear()
            self._queue, self.last_error = _empty(), None
            if not command.is_played(self._source):
                self.state = "input" if self._source == "input" else "silence"
                continue
            source = asyncio.create_task(self._play_forever(self._source))
            changed = asyncio.create_task(self._chosen.wait())
            try:
                await asyncio.wait({source, changed}, return_when=asyncio.FIRST_COMPLETED)
                if source.done():
                    source.result()  # raises: it ends by a fault alone
            finally:
                source.cancel()
                changed.cancel()
                await asyncio.gather(source, changed, return_exceptions=True)

    async def _play_forever(self, address: str) -> None:
        backoff = Backoff(first_s=0.5, most_s=10.0)
        while True:
            self.state = "connecting"
            begun = time.monotonic()
            self.last_error = str(await self._play(address))
            if time.monotonic() - begun > 10:
                backoff.reset()
            self.state = "retrying"
            self.reconnects += 1
            wait_s = backoff.next_s()
            log.warning("the source of sound is gone: %s; next attempt in %.1f s", self.last_error, wait_s)
            await asyncio.sleep(wait_s)

    async def _play(self, address: str) -> BabelcastError:
        """Until it ends, or nothing came of it for too long. Why."""
        local = is_file(address) or address.startswith("lavfi:")
        playlist = None if local else command.playlist(address, low_delay=True)
        ffmpeg = Ffmpeg(lambda pipes: command.sound(address, pipes.playlist), playlist=playlist)
        self._heard_at = time.monotonic()
        task = asyncio.create_task(outcome(ffmpeg.run(self._receive)))
        try:
            while True:
                await asyncio.wait({task}, timeout=_LOOK_S)
                if task.done():
                    return task.result()
                still_s = time.monotonic() - self._heard_at
                if self.state == "live" and still_s > _STALLED_S:
                    self.state = "stalled"
                if still_s > _GONE_S and not listens(address):
                    return IngestError(f"nothing came of it for {_GONE_S:g} s")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 15):
            self.state, self.last_error = "live", None
            self._heard_at = time.monotonic()
            self._queue.put(data)


def _empty() -> SoundQueue:
    return SoundQueue(_TARGET_S, _MOST_S, late_s=_LATE_S)

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
from typing import Literal

from babelcast.bridge import command
from babelcast.bridge.encoder import Ffmpeg
from babelcast.errors import BabelcastError
from babelcast.worker.backoff import Backoff

log = logging.getLogger(__name__)

FRAME = 4  # bytes: two channels of 16 bits
STEP_S = 0.02
_PIPE_BYTES = 16 << 10  # 85 ms: what was written before a reader came must not become delay
_LIVE_S = 1.0
_MOST_BEHIND_S = 0.5

SoundState = Literal["input", "silence", "connecting", "live", "retrying"]


class Ring:
    """Samples between a source that comes in bursts and a reader that is paced. Pure.

    Waits until ``start_s`` are there before it plays, again after it ran dry. Full policy: *drop the oldest* down to
    ``start_s``, count.
    """

    def __init__(self, start_s: float = 0.2, most_s: float = 1.0) -> None:
        self._start = round(start_s * command.RATE) * FRAME
        self._most = round(most_s * command.RATE) * FRAME
        self._data = bytearray()
        self._playing = False
        self.dropped = 0
        """Bytes."""

    def put(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._most:
            excess = (len(self._data) - self._start) // FRAME * FRAME
            del self._data[:excess]
            self.dropped += excess

    def take(self, size: int) -> bytes:
        """``size`` bytes (whole frames), filled with silence."""
        self._playing = len(self._data) >= (FRAME if self._playing else self._start)
        if not self._playing:
            return bytes(size)
        found = min(size, len(self._data) // FRAME * FRAME)
        data = bytes(self._data[:found])
        del self._data[:found]
        return data.ljust(size, b"\0")

    def clear(self) -> None:
        self._data.clear()
        self._playing = False


class Sound:
    """``run()`` until cancelled. :meth:`use` chooses the source at any time."""

    def __init__(self) -> None:
        self.state: SoundState = "silence"
        self.last_error: str | None = None
        self.reconnects = 0
        self._ring = Ring()
        self._writers: set[int] = set()
        self._address: str | None = None
        self._chosen = asyncio.Event()
        self._heard_at = float("-inf")

    def use(self, source: str) -> None:
        """The value of ``AUDIO_SOURCE``. No effect where it is the present one."""
        own = source in ("input", "silence") or source.startswith(("anullsrc", "lavfi:anullsrc"))
        address = None if own else source
        if not own and address == self._address:
            return
        self._address = address
        if own:
            self.state = "input" if source == "input" else "silence"
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
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pace(), name="bridge sound")
            group.create_task(self._sources(), name="bridge sound source")

    async def _pace(self) -> None:
        begun, written = time.monotonic(), 0
        while True:
            await asyncio.sleep(STEP_S)
            due = int((time.monotonic() - begun) * command.RATE)
            if due - written > _MOST_BEHIND_S * command.RATE:
                written = due - int(STEP_S * command.RATE)  # we were suspended: what is missed stays missed
            while written < due:
                frames = min(due - written, 1024)  # 4096 bytes: a pipe takes them whole or not at all
                self._write(self._ring.take(frames * FRAME))
                written += frames

    def _write(self, data: bytes) -> None:
        for writer in self._writers:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # nobody reads now: nothing to be late for
                os.write(writer, data)

    async def _sources(self) -> None:
        while True:
            await self._chosen.wait()
            self._chosen.clear()
            self._ring.clear()
            if self._address is None:
                continue
            source = asyncio.create_task(self._play_forever(self._address))
            changed = asyncio.create_task(self._chosen.wait())
            try:
                await asyncio.wait({source, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                source.cancel()
                changed.cancel()
                await asyncio.gather(source, changed, return_exceptions=True)

    async def _play_forever(self, address: str) -> None:
        backoff = Backoff(first_s=0.5, most_s=10.0)
        while True:
            self.state = "connecting"
            local = command.is_file(address) or address.startswith("lavfi:")
            playlist = None if local else command.playlist(address, low_delay=True)
            ffmpeg = Ffmpeg(lambda pipes: command.sound(address, pipes.playlist), playlist=playlist)
            begun = time.monotonic()
            try:
                await ffmpeg.run(self._receive)
            except BabelcastError as error:
                self.last_error = str(error)
            if time.monotonic() - begun > 10:
                backoff.reset()
            self.state = "retrying"
            self.reconnects += 1
            wait_s = backoff.next_s()
            log.warning("the source of sound is gone: %s; next attempt in %.1f s", self.last_error, wait_s)
            await asyncio.sleep(wait_s)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 15):
            self.state = "live"
            self._heard_at = time.monotonic()
            self._ring.put(data)

    @property
    def heard(self) -> bool:
        """Samples came a moment ago."""
        return time.monotonic() - self._heard_at < _LIVE_S

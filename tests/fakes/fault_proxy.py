"""A bad network in front of any TCP server, made without the kernel: delay, jitter, a narrow line, loss, silence.

Loss is what TCP makes of it: nothing is missing, but a segment comes a retransmission timeout late, and what is behind
it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_SEGMENT = 1_448
_WINDOW = 256 << 10
_LINGER_S = 0.02
"""How often a held connection looks whether it may go on."""


@dataclass
class FaultProxy:
    """Both directions of every connection, living ones too, follow the fields as they are at the moment.

    A direction keeps at most 256 KiB that it has read and not yet passed on; then it reads no more, and the sender
    feels it. The end of one direction ends both.
    """

    target_port: int
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the delay, evenly between 0 and this; nothing overtakes."""
    loss: float = 0.0
    """Share of the segments of 1,448 bytes that are lost once and sent again after ``rto_s``."""
    rto_s: float = 0.3
    bytes_per_s: float | None = None
    stalled: bool = False
    """Connections stay open, and nothing comes through."""
    refuses: bool = False
    """New connections are reset."""
    port: int = 0
    connections: int = 0
    seed: int = 0
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[FaultProxy]:
        self._random = random.Random(self.seed)
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()

    def reset(self) -> None:
        """Cut every connection at once, without a goodbye."""
        for writer in tuple(self._ends):
            _cut(writer)

    def heal(self) -> None:
        """A good network again."""
        self.delay_s = self.jitter_s = self.loss = 0.0
        self.bytes_per_s, self.stalled, self.refuses = None, False, False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        ends = [writer]
        try:
            if self.refuses:
                _cut(writer)
            else:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
                ends.append(far_writer)
                self._ends.update(ends)
                pipes = (self._pipe(reader, far_writer), self._pipe(far_reader, writer))
                await _first_of(*map(asyncio.create_task, pipes))
        except OSError:
            pass
        finally:
            self._ends.difference_update(ends)
            for end in ends:
                end.transport.abort()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the sender's end, and what came before it is passed on."""
        held: deque[tuple[float, bytes]] = deque()
        room = asyncio.Event()
        reading = asyncio.create_task(self._read(reader, held, room))
        loop = asyncio.get_running_loop()
        try:
            while held or not reading.done():
                if not held or self.stalled or held[0][0] > loop.time():
                    wait_s = held[0][0] - loop.time() if held and not self.stalled else _LINGER_S
                    await asyncio.sleep(min(max(wait_s, 0.001), _LINGER_S))
                    continue
                data = held.popleft()[1]
                room.set()
                writer.write(data)
                await writer.drain()
                if self.bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, held: deque[tuple[float, bytes]], room: asyncio.Event) -> None:
        last = 0.0
        while data := await reader.read(_SEGMENT if self.loss or self.bytes_per_s else 1 << 16):
            while sum(len(each) for _, each in held) > _WINDOW:
                room.clear()
                await room.wait()
            due = asyncio.get_running_loop().time() + self.delay_s + self._random.uniform(0.0, self.jitter_s)
            if self._random.random() < self.loss:
                due += self.rto_s
            last = max(last, due)
            held.append((last, data))


def _cut(writer: asyncio.StreamWriter) -> None:
    """With RST, as a machine does that knows nothing of the connection."""
    with contextlib.suppress(OSError):
        no_linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    writer.transport.abort()


async def _first_of(*tasks: asyncio.Task[None]) -> None:
    """Wait for one, end the others; raises what the first raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""A third party's RTMP ingest that does what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from babelcast.errors import RtmpError
from babelcast.rtmp.message import Message
from babelcast.rtmp.protocol import PublishRequested, ServerProtocol, StreamClosed

Behaviour = Literal["accept", "refuse", "mute", "stop reading"]
"""``mute`` accepts the TCP connection and never says a word; ``stop reading`` does so once publishing began."""


@dataclass
class Session:
    """One publisher's connection. ``said_goodbye``: it unpublished before it went."""

    path: str = ""
    messages: list[Message] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """When each message came, in the loop's time."""
    said_goodbye: bool = False
    closed: bool = False


@dataclass
class FakeDestination:
    """``behaviour`` holds for the next connections; ``refusal`` quotes the key back, as some servers do."""

    behaviour: Behaviour = "accept"
    refusal: str = "NetStream.Publish.BadName"
    port: int = 0
    sessions: list[Session] = field(default_factory=list)
    attempts: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _talks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"rtmp://127.0.0.1:{self.port}/app"

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeDestination]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            await server.wait_closed()
            if self._talks:
                await asyncio.wait(self._talks, timeout=5)

    def hang_up(self) -> None:
        """Cut every connection, without a goodbye."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        self._writers.add(writer)
        if (talk := asyncio.current_task()) is not None:
            self._talks.add(talk)
            talk.add_done_callback(self._talks.discard)
        try:
            with contextlib.suppress(OSError, RtmpError):
                await self._talk(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol, session = ServerProtocol(), Session()
        if self.behaviour == "mute":
            await reader.read(-1)
            return
        try:
            while data := await reader.read(1 << 16):
                for event in protocol.receive(data):
                    if isinstance(event, PublishRequested):
                        session.path = event.path
                        if self.behaviour == "refuse":
                            protocol.reject(self.refusal, f"no such key: {event.path}")
                        else:
                            protocol.accept_publish()
                            self.sessions.append(session)
                    elif isinstance(event, Message):
                        session.messages.append(event)
                        session.arrived.append(asyncio.get_running_loop().time())
                    elif isinstance(event, StreamClosed):
                        session.said_goodbye = True
                writer.write(protocol.data_to_send())
                await writer.drain()
                while session.messages and self.behaviour == "stop reading" and not writer.transport.is_closing():
                    await asyncio.sleep(0.02)
        finally:
            session.closed = True

"""Peers for the relay's tests: one driven by hand, and the media that they send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp import amf0
from babelcast.rtmp.client_protocol import ClientProtocol
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import Connected, Event, Started, StreamClosed
from babelcast.rtmp.url import parse_url

METADATA = Message(
    MessageType.DATA, 0, amf0.encode("onMetaData", amf0.EcmaArray(videocodecid=7, audiocodecid=10, width=64, height=48))
)
AVC = Message(MessageType.VIDEO, 0, b"\x17\x00\x00\x00\x00\x01\x64\x00\x1f\xff")
AAC = Message(MessageType.AUDIO, 0, b"\xaf\x00\x11\x90")
HEADERS = (METADATA, AVC, AAC)


def settings(**changes: object) -> RelaySettings:
    """Free ports, and quick to give up."""
    values: dict[str, object] = {"rtmp_port": 0, "api_port": 0, "timeout_s": 5.0} | changes
    return RelaySettings(**values)  # type: ignore[arg-type]


def key_frame(time: int, size: int = 100) -> Message:
    return Message(MessageType.VIDEO, time, b"\x17\x01\0\0\0" + bytes(size))


def inter_frame(time: int, size: int = 100) -> Message:
    return Message(MessageType.VIDEO, time, b"\x27\x01\0\0\0" + bytes(size))


def sound(time: int) -> Message:
    return Message(MessageType.AUDIO, time, b"\xaf\x01sound")


def plain(messages: list[Message]) -> list[tuple[int, int, bytes]]:
    return [(message.type, message.timestamp, message.payload) for message in messages]


class Peer:
    """A client that reads only when it is told to: what a stalled or careless peer looks like."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.protocol = ClientProtocol(parse_url(url))
        self.reader = reader
        self.writer = writer
        self.seen: list[Event] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, receive_buffer: int | None = None) -> AsyncIterator[Self]:
        target = parse_url(url)
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (target.host, target.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 65_536)
        try:
            yield cls(url, reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    async def until(self, kind: type[Event]) -> None:
        """Exchange bytes until an event of ``kind`` has come."""
        while not any(isinstance(event, kind) for event in self.seen):
            await self.step()

    async def step(self) -> bool:
        """Send what is to be sent, read once; False at the end of the connection."""
        self.writer.write(self.protocol.data_to_send())
        async with asyncio.timeout(10):
            data = await self.reader.read(65_536)
        self.seen += self.protocol.receive(data)
        return bool(data)

    async def play(self) -> None:
        await self.until(Connected)
        self.protocol.play()
        await self.until(Started)

    async def publish(self) -> None:
        await self.until(Connected)
        self.protocol.publish()
        await self.until(Started)

    def messages(self) -> list[Message]:
        return [event for event in self.seen if isinstance(event, Message)]

    async def drain(self) -> list[Message]:
        """Read to the end of the stream."""
        while not any(isinstance(event, StreamClosed) for event in self.seen) and await self.step():
            pass
        return self.messages()


async def closed_by_peer(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes within 10 s, whatever it says before."""
    try:
        async with asyncio.timeout(10):
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True

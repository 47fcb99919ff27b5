"""The client against a server on its own, so that what the server does can be scripted."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from babelcast.errors import RtmpError
from babelcast.rtmp import amf0
from babelcast.rtmp.chunks import encode
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import Event, PlayRequested, PublishRequested, ServerProtocol

pytestmark = pytest.mark.integration


class Server(asyncio.Protocol):
    """Accepts everything; keeps what it heard."""

    def __init__(self) -> None:
        self.protocol = ServerProtocol()
        self.heard: list[Event] = []
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for event in self.protocol.receive(data):
            self.heard.append(event)
            if isinstance(event, PublishRequested):
                self.on_publish()
            elif isinstance(event, PlayRequested):
                self.on_play()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def on_publish(self) -> None:
        self.protocol.accept_publish()

    def on_play(self) -> None:
        self.protocol.accept_play()

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(self.protocol.data_to_send())

    def messages(self) -> list[Message]:
        return [event for event in self.heard if isinstance(event, Message)]


@asynccontextmanager
async def serve(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: server, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'rtmps' if tls else 'rtmp'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        if server.transport is not None:
            server.transport.abort()
        await asyncio.sleep(0.01)


async def eventually(check: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.01)


METADATA = amf0.encode("onMetaData", {"width": 1.0})
SENT = [
    Message(MessageType.DATA, 0, METADATA, 1),
    Message(MessageType.VIDEO, 40, b"\x91hvc1" + bytes(200_000), 1),
    Message(MessageType.AUDIO, 50, b"\xaf\x01x", 1),
]


async def test_publish_wraps_metadata_counts_bytes_and_says_goodbye() -> None:
    server = Server()
    async with serve(server) as url:
        async with RtmpClient.connect(f"{url}/live2", key="secret?x=1") as client:
            await client.publish()
            before = client.bytes_sent
            for message in SENT:
                await client.send(message)
            assert 200_000 < client.bytes_sent - before < 201_000
        await eventually(lambda: len(server.heard) == 5)
    assert server.heard[0] == PublishRequested("live2/secret", "x=1")
    assert server.messages()[0].payload == amf0.encode("@setDataFrame") + METADATA
    assert server.messages()[1:] == SENT[1:]
    assert type(server.heard[-1]).__name__ == "StreamClosed"


async def test_the_end_of_a_programme_reaches_a_server_that_is_behind_and_still_talks() -> None:
    class Behind(Server):
        def on_publish(self) -> None:
            super().on_publish()
            self.flush()
            assert self.transport is not None
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.3, self.go_on)

        def go_on(self) -> None:
            # a closed socket answers what comes in with a reset, and what was still to be sent is lost
            assert self.transport is not None
            self.transport.write(encode(Message(MessageType.ACKNOWLEDGEMENT, 0, bytes(4)), 2, 65_536))
            asyncio.get_running_loop().call_later(0.1, self.transport.resume_reading)

    server = Behind()
    sent = [Message(MessageType.VIDEO, n * 40, bytes(100_000), 1) for n in range(10)]
    async with serve(server) as url:
        async with RtmpClient.connect(f"{url}/live2", key="secret") as client:
            await client.publish()
            for message in sent:
                await client.send(message)
        await eventually(lambda: server.lost)
    assert server.messages() == sent
    assert type(server.heard[-1]).__name__ == "StreamClosed"


async def test_play_gives_the_messages_until_the_end() -> None:
    class Plays(Server):
        def on_play(self) -> None:
            super().on_play()
            for message in SENT:
                self.protocol.send_media(message)
            self.protocol.end_play()

    async with serve(Plays()) as url, RtmpClient.connect(f"{url}/live/x/out") as client:
        await client.play()
        assert [message async for message in client.messages()] == SENT
        assert client.bytes_received > 200_000


async def test_server_that_just_closes_ends_the_messages() -> None:
    class Closes(Server):
        def on_play(self) -> None:
            super().on_play()
            self.protocol.send_media(SENT[1])
            self.flush()
            assert self.transport is not None
            self.transport.close()

    async with serve(Closes()) as url, RtmpClient.connect(f"{url}/live/x/out") as client:
        await client.play()
        assert [message async for message in client.messages()] == [SENT[1]]


async def test_reader_that_is_slow_pauses_the_server_and_loses_nothing() -> None:
    sent = [Message(MessageType.VIDEO, n, bytes(10_000), 1) for n in range(4_000)]

    class Floods(Server):
        def on_play(self) -> None:
            super().on_play()
            for message in sent:
                self.protocol.send_media(message)

    server = Floods()
    async with serve(server) as url, RtmpClient.connect(f"{url}/live/x/out") as client:
        await client.play()
        await asyncio.sleep(0.5)
        assert client.bytes_received < 35_000_000, "the socket is paused"
        count = 0
        async for message in client.messages():
            assert message.timestamp == count
            count += 1
            if count == len(sent):
                break


class Stalls(Server):
    """Takes nothing once it has accepted a publisher."""

    def on_publish(self) -> None:
        super().on_publish()
        self.flush()
        assert self.transport is not None
        self.transport.pause_reading()


async def test_stalled_server_fails_the_write_in_time() -> None:
    async with serve(Stalls()) as url, RtmpClient.connect(f"{url}/live/x/in", io_timeout_s=0.3) as client:
        await client.publish()
        with pytest.raises(RtmpError, match="took no data") as caught:
            for n in range(1_000):
                await client.send(Message(MessageType.VIDEO, n, bytes(100_000)))
    assert caught.value.retryable


async def test_a_write_that_the_kernel_gives_up_before_us_is_said_in_the_same_words() -> None:
    """Both have the same limit. On a busy machine the kernel is first, and '[Errno 110]' was all that was said."""
    async with serve(Stalls()) as url, RtmpClient.connect(f"{url}/live/x/in", io_timeout_s=20) as client:
        await client.publish()
        transport = client._connection._transport
        assert transport is not None
        kernels = transport.get_extra_info("socket")
        kernels.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
        with pytest.raises(RtmpError, match=r"took no data for 20 s$") as caught:
            for n in range(1_000):
                await client.send(Message(MessageType.VIDEO, n, bytes(100_000)))
    assert caught.value.retryable


async def test_silent_servers_are_given_up() -> None:
    class Silent(Server):
        def data_received(self, data: bytes) -> None:
            pass

    async with serve(Silent()) as url:
        with pytest.raises(RtmpError, match="no answer") as caught:
            async with RtmpClient.connect(f"{url}/live/x/in", timeout_s=0.3):
                pass
        assert caught.value.retryable
    async with serve(Server()) as url, RtmpClient.connect(f"{url}/live/x/in", io_timeout_s=0.3) as client:
        await client.play()
        with pytest.raises(RtmpError, match="nothing from"):
            _ = [message async for message in client.messages()]


async def test_refusal_midway_reaches_the_sender() -> None:
    class Throws(Server):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.messages():
                self.protocol.reject("NetStream.Publish.Denied", "the quota is used up")
                self.flush()

    async with serve(Throws()) as url, RtmpClient.connect(f"{url}/live/x/in") as client:
        await client.publish()
        with pytest.raises(RtmpError, match="quota") as caught:
            for n in range(500):
                await client.send(Message(MessageType.AUDIO, n, b"\xaf\x01x"))
                await asyncio.sleep(0.01)
    assert caught.value.code == "NetStream.Publish.Denied"
    assert not caught.value.retryable


async def test_server_that_goes_away_midway_reaches_the_sender() -> None:
    class Leaves(Server):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.messages() and self.transport is not None:
                self.transport.abort()

    async with serve(Leaves()) as url, RtmpClient.connect(f"{url}/live/x/in") as client:
        await client.publish()
        with pytest.raises(RtmpError) as caught:
            for n in range(500):
                await client.send(Message(MessageType.AUDIO, n, b"\xaf\x01x"))
                await asyncio.sleep(0.01)
    assert caught.value.retryable


async def test_nobody_there(free_port: Callable[[], int]) -> None:
    with pytest.raises(RtmpError, match=r"can't connect to 127.0.0.1:\d+: connection refused$") as caught:
        async with RtmpClient.connect(f"rtmp://127.0.0.1:{free_port()}/live/secret-key"):
            pass
    assert caught.value.retryable
    assert "secret-key" not in str(caught.value)


@pytest.fixture
def self_signed(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True, timeout=30)
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
async def test_rtmps_and_a_certificate_that_is_not_trusted(self_signed: tuple[Path, Path]) -> None:
    certificate, key = self_signed
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = Server()
    async with serve(server, tls) as url:
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with RtmpClient.connect(f"{url}/live/x/in", tls=trusted) as client:
            await client.publish()
            await client.send(SENT[1])
            await eventually(server.messages)
        assert server.messages() == [SENT[1]]
        with pytest.raises(RtmpError, match="certificate") as caught:
            async with RtmpClient.connect(f"{url}/live/x/in"):
                pass
        assert not caught.value.retryable

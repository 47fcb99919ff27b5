"""Answers come at once, and a listener that is gone does not keep its place."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi.responses import StreamingResponse

from babelcast.orchestrator import http_server
from babelcast.orchestrator.http_server import serving
from babelcast.orchestrator.problems import create_api
from tests.orchestrator.conftest import eventually

pytestmark = pytest.mark.integration


class Feed:
    """Answers without an end; who listens is counted."""

    def __init__(self, every_s: float, size: int) -> None:
        self.listeners = 0
        self.app = create_api("feed", "for a test", None)

        async def parts() -> AsyncIterator[bytes]:
            self.listeners += 1
            try:
                while True:
                    yield b"x" * size
                    await asyncio.sleep(every_s)
            finally:
                self.listeners -= 1

        @self.app.get("/feed")
        async def feed() -> StreamingResponse:
            return StreamingResponse(parts(), media_type="text/event-stream")


@contextlib.contextmanager
def reader(port: int) -> Iterator[socket.socket]:
    """A client that has asked, and reads nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /feed HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        yield client


@pytest.mark.parametrize(("every_s", "size"), [(0.01, 20_000), (0.0, 1 << 20)], ids=["bit by bit", "all that it takes"])
async def test_a_listener_that_reads_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, every_s: float, size: int
) -> None:
    monkeypatch.setattr(http_server, "GONE_AFTER_S", 0.5)
    feed = Feed(every_s, size)
    async with serving(feed.app, "127.0.0.1", 0) as port:
        with reader(port):
            await eventually(lambda: feed.listeners == 1, "it listens")
            await eventually(lambda: feed.listeners == 0, "it is cut off", timeout_s=30)


async def test_one_that_closes_is_noticed_at_once_though_nothing_is_said() -> None:
    feed = Feed(3_600.0, 1)
    async with serving(feed.app, "127.0.0.1", 0) as port:
        with reader(port):
            await eventually(lambda: feed.listeners == 1, "it listens")
        await eventually(lambda: feed.listeners == 0, "it is gone", timeout_s=3)


async def test_connections_have_what_the_kernel_is_to_do() -> None:
    """No answer's second part waits for its first part's acknowledgement; a machine that is gone is noticed."""
    with contextlib.closing(http_server._listen("127.0.0.1", 0, "listen.api")) as listener:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = await asyncio.to_thread(listener.accept)
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000

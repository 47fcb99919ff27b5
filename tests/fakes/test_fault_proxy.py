"""The bad network itself: what it does to bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.fakes.fault_proxy import FaultProxy

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[FaultProxy]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]).listening() as proxy:
        yield proxy
    await asyncio.sleep(0.02)  # the other ends of what was cut learn of it


async def said_back(proxy: FaultProxy, data: bytes) -> tuple[bytes, float]:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    began = loop.time()
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), 5), loop.time() - began
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_bytes_come_through_unchanged_and_late() -> None:
    data = bytes(range(256)) * 1_000
    async with echo() as proxy:
        assert (await said_back(proxy, data))[0] == data
        proxy.delay_s, proxy.jitter_s, proxy.loss, proxy.rto_s = 0.03, 0.01, 0.1, 0.02
        heard, took = await said_back(proxy, data)
        assert heard == data and took >= 0.06, "both directions are delayed"


async def test_a_narrow_line() -> None:
    async with echo() as proxy:
        proxy.bytes_per_s = 100_000.0
        assert (await said_back(proxy, bytes(10_000)))[1] > 0.08


async def test_stalled_then_healed() -> None:
    async with echo() as proxy:
        proxy.stalled = True
        waiting = asyncio.create_task(said_back(proxy, b"hello"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        proxy.heal()
        assert (await waiting)[0] == b"hello"


async def test_reset_and_refusal() -> None:
    async with echo() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        proxy.refuses = True
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await said_back(proxy, b"x")

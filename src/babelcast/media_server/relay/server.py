"""The relay itself: listening, ticking, and ending in order."""

from __future__ import annotations

import asyncio
import errno
import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from aiohttp import web

from babelcast.errors import MediaServerError, why
from babelcast.hosts import reachable
from babelcast.media_server.relay.api import build_app
from babelcast.media_server.relay.connection import Connection
from babelcast.media_server.relay.events import EventSender
from babelcast.media_server.relay.paths import Paths
from babelcast.media_server.relay.settings import RelaySettings

log = logging.getLogger(__name__)

_TICK_S = 0.1
_API_HOST = "127.0.0.1"
"""The API tells who publishes and reads what: that is for this machine, whoever may publish."""
_CLOSE_S = 1.0


class Relay:
    """``async with Relay(settings) as relay``: it listens on ``relay.rtmp_port`` and ``relay.api_port`` until
    the block ends. Raises MediaServerError when a port can't be had."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._rtmp_port = settings.rtmp_port
        self._api_port = settings.api_port

    @property
    def rtmp_port(self) -> int:
        return self._rtmp_port

    @property
    def api_port(self) -> int:
        return self._api_port

    @property
    def rtmp_url(self) -> str:
        return f"rtmp://{reachable(self._settings.host)}:{self._rtmp_port}"

    @property
    def api_url(self) -> str:
        return f"http://{_API_HOST}:{self._api_port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            events = None
            if self._settings.events_url is not None:
                events = await stack.enter_async_context(EventSender(self._settings.events_url))
            paths = Paths(self._settings, events)
            await self._listen(stack, paths)
            await self._serve_api(stack, paths)
            ticker = asyncio.create_task(_tick(paths), name="relay-ticker")
            stack.push_async_callback(_cancel, ticker)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: AsyncExitStack, paths: Paths) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._settings.host, self._settings.rtmp_port
        try:
            server = await loop.create_server(lambda: Connection(paths, self._settings), host, port)
        except OSError as error:
            raise _busy("RTMP", host, port, error) from None
        self._rtmp_port = server.sockets[0].getsockname()[1]
        # undone from the last to the first: since Python 3.12 wait_closed waits for the connections too
        stack.push_async_callback(server.wait_closed)
        stack.push_async_callback(_close_connections, paths)
        stack.callback(server.close)

    async def _serve_api(self, stack: AsyncExitStack, paths: Paths) -> None:
        host, port = _API_HOST, self._settings.api_port
        runner = web.AppRunner(build_app(paths), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise _busy("API", host, port, error) from None
        self._api_port = runner.addresses[0][1]


async def _tick(paths: Paths) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        paths.check()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _close_connections(paths: Paths) -> None:
    """Say goodbye to everybody; who does not go within a second is cut off."""
    for connection in tuple(paths.connections):
        connection.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await paths.empty.wait()
    except TimeoutError:
        for connection in tuple(paths.connections):
            connection.abort()
        await asyncio.sleep(0)


def _busy(what: str, host: str, port: int, error: OSError) -> MediaServerError:
    return MediaServerError(
        f"the relay can't listen on {host}:{port} for {what}: {why(error)}",
        hint="another program has this port: choose another one, or 0 for a free one"
        if error.errno == errno.EADDRINUSE
        else None,
        retryable=False,
    )

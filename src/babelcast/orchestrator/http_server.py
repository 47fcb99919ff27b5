"""uvicorn inside a program that has its own signals, its own loop and its own end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from babelcast.errors import BabelcastError, ConfigError, why
from babelcast.stalled import CutsStalled

GONE_AFTER_S = 30.0
"""A listener of a feed whose machine is gone, or that takes nothing for so long, is cut off: in a quarter of an hour
otherwise, or never."""
_SEND_BUFFER = 128 << 10
"""In the kernel, where a feed would go on for an hour before anybody sees that nobody takes it."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to whoever owns the process


@contextlib.asynccontextmanager
async def serving(app: FastAPI, host: str, port: int, *, key: str = "listen.api") -> AsyncIterator[int]:
    """Serve ``app``; gives the port it listens on (another one than ``port`` where that is 0).

    Listens from entry on. On exit answers in progress get 1 s. ConfigError when the address can't be had.
    """

    class Protocol(CutsStalled, AutoHTTPProtocol):  # type: ignore[misc,valid-type]
        patience_s = GONE_AFTER_S

    server = _Server(
        uvicorn.Config(
            app,
            http=Protocol,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
            limit_concurrency=500,
        )
    )
    with contextlib.closing(_listen(host, port, key)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
        try:
            while not server.started:
                if task.done():
                    raise BabelcastError("the HTTP server did not start") from task.exception()
                await asyncio.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)


def _listen(host: str, port: int, key: str) -> socket.socket:
    """Its connections have its options."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
        # asyncio does it for sockets that it makes itself; head and body are two writes: 40 ms an answer without
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if sys.platform == "linux":
            # a machine that is gone, or most of those that take nothing: the kernel may still take all of a thin feed
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(GONE_AFTER_S * 1e3))
        return listener
    except OSError as error:
        raise ConfigError(
            f"can't listen on {host}:{port}: {why(error)}",
            key=key,
            hint="another program may be using the port; choose another one, or 0 for a free one",
        ) from error

"""Running the service: as the program does, and inside another event loop (``serving``)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn

from babelcast.errors import BabelcastError
from babelcast.sts.app import create_app
from babelcast.sts.service import Service

_GRACE_S = 2


class _Server(uvicorn.Server):
    """Tells open sessions that it goes away, and its caller when it is ready; leaves signals to the program."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.gather(*(stream.going_away() for stream in list(self._service.streams)))
        await super().shutdown(sockets)


def _config(service: Service, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=1 << 20,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan="on",
    )


async def serve(service: Service, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. ``on_ready`` gets the base URL once requests are taken (port 0: a free one)."""
    server = _Server(_config(service, host, port), service, on_ready)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, server.handle_exit, signum, None)
    with contextlib.suppress(SystemExit):  # what uvicorn does when it can't listen
        await server.serve()
    if not server.started:
        raise BabelcastError(f"the speech service could not listen on {host}:{port}")


@contextlib.asynccontextmanager
async def serving(service: Service, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve inside this event loop while the block runs; gives the base URL."""
    urls: list[str] = []
    ready = asyncio.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    server = _Server(_config(service, host, port), service, on_ready)
    task = asyncio.create_task(server.serve(), name="sts server")
    task.add_done_callback(lambda _: ready.set())
    try:
        await ready.wait()
        if not urls:
            raise BabelcastError(f"the speech service could not listen on {host}:{port}")
        yield urls[0]
    finally:
        server.should_exit = True
        with contextlib.suppress(SystemExit):
            await task

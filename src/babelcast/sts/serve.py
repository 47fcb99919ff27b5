"""The service on a socket: until a signal ends it, as the command does, and inside another event loop (``serving``)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from babelcast.errors import BabelcastError, ConfigError
from babelcast.stalled import CutsStalled
from babelcast.sts.app import create_app
from babelcast.sts.service import Service

_GRACE_S = 2
_LAST_WORDS_S = 3.0
"""Behind Limits.send_s: the session says why it ends, then the connection goes, read or not."""


@dataclass(frozen=True, slots=True)
class Tls:
    cert: Path
    key: Path


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
            scheme = "https" if self.config.is_ssl else "http"
            self._on_ready(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self._service.draining.is_set():
            await self._service.drain(0.0)
        await super().shutdown(sockets)

    async def end_when_drained(self) -> None:
        """``POST /admin/drain`` ends the process as well."""
        await self._service.drained.wait()
        self.should_exit = True


def _config(service: Service, host: str, port: int, tls: Tls | None) -> uvicorn.Config:
    class Socket(CutsStalled, WebSocketsSansIOProtocol):  # uvicorn makes them, so the setting is the class's
        patience_s = service.limits.send_s + _LAST_WORDS_S

    return uvicorn.Config(
        create_app(service),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        ws=Socket,
        ws_max_size=1 << 20,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan="on",
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )


async def serve(
    service: Service,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    *,
    tls: Tls | None = None,
    drain_s: float = 0.0,
) -> None:
    """Serve until SIGINT or SIGTERM, then for ``drain_s`` at most while sessions are open; a second signal ends it at
    once. ``on_ready`` gets the base URL once requests are taken (port 0: a free one)."""
    try:
        server = _Server(_config(service, host, port, tls), service, on_ready)
        server.config.load()
    except OSError as error:  # ssl.SSLError among them
        raise ConfigError(f"can't read the TLS certificate or its key: {error}", key="tls") from error
    await _preload(service)
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if service.draining.is_set() or drain_s <= 0:
            server.should_exit = True
        else:
            service.drain_soon(drain_s)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)
    drained = asyncio.create_task(server.end_when_drained(), name="sts drained")
    try:
        with contextlib.suppress(SystemExit):  # what uvicorn does when it can't listen
            await server.serve()
    finally:
        await _ended(drained)
    if not server.started:
        raise _could_not_listen(host, port)


async def _preload(service: Service) -> None:
    """Load the engine before the app's start does: uvicorn makes a traceback of what goes wrong there. Raises
    BabelcastError."""
    try:
        await service.run(service.engine.preload)
    except BaseException:
        await service.aclose()
        raise


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _could_not_listen(host: str, port: int) -> BabelcastError:
    return BabelcastError(
        f"the speech service could not listen on {host}:{port}", hint="the line above says why; --port takes another"
    )


@contextlib.asynccontextmanager
async def serving(
    service: Service, host: str = "127.0.0.1", port: int = 0, *, tls: Tls | None = None
) -> AsyncIterator[str]:
    """Serve inside this event loop while the block runs; gives the base URL."""
    urls: list[str] = []
    ready = asyncio.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    await _preload(service)
    server = _Server(_config(service, host, port, tls), service, on_ready)
    task = asyncio.create_task(server.serve(), name="sts server")
    task.add_done_callback(lambda _: ready.set())
    drained = asyncio.create_task(server.end_when_drained(), name="sts drained")
    try:
        await ready.wait()
        if not urls:
            raise _could_not_listen(host, port)
        yield urls[0]
    finally:
        server.should_exit = True
        await _ended(drained)
        with contextlib.suppress(SystemExit):
            await task

"""MediaMTX: the adapter to one that runs, and one that we run."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

from yarl import URL

from babelcast.errors import LaunchError, MediaServerError
from babelcast.hosts import reachable
from babelcast.media_server.base import PathInfo, ReadProtocol
from babelcast.media_server.v3 import V3Client
from babelcast.process import Child

OLDEST_VERSION = (1, 19, 3)
"""The first one with runOnOnline, which our configuration uses."""
START_TIMEOUT_S = 10.0
GRACE_S = 3.0

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports (SRT: UDP; WebRTC: the same number in both) of one MediaMTX. 0 takes a free one, None switches off."""

    rtmp: int | None = 0
    rtsp: int | None = 0
    srt: int | None = None
    hls: int | None = None
    webrtc: int | None = None
    api: int | None = 0
    metrics: int | None = None


class MediaMtx:
    """A MediaMTX that runs (:class:`babelcast.media_server.base.MediaServer`).

    ``host`` is where our own processes reach it; ``ports`` are what it listens on, 0 is not allowed here.
    """

    name = "mediamtx"

    def __init__(self, ports: Ports, *, host: str = "127.0.0.1", api_url: str | None = None) -> None:
        self.ports = ports
        self._host = reachable(host)
        self._api = V3Client(api_url or f"http://{self._host}:{ports.api}")

    @classmethod
    async def attach(cls, api_url: str) -> Self:
        """The MediaMTX whose API is at ``api_url``; it says itself what else it listens on.

        Raises MediaServerError when it does not answer.
        """
        async with V3Client(api_url) as client:
            settings = await client.global_config()
        ports = Ports(**{field.name: _port_of(settings, field.name) for field in fields(Ports)})
        return cls(ports, host=URL(api_url).host or "127.0.0.1", api_url=api_url)

    @property
    def api_url(self) -> str:
        return self._api.base_url

    async def list_paths(self) -> list[PathInfo]:
        return await self._api.list_paths()

    async def get_path(self, path: str) -> PathInfo | None:
        return await self._api.get_path(path)

    def publish_url(self, path: str) -> str:
        return f"rtmp://{self._host}:{self._port('rtmp')}/{path}"

    def read_url(self, path: str, protocol: ReadProtocol = "rtmp") -> str:
        port = self._port(protocol)
        if protocol == "srt":
            return f"srt://{self._host}:{port}?streamid=read:{path}"
        return f"{protocol}://{self._host}:{port}/{path}"

    def whep_url(self, path: str) -> str:
        """Where it sends ``path`` to browsers. Raises MediaServerError where it has WebRTC switched off."""
        return f"http://{self._host}:{self._port('webrtc')}/{path}/whep"

    def _port(self, protocol: str) -> int:
        port: int | None = getattr(self.ports, protocol)
        if port is None:
            raise MediaServerError(f"this MediaMTX has {protocol.upper()} switched off", retryable=False)
        return port

    async def aclose(self) -> None:
        await self._api.aclose()


def _port_of(settings: dict[str, object], server: str) -> int | None:
    if settings.get(server) is not True:
        return None
    port = str(settings.get(f"{server}Address", "")).rpartition(":")[2]
    if not port.isdigit():
        raise MediaServerError(f"MediaMTX does not say on which port its {server.upper()} server listens")
    return int(port)


@contextlib.asynccontextmanager
async def run_mediamtx(
    binary: Path, ports: Ports = Ports(), *, host: str = "127.0.0.1", events_url: str | None = None
) -> AsyncIterator[MediaMtx]:
    """Run ``binary`` with our configuration while the context is open, and restart it when it crashes.

    ``host`` is the interface for publishers and readers; API and metrics stay on 127.0.0.1. ``events_url``, the
    orchestrator's base address (``http://127.0.0.1:8080``), is told of paths that come and go. Raises
    MediaServerError when MediaMTX is too old, when a port is taken, or when its API does not answer in time (with
    its last log lines).
    """
    if ports.api is None:
        raise MediaServerError("MediaMTX can't be run without its API", retryable=False)
    await check_version(binary)
    ports = _take_ports(ports, host)
    server = MediaMtx(ports, host=reachable(host), api_url=f"http://127.0.0.1:{ports.api}")

    async def answers() -> bool:
        try:
            await server.list_paths()
        except MediaServerError:
            return False
        return True

    # as_file: the configuration and the hook are real files also when the package is in an archive
    package = files("babelcast.media_server")
    with as_file(package / "mediamtx.yml") as config, as_file(package / "notify.py") as notify:
        child = Child(
            "mediamtx",
            [str(binary), str(config)],
            ready=answers,
            env=_settings(ports, host) | _hook(notify, events_url),
            start_timeout_s=START_TIMEOUT_S,
            grace_s=GRACE_S,
        )
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(child.running())
                except LaunchError as error:
                    raise MediaServerError(str(error)) from error
                yield server
        finally:
            await server.aclose()


async def read_version(binary: Path) -> str:
    """What ``binary --version`` says. Raises MediaServerError when it can't be run."""
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise MediaServerError(f"{binary} can't be run: {error.strerror}", retryable=False) from error
    try:
        async with asyncio.timeout(5.0):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise MediaServerError(f"{binary} --version does not end", retryable=False) from None
    return output.decode("utf-8", "replace").strip()


async def check_version(binary: Path) -> None:
    """Raises MediaServerError when ``binary`` can't be run or is too old for our configuration."""
    text = await read_version(binary)
    found = _VERSION.search(text)
    version = tuple(int(part) for part in found.groups()) if found else (0, 0, 0)
    # v0.0.0 is what a build outside a release says: let it try
    if version != (0, 0, 0) and version < OLDEST_VERSION:
        raise MediaServerError(
            f"{binary} is MediaMTX {text}, older than v{'.'.join(str(part) for part in OLDEST_VERSION)}",
            hint="babelcast mediamtx install",
            retryable=False,
        )


def _take_ports(ports: Ports, host: str) -> Ports:
    """``ports`` with free ones for the zeros. Raises MediaServerError for one that is taken: the API of another
    MediaMTX on our port would otherwise pass for ours."""
    taken: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for field in fields(ports):
            wanted: int | None = getattr(ports, field.name)
            if wanted is None:
                continue
            kinds = {"srt": [socket.SOCK_DGRAM], "webrtc": [socket.SOCK_STREAM, socket.SOCK_DGRAM]}
            address = "127.0.0.1" if field.name in {"api", "metrics"} else host
            for kind in kinds.get(field.name, [socket.SOCK_STREAM]):
                try:
                    wanted = _bind(held, address, wanted, kind)
                except OSError as error:
                    raise MediaServerError(
                        f"MediaMTX can't have port {wanted} for {field.name.upper()}: {(error.strerror or '').lower()}",
                        hint="does another media server run already? End it, or choose another port for "
                        f"listen.{field.name} (null switches it off)",
                    ) from error
            taken[field.name] = wanted
    return replace(ports, **taken)


def _bind(held: contextlib.ExitStack, host: str, port: int, kind: int) -> int:
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    held.enter_context(probe)
    if kind == socket.SOCK_STREAM:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Go does: TIME_WAIT does not count as taken
    probe.bind((host, port))
    bound: int = probe.getsockname()[1]
    return bound


def _settings(ports: Ports, host: str) -> dict[str, str]:
    """MediaMTX's environment variables: each server on its port, or off."""
    environment = {"MTX_MOQ": "no"}
    public = f"[{host}]" if ":" in host else "" if host == "0.0.0.0" else host
    for field in fields(ports):
        port: int | None = getattr(ports, field.name)
        address = "127.0.0.1" if field.name in {"api", "metrics"} else public
        environment[f"MTX_{field.name.upper()}"] = "no" if port is None else "yes"
        if port is not None:
            environment[f"MTX_{field.name.upper()}ADDRESS"] = f"{address}:{port}"
    if ports.webrtc is not None:
        environment["MTX_WEBRTCLOCALUDPADDRESS"] = f"{public}:{ports.webrtc}"
    return environment


def _hook(notify: Path, events_url: str | None) -> dict[str, str]:
    if events_url is None:  # no hook at all, rather than one that has nobody to tell
        return {"MTX_PATHDEFAULTS_RUNONONLINE": "", "MTX_PATHDEFAULTS_RUNONOFFLINE": ""}
    return {
        "BABELCAST_PYTHON": sys.executable,
        "BABELCAST_NOTIFY": str(notify),
        "BABELCAST_EVENTS_URL": events_url,
    }

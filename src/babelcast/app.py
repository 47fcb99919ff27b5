"""Everything on one machine: media server, speech service, orchestrator. What ``babelcast up`` and ``demo`` run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from babelcast.bridge.settings import load as load_bridge_settings
from babelcast.config import Audio, Config, Listen
from babelcast.doctor import before_a_start
from babelcast.errors import ConfigError, MediaServerError
from babelcast.hosts import reachable
from babelcast.http_client import answers
from babelcast.lock import held
from babelcast.media_server.base import MediaServer
from babelcast.media_server.install import ensure_mediamtx, find_mediamtx
from babelcast.media_server.mediamtx import MediaMtx, Ports, run_mediamtx
from babelcast.media_server.relay.client import RelayClient
from babelcast.orchestrator.bridge import BridgeAddress
from babelcast.orchestrator.egress_process import EgressProcess
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.launchers.spare import SPARE_COMMAND
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from babelcast.ports import free_port, why_not
from babelcast.process import Child
from babelcast.spec import BackendKind, ingest_path, output_path
from babelcast.telemetry.logs import LogFormat

log = logging.getLogger(__name__)

Say = Callable[[str], None]
"""Tells the user one step of the start."""

_ENGINES: dict[BackendKind, str] = {"sts": "offline", "tone": "tone"}
_INSTALL_WITHIN_S = 8.0
_STEADY_HEAP = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "2"}
"""For the relay, whose packets of all sizes let glibc's heap grow by 8 MiB an hour otherwise (0.7 with this)."""
_WORKER_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to run: what does not belong into the config file."""

    state_dir: Path
    log_format: LogFormat = "json"
    journal_dir: Path | None = None
    """Workers write their segment journals to ``journal_dir/<stream id>``; None: in ``state_dir``."""


@dataclass(frozen=True, slots=True)
class App:
    """What runs, by its addresses. ``rtmp`` is ``rtmp://HOST:PORT`` as seen from this machine."""

    media_server: str
    rtmp: str
    api_url: str

    def publish_url(self, stream_id: str) -> str:
        return f"{self.rtmp}/{ingest_path(stream_id)}"

    def watch_url(self, stream_id: str, language: str | None = None) -> str:
        return f"{self.rtmp}/{output_path(stream_id, language)}"


@contextlib.asynccontextmanager
async def running(config: Config, launch: Launch, say: Say) -> AsyncIterator[App]:
    """All of it up on entry, all of it gone on exit, also after SIGKILL of this process.

    Raises ConfigError, MissingDependencyError, MediaServerError or LaunchError, each of which says what to do.
    """
    config = config.model_copy(update={"listen": _with_api_port(config.listen)})
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_only_one(launch.state_dir))
        _check_ports(config)
        if config.bridge.env_file is not None:
            load_bridge_settings(os.environ, config.bridge.env_file)  # a wrong one is said now, by file and line
        api_url = f"http://{reachable(config.listen.api_host)}:{config.listen.api}"
        say("starting the media server")
        server = await stack.enter_async_context(_media_server(config, api_url, launch, say))
        say("starting the speech service")
        for finding in before_a_start(config):
            if finding.level != "ok":
                say(f"warning: {finding.subject}: {finding.detail} ({finding.mend})")
        speech = await stack.enter_async_context(_speech_services(config, launch))
        store = stack.enter_context(contextlib.closing(Store.in_directory(launch.state_dir)))
        bridge = _bridge_address(config)
        journal_dir = launch.journal_dir or launch.state_dir / "journal"
        orchestrator = Orchestrator(
            config,
            server,
            ProcessLauncher(launch.state_dir, orphans="die", spare=SPARE_COMMAND, stop_grace_s=_WORKER_GRACE_S),
            store,
            Options(
                speech_urls=speech,
                journal_dir=journal_dir,
                preview_dir=launch.state_dir / "preview",
                bridge=bridge,
                stop_grace_s=_WORKER_GRACE_S,
            ),
            egress=EgressProcess(launch.state_dir, orphans="die"),
        )
        await stack.enter_async_context(orchestrator.running())
        # after the orchestrator, which sees the bridge's stream come and go
        await stack.enter_async_context(_bridge_and_its_sound(config, bridge, speech, launch, say))
        rtmp = server.publish_url("").rstrip("/")
        yield App(server.name, rtmp, orchestrator.api_url)


@contextlib.contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Two that share a state folder would fight over their workers."""
    another = ConfigError(
        f"another babelcast uses the state folder {state_dir}",
        key="state_dir",
        hint="end it, or name another state_dir",
    )
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(state_dir / "up.lock", another))
        except OSError as error:
            raise ConfigError(
                f"can't write to the state folder {state_dir}: {error.strerror}",
                key="state_dir",
                hint="name another one",
            ) from error
        yield


def _with_api_port(listen: Listen) -> Listen:
    """The media server must know the API's port before the API is there."""
    return listen.model_copy(update={"api": listen.api or free_port(listen.api_host)})


def _check_ports(config: Config) -> None:
    """One clear line, instead of a child's last words, for the commonest reason why a start fails."""
    listen = config.listen
    for key, host, port in (
        ("listen.rtmp", listen.host, 0 if config.mediamtx.api else listen.rtmp),
        ("listen.api", listen.api_host, listen.api),
    ):
        problem = why_not(host, port)
        if problem:
            raise ConfigError(
                f"can't listen on {host}:{port}: {problem.lower()}",
                key=key,
                hint=f"end the program that has it (ss -ltnp 'sport = :{port}' says which), or choose another port",
            )


@contextlib.asynccontextmanager
async def _media_server(config: Config, api_url: str, launch: Launch, say: Say) -> AsyncIterator[MediaServer]:
    """The one that the config names, else MediaMTX where it can be had, else the relay."""
    if config.mediamtx.api is not None:
        attached = await MediaMtx.attach(config.mediamtx.api)
        async with contextlib.aclosing(attached):
            say(f"media server: MediaMTX at {config.mediamtx.api}")
            yield attached
        return
    binary = await _mediamtx_binary(config, say)
    listen = config.listen
    if binary is None:
        async with _relay(listen, api_url, launch) as relay:
            say("media server: the embedded relay (RTMP alone; for RTSP, SRT and WebRTC: babelcast mediamtx install)")
            yield relay
        return
    ports = Ports(rtmp=listen.rtmp, rtsp=listen.rtsp, srt=listen.srt, webrtc=listen.webrtc)
    async with run_mediamtx(binary, ports, host=listen.host, events_url=api_url) as server:
        say(f"media server: MediaMTX, {binary}")
        yield server


async def _mediamtx_binary(config: Config, say: Say) -> Path | None:
    named = config.mediamtx.binary
    if config.media_server == "relay":
        return None
    if config.media_server == "mediamtx":
        found = find_mediamtx(named)
        if found is None:
            raise MediaServerError(
                "the config asks for MediaMTX, which is not on this machine", hint="babelcast mediamtx install"
            )
        return found
    if find_mediamtx(named) is None:
        say(f"MediaMTX is not here; trying to get it for {_INSTALL_WITHIN_S:.0f} s")
    return await ensure_mediamtx(named, within_s=_INSTALL_WITHIN_S)


@contextlib.asynccontextmanager
async def _relay(listen: Listen, api_url: str, launch: Launch) -> AsyncIterator[RelayClient]:
    rtmp_port, own_api = listen.rtmp or free_port(listen.host), free_port()
    argv = ["relay", "--host", listen.host, "--rtmp-port", str(rtmp_port), "--api-port", str(own_api)]
    health_url = f"http://127.0.0.1:{own_api}/healthz"
    child = _our_child("relay", [*argv, "--events-url", api_url], health_url, launch, _STEADY_HEAP)
    client = RelayClient(f"http://127.0.0.1:{own_api}", f"rtmp://{reachable(listen.host)}:{rtmp_port}")
    async with contextlib.aclosing(client), child.running():
        yield client


@contextlib.asynccontextmanager
async def _speech_services(config: Config, launch: Launch) -> AsyncIterator[dict[BackendKind, str]]:
    """Base address for each kind of backend that a stream may ask for."""
    settings = (config.defaults, *config.streams.values())
    kinds = {kind for each in settings for kind in each.backends} & set(_ENGINES)
    urls: dict[BackendKind, str] = {}
    async with contextlib.AsyncExitStack() as stack:
        for kind in sorted(kinds):
            if kind == "sts" and config.speech.url:
                urls[kind] = config.speech.url
                continue
            port = free_port()
            urls[kind] = f"http://127.0.0.1:{port}"
            # the workers have ended by then, so nobody needs time to move elsewhere
            argv = ["sts", "--port", str(port), "--engine", _ENGINES[kind], "--drain", "1"]
            argv += config.speech.options() if kind == "sts" else []
            await stack.enter_async_context(
                _our_child(f"speech service ({kind})", argv, f"{urls[kind]}/healthz", launch).running()
            )
        yield urls


def _bridge_address(config: Config) -> BridgeAddress | None:
    """Where our own bridge is going to answer, with a token that nobody else knows."""
    if config.bridge.env_file is None:
        return None
    return BridgeAddress(f"http://127.0.0.1:{free_port()}", SecretStr(secrets.token_urlsafe(32)))


@contextlib.asynccontextmanager
async def _bridge_and_its_sound(
    config: Config, bridge: BridgeAddress | None, speech: Mapping[BackendKind, str], launch: Launch, say: Say
) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        if config.audio is not None:
            say("starting the audio endpoint")
            url = speech.get("sts") or speech.get("tone") or config.speech.url
            port = config.audio.port or free_port(config.audio.host)
            at = f"http://{reachable(config.audio.host)}:{port}"
            await stack.enter_async_context(_audio(config.audio, at, url, config.speech.token, launch).running())
            say(f"audio endpoint: push to {at}/ingest, listen at {at}/stream")
        if config.bridge.env_file is not None:
            assert bridge is not None
            say("starting the media bridge")
            await stack.enter_async_context(_bridge(config.bridge.env_file, bridge, launch).running())
        yield


def _audio(settings: Audio, at: str, speech_url: str | None, speech_token: SecretStr | None, launch: Launch) -> Child:
    secrets = {
        "AUDIO_TOKEN": settings.token,
        "AUDIO_STREAM_TOKEN": settings.stream_token,
        "AUDIO_STS_TOKEN": speech_token,
    }
    env = {name: secret.get_secret_value() if secret else "" for name, secret in secrets.items()}
    argv = ["audio", "--host", settings.host, "--port", at.rpartition(":")[2]]
    return _our_child("audio endpoint", argv, f"{at}/healthz", launch, env | {"AUDIO_STS_URL": speech_url or ""})


def _bridge(env_file: Path, address: BridgeAddress, launch: Launch) -> Child:
    assert address.token is not None
    port = address.url.rpartition(":")[2]
    argv = ["bridge", "--env-file", str(env_file), "--port", port, "--rtmp-port", str(free_port()), "--stay"]
    token = {"BABELCAST_API_TOKEN": address.token.get_secret_value()}
    return _our_child("media bridge", argv, f"{address.url}/healthz", launch, token)


def _our_child(
    name: str, argv: list[str], health_url: str, launch: Launch, more_env: Mapping[str, str] | None = None
) -> Child:
    return Child(
        name,
        [sys.executable, "-m", "babelcast", *argv, "--log-format", launch.log_format],
        ready=lambda: answers(health_url),
        env={"PYTHONUNBUFFERED": "1", "BABELCAST_PARENT": str(os.getpid()), **(more_env or {})},
    )

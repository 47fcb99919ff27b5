"""``babelcast orchestrator``: events, workers, egress and the REST API, beside a media server that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Literal

import click

from babelcast.cli.options import config_option, default_state_dir, log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.config import Config
from babelcast.config_file import load_config
from babelcast.errors import ConfigError, MediaServerError
from babelcast.media_server.base import MediaServer
from babelcast.media_server.mediamtx import MediaMtx
from babelcast.media_server.relay.client import RelayClient
from babelcast.orchestrator.egress_process import EgressProcess
from babelcast.orchestrator.launchers.process import OrphanPolicy, ProcessLauncher
from babelcast.orchestrator.launchers.spare import SPARE_COMMAND
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from babelcast.telemetry.logs import LogFormat, setup_logging

log = logging.getLogger(__name__)

DEFAULT_API = "http://127.0.0.1:9997"


@click.command("orchestrator")
@config_option
@click.option("--media-server-api", help=f"Its API's address; the config's mediamtx.api, or {DEFAULT_API}.")
@click.option("--relay-rtmp", help="rtmp://HOST:PORT of the embedded relay, when that is the media server.")
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="Database and workers' files.")
@click.option(
    "--workers-at-exit",
    type=click.Choice(["keep", "stop"]),
    default="keep",
    show_default=True,
    help="keep: they and egress stay on air; the next orchestrator with the same state directory takes them over.",
)
@log_format_option
@log_level_option
def command(
    config_file: Path | None,
    media_server_api: str | None,
    relay_rtmp: str | None,
    state_dir: Path | None,
    workers_at_exit: Literal["keep", "stop"],
    log_format: LogFormat,
    log_level: str,
) -> None:
    """Keep one worker per live stream, send programmes to their destinations, answer the REST API.

    Prints one line that begins with "ready". Without --workers-at-exit stop, its end interrupts nothing: workers and
    egress go on, and are taken over when it is back.
    """
    setup_logging(log_format, log_level)
    config = load_config(config_file) if config_file else Config()
    _check(config, config_file)
    api = media_server_api or config.mediamtx.api or DEFAULT_API
    if not api.startswith(("http://", "https://")):
        raise ConfigError("the address begins with http:// or https://", key="--media-server-api")
    state_dir = state_dir or config.state_dir or default_state_dir()
    orphans: OrphanPolicy = "adopt" if workers_at_exit == "keep" else "die"
    run_until_signalled(_serve(config, api, relay_rtmp, orphans, state_dir))


def _check(config: Config, file: Path | None) -> None:
    """What only `babelcast up` starts is an error here where it is asked for, and missed where it is not."""
    if config.bridge.env_file is not None:
        raise ConfigError(
            "only `babelcast up` starts a media bridge",
            file=str(file),
            key="bridge.env_file",
            hint="start `babelcast bridge` yourself, and name its API by bridge.api",
        )
    if config.audio is not None:
        raise ConfigError(
            "only `babelcast up` starts an audio endpoint",
            file=str(file),
            key="audio",
            hint="start `babelcast audio` yourself, and leave this section out",
        )
    kinds = {kind for each in (config.defaults, *config.streams.values()) for kind in each.backends}
    if config.speech.url is None and not kinds.isdisjoint({"sts", "tone"}):
        log.warning(
            "no speech service is named, so streams that are to be dubbed by one will be refused: "
            "start `babelcast sts` and set speech.url, for example to http://127.0.0.1:8070"
        )


async def _serve(config: Config, api: str, relay_rtmp: str | None, orphans: OrphanPolicy, state_dir: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = RelayClient(api, relay_rtmp) if relay_rtmp else await _attach(api)
        stack.push_async_callback(server.aclose)
        store = stack.enter_context(contextlib.closing(Store.in_directory(state_dir)))
        launcher = ProcessLauncher(state_dir, orphans=orphans, spare=SPARE_COMMAND)
        egress = EgressProcess(state_dir, orphans=orphans)
        options = Options(journal_dir=state_dir / "journal", preview_dir=state_dir / "preview")
        orchestrator = Orchestrator(config, server, launcher, store, options, egress=egress)
        await stack.enter_async_context(orchestrator.running())
        click.echo(f"ready: API {orchestrator.api_url}/docs · events to {orchestrator.events_url}")
        await asyncio.Event().wait()


async def _attach(api: str) -> MediaServer:
    """Waits for the media server: after a reboot it may be up later than we are."""
    while True:
        try:
            return await MediaMtx.attach(api)
        except MediaServerError as error:
            if not error.retryable:
                raise
            log.warning("waiting for the media server: %s", error)
            await asyncio.sleep(2.0)

"""``babelcast bridge``: one source in, RTMP out to primary and backup, a slate and silence where there is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import SecretStr

from babelcast.cli.options import log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.errors import BabelcastError, ConfigError
from babelcast.hosts import LOOPBACK
from babelcast.telemetry.logs import LogFormat, setup_logging

if TYPE_CHECKING:
    from babelcast.bridge.service import Bridge

log = logging.getLogger(__name__)


@click.command("bridge")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="BABELCAST_BRIDGE_ENV_FILE",
    help="Settings over those of the environment; read again at a restart and at SIGHUP.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Of the API; others than loopback need a token.")
@click.option(
    "--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="Of the API; 0: a free one."
)
@click.option(
    "--rtmp-port",
    default=1936,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The programme can be played there, on this machine; 0: a free one.",
)
@click.option("--stay", is_flag=True, help="Where the programme can't be started, go on, and let the API say why.")
@click.option("--dry-run", is_flag=True, help="Print the settings and ffmpeg's commands, secrets masked, and end.")
@log_format_option
@log_level_option
def command(
    env_file: Path | None,
    host: str,
    port: int,
    rtmp_port: int,
    stay: bool,
    dry_run: bool,
    log_format: LogFormat,
    log_level: str,
) -> None:
    """SRT, RTSP, RTMP or a file in; H.264 and AAC out by RTMP or RTMPS to two destinations at once.

    Settings are SRT_URL, PRIMARY_RTMP_URL, PRIMARY_STREAM_KEY, BACKUP_RTMP_URL, BACKUP_STREAM_KEY, AUDIO_SOURCE and
    others: --dry-run lists all, docs/howto/bridge.md explains them. The API's token is BABELCAST_API_TOKEN. Prints one
    line that begins with "ready".
    """
    setup_logging(log_format, log_level)
    token = os.environ.get("BABELCAST_API_TOKEN") or None
    if host not in LOOPBACK and token is None:
        raise ConfigError(
            "beyond this machine the API needs a token", key="BABELCAST_API_TOKEN", hint="set it to a secret"
        )
    if dry_run:
        run_until_signalled(_dry_run(env_file))
    else:
        run_until_signalled(_serve(env_file, host, port, rtmp_port, SecretStr(token) if token else None, stay))


async def _dry_run(env_file: Path | None) -> None:
    from babelcast.bridge.encoder import choose_encoder
    from babelcast.bridge.plan import plan
    from babelcast.bridge.service import SettingsFile

    settings = SettingsFile(env_file).load()
    encoder = await choose_encoder(settings.video_encoder)
    click.echo(plan(settings, encoder))


async def _serve(
    env_file: Path | None, host: str, port: int, rtmp_port: int, token: SecretStr | None, stay: bool
) -> None:
    from babelcast.bridge.api import create_app
    from babelcast.bridge.preview import preview_settings, previewing
    from babelcast.bridge.service import Bridge, SettingsFile
    from babelcast.media_server.relay.server import Relay
    from babelcast.media_server.relay.settings import RelaySettings
    from babelcast.orchestrator.http_server import serving

    preview = preview_settings(os.environ)
    if preview.token is not None and token is None:
        raise ConfigError(
            "it opens the preview alone, and without BABELCAST_API_TOKEN all is open",
            key="BABELCAST_PREVIEW_TOKEN",
            hint="set both",
        )
    settings = RelaySettings(rtmp_port=rtmp_port, api_port=0, timeout_s=3600.0)  # a source may be away for long
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(settings))
        bridge = await stack.enter_async_context(Bridge.running(SettingsFile(env_file), relay))
        shown = await stack.enter_async_context(previewing(bridge, preview))
        app = create_app(bridge, token, shown, preview.token)
        port = await stack.enter_async_context(serving(app, host, port, key="--port"))
        stack.enter_context(_hang_up(bridge))
        if bridge.settings.autostart == "on":
            await _start(bridge, stay)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        click.echo(f"ready: API {url}/docs · preview {url}/preview · programme {bridge.status().feed_url}")
        await asyncio.Event().wait()


async def _start(bridge: Bridge, stay: bool) -> None:
    try:
        await bridge.start()
    except BabelcastError as error:
        if not stay:
            raise
        log.error("the programme can't be started: %s", error)


@contextlib.contextmanager
def _hang_up(bridge: Bridge) -> Iterator[None]:
    """SIGHUP reads the settings again; wrong ones are logged, and the earlier ones stay."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        try:
            await bridge.reload()
            log.info("settings read again")
        except BabelcastError as error:
            log.error("settings not taken: %s", error)

    def begin() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)

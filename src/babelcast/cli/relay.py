"""``babelcast relay``: the embedded RTMP relay alone."""

from __future__ import annotations

import asyncio

import click

from babelcast.cli.options import log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.telemetry.logs import LogFormat, setup_logging


@click.command("relay")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--rtmp-port", default=1935, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--api-port", default=9997, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--events-url", default=None, help="Orchestrator that is told of publishers, e.g. http://127.0.0.1:8080.")
@log_format_option
@log_level_option
def command(
    host: str, rtmp_port: int, api_port: int, events_url: str | None, log_format: LogFormat, log_level: str
) -> None:
    """The embedded RTMP relay alone: publish to it and play from it."""
    setup_logging(log_format, log_level)
    settings = RelaySettings(host=host, rtmp_port=rtmp_port, api_port=api_port, events_url=events_url)
    run_until_signalled(_serve(settings))


async def _serve(settings: RelaySettings) -> None:
    async with Relay(settings) as relay:
        click.echo(f"relay listening: {relay.rtmp_url} (RTMP), {relay.api_url} (API)")
        await asyncio.Event().wait()  # until a signal cancels it

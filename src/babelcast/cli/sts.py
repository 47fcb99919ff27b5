"""``babelcast sts``: the speech service."""

from __future__ import annotations

import asyncio
import logging

import click

from babelcast.telemetry.logs import LogFormat, setup_logging


@click.command("sts")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option(
    "--engine",
    "engine_name",
    default="offline",
    show_default=True,
    type=click.Choice(["offline", "tone"]),
    help="offline: pocketsphinx, apertium, espeak-ng. tone: a mock that answers with tones.",
)
@click.option("--token", envvar="BABELCAST_STS_TOKEN", help="Bearer token that clients must show.", show_envvar=True)
@click.option("--max-sessions", default=4, show_default=True, type=click.IntRange(1, 256))
@click.option("--log-format", default="text", show_default=True, type=click.Choice(["json", "text"]))
def command(
    host: str, port: int, engine_name: str, token: str | None, max_sessions: int, log_format: LogFormat
) -> None:
    """The speech service: speech in one language in, speech in another out."""
    from babelcast.sts.engine import Engine
    from babelcast.sts.serve import serve
    from babelcast.sts.service import Limits, Service

    setup_logging(log_format)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    engine: Engine
    if engine_name == "tone":
        from babelcast.sts.tone import ToneEngine

        engine = ToneEngine()
    else:
        from babelcast.sts.offline import OfflineEngine

        engine = OfflineEngine()

    async def run() -> None:
        service = Service(engine, Limits(sessions=max_sessions), token or None)
        await serve(service, host, port, lambda url: click.echo(f"sts ready at {url} (engine: {engine_name})"))

    asyncio.run(run())

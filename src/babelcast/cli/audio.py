"""``babelcast audio``: the audio endpoint; ``babelcast audio tone``: a test tone into one."""

from __future__ import annotations

import asyncio
import os

import click

from babelcast.cli.options import log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.errors import ConfigError
from babelcast.hosts import LOOPBACK
from babelcast.telemetry.logs import LogFormat, setup_logging


@click.group("audio", invoke_without_command=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="AUDIO_HOST",
    show_envvar=True,
    help="Address to listen on; others than loopback need AUDIO_TOKEN.",
)
@click.option(
    "--port",
    default=9000,
    show_default=True,
    type=click.IntRange(0, 65535),
    envvar="AUDIO_PORT",
    show_envvar=True,
    help="TCP; 0: a free one.",
)
@click.option(
    "--speech-url",
    envvar="AUDIO_STS_URL",
    show_envvar=True,
    help="Speech service that /say speaks with, e.g. http://127.0.0.1:8070.",
)
@click.option(
    "--bitrate",
    default=128_000,
    show_default=True,
    type=click.IntRange(32_000, 320_000),
    envvar="AUDIO_AAC_BITRATE",
    show_envvar=True,
    help="Of the AAC that goes out, in bits per second.",
)
@click.option(
    "--max-listeners",
    default=200,
    show_default=True,
    type=click.IntRange(1, 10_000),
    envvar="AUDIO_MAX_LISTENERS",
    show_envvar=True,
)
@log_format_option
@log_level_option
@click.pass_context
def command(
    ctx: click.Context,
    host: str,
    port: int,
    speech_url: str | None,
    bitrate: int,
    max_listeners: int,
    log_format: LogFormat,
    log_level: str,
) -> None:
    """The audio endpoint: producers POST sound to /ingest, text to /say; GET /stream is one endless AAC stream of both.

    AUDIO_SOURCE=http://HOST:9000/stream puts it into the media bridge. From the environment alone: AUDIO_TOKEN (asked
    of everybody but listeners), AUDIO_STREAM_TOKEN (asked of listeners), AUDIO_STS_TOKEN (for the speech service). How
    to: docs/howto/audio-endpoint.md. Prints one line that begins with "ready".
    """
    if ctx.invoked_subcommand is not None:
        return
    from pydantic import SecretStr

    from babelcast.bridge.audio_endpoint.settings import AudioSettings

    setup_logging(log_format, log_level)
    secrets = {name: os.environ.get(f"AUDIO_{name}") or None for name in ("TOKEN", "STREAM_TOKEN", "STS_TOKEN")}
    if host not in LOOPBACK and secrets["TOKEN"] is None:
        raise ConfigError(
            "beyond this machine the audio endpoint needs a token", key="AUDIO_TOKEN", hint="set it to a secret"
        )
    if speech_url and not speech_url.startswith(("http://", "https://")):
        raise ConfigError("the speech service's address begins with http:// or https://", key="AUDIO_STS_URL")
    token, stream_token, sts_token = (SecretStr(secret) if secret else None for secret in secrets.values())
    settings = AudioSettings(
        token=token,
        stream_token=stream_token,
        bitrate=bitrate,
        max_listeners=max_listeners,
        speech_url=speech_url or None,
        speech_token=sts_token,
    )

    async def serve() -> None:
        from babelcast.bridge.audio_endpoint.api import serving
        from babelcast.bridge.audio_endpoint.endpoint import Endpoint

        async with Endpoint.running(settings) as endpoint, serving(endpoint, host, port) as found:
            shown = f"http://[{host}]:{found}" if ":" in host else f"http://{host}:{found}"
            click.echo(
                f"ready: push to {shown}/ingest · listen at {shown}/stream · speech {'on' if speech_url else 'off'}"
            )
            await asyncio.Event().wait()

    run_until_signalled(serve())


@command.command("tone")
@click.argument("url", default="http://127.0.0.1:9000")
@click.option("--token", envvar="AUDIO_TOKEN", show_envvar=True, help="What the endpoint asks of producers.")
@click.option("--frequency", default=440.0, show_default=True, type=click.FloatRange(20, 20_000), help="In Hz.")
@click.option("--level", "level_db", default=-18.0, show_default=True, type=click.FloatRange(-60, 0), help="In dBFS.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="Default: until Ctrl-C.")
def tone_command(url: str, token: str | None, frequency: float, level_db: float, seconds: float | None) -> None:
    """Push a test tone into the audio endpoint at URL."""
    from babelcast.bridge.audio_endpoint.tone import ingest_url, send_tone
    from babelcast.telemetry.redact import redact

    setup_logging("text")
    url = ingest_url(url)
    for_long = f"for {seconds:g} s" if seconds else "until Ctrl-C"
    click.echo(f"a tone of {frequency:g} Hz to {redact(url)}, {for_long}")
    run_until_signalled(send_tone(url, token, frequency=frequency, level_db=level_db, seconds=seconds))

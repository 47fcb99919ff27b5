"""The command line: one module per command, loaded when it is called, so that each starts fast."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from babelcast import __version__
from babelcast.errors import BabelcastError

_COMMANDS = {
    "up": "Everything on one machine, from one config file.",
    "demo": "Dub a made live stream end to end and write a report.",
    "dub": "Dub one file or URL into another.",
    "worker": "One stream's worker.",
    "orchestrator": "Events, workers and the REST API.",
    "egress": "Sends programmes to their destinations; started by the orchestrator.",
    "sts": "The speech service: ASR → MT → TTS.",
    "bridge": "One source in, RTMP out to two destinations at once, never without a picture.",
    "audio": "The bridge's audio endpoint: sound and text in, one endless AAC stream out; a test tone.",
    "preview": "Shows paths to browsers by WebRTC; started by the orchestrator and the bridge.",
    "relay": "The embedded RTMP relay alone.",
    "models": "Speech, translation, voice and separation models: list, pull, verify.",
    "mediamtx": "Get the pinned MediaMTX release.",
    "doctor": "Say what is missing or misconfigured, and how to mend it.",
}
_HIDDEN = {"spare-worker"}
"""Started by our own programs alone."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS and cmd_name not in _HIDDEN:
            return None
        module = importlib.import_module(f"babelcast.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # without importing all of them
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="babelcast")
def cli() -> None:
    """Babelcast dubs a live stream while it is on air."""


def main(args: list[str] | None = None) -> Any:
    """Entry point. Expected errors become one line and exit status 2 (bad setting) or 1; so does a file or a folder
    that can't be had."""
    from babelcast.errors import ConfigError, why

    try:
        return cli.main(args=args, prog_name="babelcast", standalone_mode=True)
    except BabelcastError as error:
        click.echo(f"babelcast: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"babelcast: can't use {error.filename}: {why(error)}", err=True)
        sys.exit(1)

"""Options that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from babelcast.telemetry.logs import LogFormat

_CONFIG = Path("babelcast.yaml")


def _config_file(_ctx: click.Context, _option: click.Parameter, chosen: Path | None) -> Path | None:
    return chosen or (_CONFIG if _CONFIG.is_file() else None)


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="BABELCAST_CONFIG",
    callback=_config_file,
    help=f"The config file. By default {_CONFIG} in this folder; without one, all settings have their defaults.",
)


def _log_format(_ctx: click.Context, _option: click.Parameter, chosen: str) -> LogFormat:
    if chosen == "auto":
        return "text" if sys.stderr.isatty() else "json"
    return "text" if chosen == "text" else "json"


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    callback=_log_format,
    help="How log lines look; auto: text on a terminal, else JSON.",
)


def _log_level(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default=default,
        show_default=True,
        help="The least severe level that is logged.",
    )


log_level_option = _log_level("info")
quiet_log_level_option = _log_level("error")
"""For a command that tells people what it does by other means."""


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/babelcast``, or ``~/.local/state/babelcast``."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "babelcast"

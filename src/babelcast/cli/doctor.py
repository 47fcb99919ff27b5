"""``babelcast doctor``: what is missing or misconfigured, and the command that mends it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from babelcast.cli.options import config_option, default_state_dir
from babelcast.config import Config
from babelcast.config_file import load_config
from babelcast.doctor import examine
from babelcast.errors import ConfigError

_MARKS = {"ok": "[green]ok[/]     ", "warning": "[yellow]warning[/]", "error": "[red]error[/]  "}


@click.command("doctor")
@config_option
def command(config_file: Path | None) -> None:
    """Say what is missing or misconfigured, and the command that mends it.

    Ends with status 0 when Babelcast can run here, 1 when something must be mended first.
    """
    console = Console(soft_wrap=True, highlight=False)
    errors = 0
    try:
        config = load_config(config_file) if config_file else Config()
    except ConfigError as error:
        errors += 1
        console.print(f"{_MARKS['error']} config file: ", end="")
        console.print(str(error), markup=False)
        config = Config()
    else:
        console.print(f"{_MARKS['ok']} config file: ", end="")
        console.print(str(config_file or "none given, defaults"), markup=False)
    for finding in examine(config, config.state_dir or default_state_dir()):
        errors += finding.level == "error"
        console.print(f"{_MARKS[finding.level]} {finding.subject}: ", end="")
        console.print(finding.detail, markup=False)
        if finding.mend:
            console.print(f"        → {finding.mend}", markup=False)
    console.print("Babelcast can run here." if not errors else f"{errors} to mend before Babelcast can run here.")
    sys.exit(1 if errors else 0)

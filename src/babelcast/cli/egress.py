"""``babelcast egress``: the forwarders of a state directory, as the orchestrator starts them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from babelcast.cli.options import log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.telemetry.logs import LogFormat, setup_logging


@click.command("egress")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Its files and its control socket: the folder `egress` of a state directory.",
)
@log_format_option
@log_level_option
def command(folder: Path, log_format: LogFormat, log_level: Literal["debug", "info", "warning", "error"]) -> None:
    """Send programmes to their destinations. Started and told what to send by the orchestrator; outlives its crash."""
    setup_logging(log_format, log_level)
    from babelcast.egress.server import serve

    run_until_signalled(serve(folder))

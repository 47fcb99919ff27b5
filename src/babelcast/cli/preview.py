"""``babelcast preview``: the preview process of an orchestrator or a bridge, as they start it."""

from __future__ import annotations

from pathlib import Path

import click

from babelcast.cli.options import log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.telemetry.logs import LogFormat, setup_logging


@click.command("preview")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Its settings and its control socket: the folder `preview` of a state directory.",
)
@log_format_option
@log_level_option
def command(folder: Path, log_format: LogFormat, log_level: str) -> None:
    """Show paths to browsers by WebRTC. Started, told what to show and ended by the orchestrator or the bridge."""
    setup_logging(log_format, log_level)
    from babelcast.preview.network import PortRangeLoop
    from babelcast.preview.server import read_settings, serve

    ports = read_settings(folder).port_range
    run_until_signalled(serve(folder), loop_factory=lambda: PortRangeLoop(ports))

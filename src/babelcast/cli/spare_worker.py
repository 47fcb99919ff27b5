"""``babelcast spare-worker``: a worker that has loaded everything and waits to be told which one it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from babelcast.process import show_arguments


@click.command(hidden=True)
@click.argument("room", default="")
def command(room: str) -> None:
    """Wait for a line of JSON on standard input, ``{"spec": FILE, "log": FILE}``, and be that worker.

    Ends when standard input is closed instead. ROOM is not looked at: what others see of the arguments is written over.
    """
    from babelcast.cli import worker
    from babelcast.worker.warm import warm_up

    warm_up()
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    _write_to(Path(order["log"]))
    show_arguments((sys.executable, "-m", "babelcast", "worker", "--spec", order["spec"]))
    from babelcast.telemetry.logs import setup_logging

    setup_logging("json", "info")
    sys.exit(worker.run(Path(order["spec"]), {}))


def _write_to(log: Path) -> None:
    """Everything that this process, or a library in it, writes goes there; it reads nothing any more."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(file)
    os.close(nothing)

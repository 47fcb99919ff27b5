"""``babelcast mediamtx``: get the pinned MediaMTX release, and say which one would be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from babelcast.errors import MissingDependencyError
from babelcast.media_server.install import VERSION, find_mediamtx, install


@click.group()
def command() -> None:
    """Get the pinned MediaMTX release, and say which one would be used."""


@command.command("install")
@click.option("--version", default=VERSION, show_default=True, help="Which release.")
@click.option(
    "--dest",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the program.  [default: the cache, where up and demo find it]",
)
def install_command(version: str, dest: Path | None) -> None:
    """Download a release for this platform and check it against the release's own checksums."""
    columns = (TextColumn("MediaMTX {task.fields[version]}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("download", total=None, version=version)
        path = asyncio.run(
            install(version, dest, progress=lambda done, total: bar.update(task, completed=done, total=total))
        )
    click.echo(path)


@command.command("path")
def path_command() -> None:
    """Print the path of the program that `babelcast up` would run."""
    found = find_mediamtx()
    if found is None:
        raise MissingDependencyError(
            "no mediamtx on PATH or in the cache", hint="babelcast mediamtx install; or the embedded relay is used"
        )
    click.echo(found)

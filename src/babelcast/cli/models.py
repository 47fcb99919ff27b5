"""``babelcast models``: which models there are, getting them, and checking those that are here."""

from __future__ import annotations

import asyncio
import sys
from typing import get_args

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from babelcast.errors import BabelcastError, ConfigError
from babelcast.models.cache import cache_dir
from babelcast.models.fetch import Progress as ByteProgress
from babelcast.models.manifest import Kind, read_manifest
from babelcast.models.pull import PullOptions, check_allowed, missing_files, pull, pulled, verify
from babelcast.models.registry import Model, ModelFile, registry


@click.group()
def command() -> None:
    """Speech, translation, voice and separation models: list them, get them, check them.

    They lie in ~/.cache/babelcast/models, or in $BABELCAST_CACHE. Nothing is ever loaded from the network at run time.
    """


@command.command("list")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Only these.")
@click.option("--here", is_flag=True, help="Only those on this machine.")
def list_command(kind: str | None, here: bool) -> None:
    """The models with their sizes, licences and checksums.

    Checksum: `pinned` is known before the first pull, `first pull` is recorded then and held to from there on;
    `unverified` means that the entry's file list could not be checked when it was written.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "kind", "size", "licence", "checksum", "here", "languages"):
        table.add_column(name, justify="right" if name == "size" else "left", no_wrap=name != "languages")
    on_disk = set(pulled())
    for model in registry().models.values():
        if (kind and model.kind != kind) or (here and model.name not in on_disk):
            continue
        checksum = "unverified" if model.unverified else "pinned" if model.pinned else "first pull"
        licence = model.licence + ("" if model.commercial else " (!)")
        table.add_row(
            model.name, model.kind, _size(model.size), licence, checksum, _here(model, on_disk), _languages(model)
        )
    others = sorted(on_disk - set(registry().models))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    if others:
        click.echo(f"also in {cache_dir()}: {', '.join(others)}")


def _here(model: Model, on_disk: set[str]) -> str:
    if model.name not in on_disk:
        return "–"
    manifest = read_manifest(cache_dir() / model.name)
    return "yes" if manifest and not missing_files(cache_dir() / model.name, manifest) else "not whole"


def _languages(model: Model) -> str:
    if model.voices:
        return " ".join(dict.fromkeys(voice.language for voice in model.voices))
    if model.pairs:
        return " ".join(f"{source}→{target}" for source, target in model.pairs)
    return " ".join(model.languages) or ("many" if model.kind in {"asr", "mt"} else "any")


def _size(count: int) -> str:
    return (
        f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count // 1000} kB"
    )


@command.command("pull")
@click.argument("names", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would be downloaded, and from where.")
@click.option("--mirror", "mirrors", multiple=True, metavar="SOURCE=URL", help="Another address for hub or sherpa.")
@click.option("--licence", help="Accept the licence of a model that is not free for every use, by its name.")
@click.option("--again", is_flag=True, help="Also where it is here already.")
@click.option("--trust", is_flag=True, help="Take what comes, also where its checksum is not the expected one.")
def pull_command(
    names: tuple[str, ...], dry_run: bool, mirrors: tuple[str, ...], licence: str | None, again: bool, trust: bool
) -> None:
    """Download models into the cache. A pull that was interrupted goes on where it stopped."""
    models = [registry().find(name) for name in dict.fromkeys(names)]
    options = PullOptions(_mirrors(mirrors), licence, trust, again)
    for model in models:
        check_allowed(model, options)
    if dry_run:
        for model in models:
            _describe(model, options)
        return
    for model in models:
        if model.unverified:
            click.echo(f"{model.name}: unverified entry ({model.note})", err=True)
        elif model.note:
            click.echo(f"{model.name}: {model.note}", err=True)
        click.echo(asyncio.run(_pull(model, options)))


def _mirrors(pairs: tuple[str, ...]) -> dict[str, str]:
    mirrors = {}
    for pair in pairs:
        source, _, url = pair.partition("=")
        if source not in registry().sources or not url.startswith(("http://", "https://")):
            raise ConfigError(f"--mirror {pair}: not SOURCE=URL", hint=f"sources: {', '.join(registry().sources)}")
        mirrors[source] = url
    return mirrors


def _describe(model: Model, options: PullOptions) -> None:
    base = registry().base_url(model.source, options.mirrors)
    click.echo(f"{model.name}: {_size(model.size)}, {model.licence}, into {cache_dir() / model.name}")
    for file in model.files:
        click.echo(f"  {model.url(file, base)}  {_size(file.size)}  sha256 {file.sha256 or 'recorded at the pull'}")


async def _pull(model: Model, options: PullOptions) -> str:
    columns = (
        TextColumn("{task.fields[file]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def progress(file: ModelFile) -> ByteProgress:
            task = bar.add_task("download", total=file.size, file=f"{model.name}/{file.path}")
            return lambda done, total: bar.update(task, completed=done, total=total or file.size)

        return str(await pull(model, options, progress=progress))


@command.command("verify")
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> None:
    """Read the models in the cache and compare them with the checksums of their pull. All, or those that are named."""
    bad, here = 0, pulled()
    for name in names:
        if name not in here:
            known = name in registry().models
            hint = f"babelcast models pull {name}" if known else "babelcast models list"
            raise ConfigError(f"there is no model {name!r} on this machine", hint=hint)
    for name in names or here:
        try:
            problems = verify(cache_dir() / name)
        except OSError as error:
            raise BabelcastError(f"can't read {name}: {error.strerror or error}") from error
        bad += bool(problems)
        click.echo(f"{name}: {'; '.join(problems) if problems else 'ok'}")
        if problems:
            click.echo(f"    → babelcast models pull {name} --again")
    sys.exit(1 if bad else 0)

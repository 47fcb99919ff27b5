"""``babelcast dub IN OUT``: one file or URL into another, through the worker's own code."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from babelcast.cli.options import quiet_log_level_option
from babelcast.errors import ConfigError, IngestError, PublishError

if TYPE_CHECKING:
    from babelcast.spec import WorkerSpec
    from babelcast.worker.offline import DubJob

_ENGINES = {"sts": "offline", "tone": "tone"}


@click.command()
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@click.option("--source-language", default="en", show_default=True, help="What is spoken in IN.")
@click.option("--target-language", default="es", show_default=True, help="What it is dubbed into.")
@click.option("--voice", help="One of the speech service's voices (its /api/v1/sts/voices lists them).")
@click.option(
    "--backend", type=click.Choice(["sts", "tone", "none"]), default="sts", show_default=True, help="Who speaks."
)
@click.option("--sts-url", help="Base address of a speech service; without one, a local one is started for the job.")
@click.option(
    "--separation",
    type=click.Choice(["auto", "neural", "centre", "spectral", "off"]),
    default="auto",
    show_default=True,
    help="How the speech is taken out of the sound behind it.",
)
@click.option("--separation-model", help="For neural: an ONNX file, or a pulled model's name (babelcast models list).")
@click.option(
    "--fallback",
    type=click.Choice(["original", "background", "ducked", "repeat", "silence"]),
    default="original",
    show_default=True,
    help="What is heard where the speech service has nothing.",
)
@click.option("--bitrate", type=int, default=160_000, show_default=True, help="Bits per second of the AAC.")
@click.option("--journal", "journal_dir", type=click.Path(path_type=Path), help="Folder for segments.<lang>.jsonl.")
@quiet_log_level_option
def command(source: str, output: str, log_level: str, **options: Any) -> None:
    """Dub IN (a file or URL) into OUT (.mp4, .mkv, .mov, .flv, .ts): pictures untouched, as fast as the machine can."""
    from babelcast.telemetry.logs import setup_logging

    setup_logging("text", log_level)
    _check_files(source, output)
    spec = _spec(source, output, options)
    from babelcast.cli.running import run_until_signalled

    partial = Path(spec.targets[0].output_url)
    try:
        job = run_until_signalled(_dub(spec))
        if job is None:
            click.echo("babelcast: stopped; nothing was written", err=True)
            sys.exit(130)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    click.echo(f"{output}: {_summary(job)}")


def _check_files(source: str, output: str) -> None:
    from babelcast.gst.ingest import is_live
    from babelcast.gst.publish import is_live_output

    try:
        is_live(source)
        if is_live_output(output):
            raise ConfigError("OUT must be a file", hint="babelcast worker pushes to RTMP")
    except (IngestError, PublishError) as error:
        raise ConfigError(error.message, hint=error.hint) from error
    if "://" not in source:
        if not Path(source).is_file():
            raise ConfigError(f"there is no file {source}")
        if Path(output).exists() and Path(source).samefile(output):
            raise ConfigError("IN and OUT are the same file")
    folder = Path(output).absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"can't write to the folder {folder}: {(error.strerror or str(error)).lower()}") from error


def _spec(source: str, output: str, options: dict[str, Any]) -> WorkerSpec:
    from babelcast.cli.worker import validated

    # written beside OUT and renamed at the end, so that OUT is whole or not there
    partial = str(Path(output).with_name(f".{Path(output).stem}.partial{Path(output).suffix}"))
    target = {"language": options["target_language"], "output_url": partial, "voice": options["voice"]}
    document = {
        "stream_id": "dub",
        "ingest_url": source,
        "source_language": options["source_language"],
        "targets": [target],
        "backend": {"kind": options["backend"], "url": options["sts_url"]},
        "separation": options["separation"],
        "separation_model": options["separation_model"],
        "fallback": options["fallback"],
        "audio_bitrate": options["bitrate"],
        "journal_dir": options["journal_dir"],
    }
    return validated(document, None)


async def _dub(spec: WorkerSpec) -> DubJob:
    async with _speech_service(spec) as url:
        backend = spec.backend.model_copy(update={"url": url})
        return await _run(spec.model_copy(update={"backend": backend}))


def _summary(job: DubJob) -> str:
    dropped = sum(entry.placed_ns is None for entry in job.entries)
    parts = [f"{len(job.entries) - dropped} segments dubbed"]
    if dropped:
        parts.append(f"{dropped} dropped")
    if job.tracks.unsupported:
        parts.append(str(job.tracks.unsupported))
    return "; ".join(parts)


async def _run(spec: WorkerSpec) -> DubJob:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from babelcast.worker.main import backend_of
    from babelcast.worker.offline import DubJob

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("dubbing", total=None, at="")

        def show(done_s: float, total_s: float | None) -> None:
            at = f"{done_s:.0f} s" + (f" of {total_s:.0f} s" if total_s else "")
            bar.update(task, completed=done_s, total=total_s, at=at)

        job = DubJob(spec, backend_of(spec.backend), show)
        await job.run()
    return job


@contextlib.asynccontextmanager
async def _speech_service(spec: WorkerSpec) -> AsyncIterator[str | None]:
    """Address of the service that speaks; where none was named, one of our own for as long as the job takes."""
    kind = spec.backend.kind
    if kind == "none" or spec.backend.url:
        yield spec.backend.url
        return
    from babelcast.http_client import answers
    from babelcast.ports import free_port
    from babelcast.process import Child

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "babelcast", "sts", "--port", str(port), "--engine", _ENGINES[kind]]
    environment = {"PYTHONUNBUFFERED": "1", "BABELCAST_PARENT": str(os.getpid())}

    async with Child("speech service", argv, ready=lambda: answers(f"{url}/healthz"), env=environment).running():
        yield url

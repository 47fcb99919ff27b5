"""``babelcast worker``: one stream's worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from babelcast.cli.options import log_level_option
from babelcast.errors import ConfigError
from babelcast.process import write_exit
from babelcast.spec import WorkerSpec

# Before numpy is loaded: its OpenBLAS shares even the shortest product among all cores, and waits for them in a loop.
# A worker without separation cost four times as much on two cores (bench/worker.py).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_EXIT_NEVER = 64
_KEYS = {"gemini-live": "GEMINI_API_KEY", "openai-realtime": "OPENAI_API_KEY"}


@click.command()
@click.option(
    "--spec", "spec_file", type=click.Path(path_type=Path), help="The worker's spec (JSON), instead of flags."
)
@click.option("--stream-id", default="stream", show_default=True)
@click.option("--ingest", "ingest_url", help="Where to pull from: rtmp, rtsp or srt.")
@click.option("--output", "output_url", help="Where to push to: rtmp or rtmps.")
@click.option(
    "--backend",
    type=click.Choice(["none", "tone", "sts", *_KEYS]),
    default="none",
    show_default=True,
    help="The cloud's services take their key from GEMINI_API_KEY or OPENAI_API_KEY.",
)
@click.option("--sts-url", help="Base address of the speech service.")
@click.option("--source-language", default="en", show_default=True)
@click.option("--target-language", default="es", show_default=True)
@click.option("--voice")
@click.option("--delay", type=float, default=6.0, show_default=True, help="Seconds from source to air.")
@click.option(
    "--separation",
    type=click.Choice(["auto", "neural", "centre", "spectral", "off"]),
    default="auto",
    show_default=True,
)
@click.option("--separation-model", help="For neural: an ONNX file, or a pulled model's name (babelcast models list).")
@click.option(
    "--fallback",
    type=click.Choice(["original", "background", "ducked", "repeat", "silence"]),
    default="original",
    show_default=True,
)
@click.option("--bitrate", type=int, default=160_000, show_default=True, help="Bits per second of the AAC.")
@click.option("--status-port", type=int, default=0, help="Loopback port of the status server; 0 takes a free one.")
@click.option("--journal", "journal_dir", type=click.Path(path_type=Path), help="Folder for segments.<lang>.jsonl.")
@click.option("--log-format", type=click.Choice(["json", "text"]), default="json", show_default=True)
@log_level_option
def command(spec_file: Path | None, log_format: Any, log_level: str, **flags: Any) -> None:
    """Pull one live stream, dub it, push it. Ends on SIGTERM; exit status 64: it can never work."""
    from babelcast.telemetry.logs import setup_logging

    setup_logging(log_format, log_level)
    sys.exit(run(spec_file, flags))


def run(spec_file: Path | None, flags: dict[str, Any]) -> int:
    """Run the worker of ``spec_file`` (where it also leaves its exit status), or of ``flags``, to its end."""
    try:
        spec = _read(spec_file) if spec_file else _from_flags(flags)
    except ConfigError as error:
        click.echo(f"babelcast: {error}", err=True)
        if spec_file is not None:
            write_exit(spec_file.parent, _EXIT_NEVER)
        return _EXIT_NEVER
    from babelcast.worker.main import run_worker

    folder = spec_file.parent if spec_file else None
    status = 1
    try:
        status = run_worker(spec, folder)
    finally:
        if folder is not None:
            write_exit(folder, status)
    return status


def _read(file: Path) -> WorkerSpec:
    try:
        return validated(file.read_bytes(), str(file))
    except OSError as error:
        raise ConfigError(f"the spec can't be read: {error.strerror}", file=str(file)) from error


def validated(document: bytes | dict[str, Any], file: str | None) -> WorkerSpec:
    """The spec in ``document``. Raises ConfigError for the first thing that is wrong in it."""
    from pydantic import ValidationError

    try:
        if isinstance(document, bytes):
            return WorkerSpec.model_validate_json(document)
        return WorkerSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(first["msg"], file=file, key=key or None) from error


def _key(backend: str) -> str | None:
    """A cloud service's key, from the environment: a command line can be read by everybody on the machine."""
    if backend not in _KEYS:
        return None
    key = os.environ.get(_KEYS[backend])
    if not key:
        raise ConfigError(f"{backend} needs a key", key="--backend", hint=f"export {_KEYS[backend]}=…")
    return key


def _from_flags(flags: dict[str, Any]) -> WorkerSpec:
    for name, option in (("ingest_url", "--ingest"), ("output_url", "--output")):
        if not flags[name]:
            raise ConfigError("is needed unless --spec is given", key=option)
    document = {
        "stream_id": flags["stream_id"],
        "ingest_url": flags["ingest_url"],
        "source_language": flags["source_language"],
        "targets": [{"language": flags["target_language"], "output_url": flags["output_url"], "voice": flags["voice"]}],
        "backend": {"kind": flags["backend"], "url": flags["sts_url"], "token": _key(flags["backend"])},
        "delay_s": flags["delay"],
        "separation": flags["separation"],
        "separation_model": flags["separation_model"],
        "fallback": flags["fallback"],
        "audio_bitrate": flags["bitrate"],
        "status_port": flags["status_port"],
        "journal_dir": flags["journal_dir"],
    }
    return validated(document, None)

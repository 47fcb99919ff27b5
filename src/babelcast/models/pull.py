"""Getting a model: downloaded into a folder of its own, checked, then moved into the cache in one step."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from babelcast.errors import ConfigError, MissingDependencyError
from babelcast.models.cache import cache_dir
from babelcast.models.fetch import Progress, disk_error, fetch, session, sha256_of
from babelcast.models.manifest import MANIFEST, FileRecord, Manifest, Traits, read_manifest
from babelcast.models.registry import Model, ModelFile, Registry, registry
from babelcast.models.unpack import unpack

_PARTIAL = ".partial"
"""Folder in the cache where pulls are under way; what is left there is taken up by the next try."""
_SLACK = 2.0
"""An unpinned file may be this many times as large as the registry says."""
_UNPACKED = 6
"""An archive may unpack to this many times its size."""

FileProgress = Callable[[ModelFile], Progress]
"""Called once a file, gives what is called with its bytes."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """``mirrors``: base addresses by source. ``licence``: what a user accepts for a model that is not free for every
    use. ``trust``: take what comes, also where it is not what was expected. ``again``: also where it is there."""

    mirrors: Mapping[str, str] | None = None
    licence: str | None = None
    trust: bool = False
    again: bool = False


def check_allowed(model: Model, options: PullOptions) -> None:
    """Raises ConfigError for a model whose licence forbids commercial use, unless the user names it."""
    if not model.commercial and (options.licence or "").casefold() != model.licence.casefold():
        raise ConfigError(
            f"{model.name} is under {model.licence}: not for commercial use",
            hint=f"if that fits your use: babelcast models pull {model.name} --licence {model.licence}",
        )


async def pull(
    model: Model,
    options: PullOptions | None = None,
    *,
    catalogue: Registry | None = None,
    cache: Path | None = None,
    progress: FileProgress = lambda file: lambda done, total: None,
) -> Path:
    """Get ``model`` and return its folder. What is there and whole is left alone.

    Raises MissingDependencyError (transfer, checksum, disk; the hint says what to do), ConfigError (licence).
    """
    options, catalogue, cache = options or PullOptions(), catalogue or registry(), cache or cache_dir()
    check_allowed(model, options)
    folder = cache / model.name
    there = read_manifest(folder)
    if there and not options.again and not missing_files(folder, there):
        return folder
    staging = cache / _PARTIAL / model.name
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with _alone(staging):
            _check_space(model, staging)
            base = catalogue.base_url(model.source, options.mirrors)
            async with session() as http:
                downloads = [
                    await _download(http, model, file, base, staging, there, options, progress(file))
                    for file in model.files
                ]
            await asyncio.to_thread(_install, model, base, staging, folder, tuple(downloads))
    except OSError as error:
        raise disk_error(error, cache) from error
    return folder


@contextlib.contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """Two pulls of one model at once would write into each other's files."""
    with (staging / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MissingDependencyError(
                f"{staging.name} is being pulled already", hint="wait until the other command is done", retryable=True
            ) from None
        yield


def _check_space(model: Model, staging: Path) -> None:
    have = sum(path.stat().st_size for path in staging.iterdir() if path.is_file())
    unpacked = sum(file.size for file in model.files if file.archive)
    needed, free = model.size + unpacked - have, shutil.disk_usage(staging).free
    if needed > free:
        raise MissingDependencyError(
            f"{model.name} needs about {needed / 1e9:.1f} GB more on this disk, {free / 1e9:.1f} GB are free",
            hint="free some, or set BABELCAST_CACHE to a folder on a larger disk",
        )


async def _download(
    http: aiohttp.ClientSession,
    model: Model,
    file: ModelFile,
    base: str,
    staging: Path,
    there: Manifest | None,
    options: PullOptions,
    progress: Progress,
) -> FileRecord:
    part = staging / file.path.replace("/", "__")
    exact = file.sha256 is not None and not options.trust
    limit = file.size if exact else round(file.size * _SLACK) + (1 << 20)
    digest = await fetch(http, model.url(file, base), part, limit=limit, progress=progress)
    expected = file.sha256 or _known(there, file.path)
    if expected and digest != expected and not options.trust:
        part.unlink()
        raise MissingDependencyError(
            f"{file.path} of {model.name} is not what {'the registry' if file.sha256 else 'the first pull'} recorded: "
            f"SHA-256 {digest[:16]}… instead of {expected[:16]}…",
            hint="nothing was installed; try again; if the publisher says that it was replaced: --trust",
        )
    return FileRecord(path=file.path, size=part.stat().st_size, sha256=digest)


def _known(there: Manifest | None, path: str) -> str | None:
    return next((file.sha256 for file in (there.downloads if there else ()) if file.path == path), None)


def _install(model: Model, base: str, staging: Path, folder: Path, downloads: tuple[FileRecord, ...]) -> None:
    ready = staging / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    for file in model.files:
        part = staging / file.path.replace("/", "__")
        if file.archive:
            try:
                unpack(part, ready, limit=_UNPACKED * part.stat().st_size + (1 << 24))
            except MissingDependencyError:
                part.unlink()
                raise
        else:
            target = ready / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(part, target)
    known = {record.path: record.sha256 for record in downloads}
    manifest = Manifest(
        **{name: getattr(model, name) for name in Traits.model_fields},
        name=model.name,
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
        source=f"{base}/{model.repository}",
        downloads=downloads,
        files=tuple(_record(path, ready, known) for path in sorted(ready.rglob("*")) if path.is_file()),
    )
    (ready / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _replace(ready, folder, staging)
    shutil.rmtree(staging, ignore_errors=True)


def _link(part: Path, target: Path) -> None:
    """A second name for a download, so that an install that fails later does not cost it."""
    try:
        os.link(part, target)
    except OSError:  # a file system without links
        shutil.copyfile(part, target)


def _record(path: Path, root: Path, known: Mapping[str, str]) -> FileRecord:
    name = path.relative_to(root).as_posix()
    return FileRecord(path=name, size=path.stat().st_size, sha256=known.get(name) or sha256_of(path))


def _replace(ready: Path, folder: Path, staging: Path) -> None:
    """The new folder takes the old one's place; at no time does ``folder`` hold half a model."""
    old = staging / "old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    ready.rename(folder)


def missing_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files of the manifest that are gone or have another size. Fast."""
    return [file.path for file in manifest.files if _size(folder / file.path) != file.size]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def verify(folder: Path) -> list[str]:
    """What is wrong with the model in ``folder``, one sentence each; empty when every file is as it was pulled.
    Blocks (reads every file)."""
    manifest = read_manifest(folder)
    if manifest is None:
        return [f"{folder.name} has no manifest that can be read"]
    problems = []
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file():
            problems.append(f"{file.path} is gone")
        elif path.stat().st_size != file.size:
            problems.append(f"{file.path} has {path.stat().st_size} bytes instead of {file.size}")
        elif sha256_of(path) != file.sha256:
            problems.append(f"{file.path} was changed: its checksum is not the one recorded at the pull")
    return problems


def pulled(cache: Path | None = None) -> list[str]:
    """Names of the models in the cache, whole or not."""
    cache = cache or cache_dir()
    if not cache.is_dir():
        return []
    return sorted(path.name for path in cache.iterdir() if path.is_dir() and not path.name.startswith("."))

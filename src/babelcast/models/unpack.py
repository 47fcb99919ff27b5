"""Archives taken apart without trusting them."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from babelcast.errors import MissingDependencyError

_MAX_FILES = 20_000
_LEFT_OUT = frozenset({"espeak-ng-data"})
"""espeak-ng's data (GPL) in archives of voices: the engine does not read it (it takes phonemes from the espeak-ng
program)."""


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Write the regular files of a tar archive (any compression) into ``folder``; one folder round all of them is
    left off.

    Links, devices and names that lead out of the folder are refused; more than ``limit`` bytes are too.
    Raises MissingDependencyError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:*") as tar:
            members = [member for member in tar if not member.isdir()]
            _check(archive, members, limit)
            top = _common_top(members)
            for member, path in _wanted(members, top):
                _write(tar, member, folder / path)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # bz2 and xz say "Invalid data stream" as an OSError without a number
        raise MissingDependencyError(
            f"{archive.name} is not a whole archive: {error}", hint="pull it again; it was thrown away"
        ) from error


def _check(archive: Path, members: list[tarfile.TarInfo], limit: int) -> None:
    problem = None
    for member in members:
        path = PurePosixPath(member.name)
        if not member.isreg():
            problem = f"{member.name} is no regular file"
        elif path.is_absolute() or ".." in path.parts:
            problem = f"{member.name} leads out of its folder"
    if len(members) > _MAX_FILES or sum(member.size for member in members) > limit:
        problem = f"it unpacks to more than {limit} bytes or {_MAX_FILES} files"
    if problem:
        raise MissingDependencyError(
            f"{archive.name} is not safe to unpack: {problem}", hint="nothing was installed; tell the publisher"
        )


def _common_top(members: list[tarfile.TarInfo]) -> str | None:
    tops = {_parts(member)[0] for member in members if _parts(member)}
    nested = all(len(_parts(member)) > 1 for member in members)
    return tops.pop() if len(tops) == 1 and nested else None


def _wanted(members: list[tarfile.TarInfo], top: str | None) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    for member in members:
        parts = _parts(member)[1 if top else 0 :]
        if parts and parts[0] not in _LEFT_OUT:
            yield member, Path(*parts)


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(member.name).parts if part != ".")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)

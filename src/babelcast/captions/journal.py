"""The segment journal as its readers see it: what is in the files that a worker writes beside us."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from babelcast.captions.cues import Broadcast, OnAirMark, broadcasts
from babelcast.spec import SegmentEntry

_Line = TypeVar("_Line", bound=BaseModel)

MARKS = "broadcasts.jsonl"
KEEP = 3
"""Files of a name that are kept beside the one that is written."""
_TAIL_BYTES = 256 << 10


def segments_file(language: str) -> str:
    return f"segments.{language}.jsonl"


def rotated(path: Path) -> list[Path]:
    """``path`` and its predecessors that there are, oldest first."""
    older = [path.with_name(f"{path.name}.{index}") for index in range(KEEP, 0, -1)]
    return [each for each in (*older, path) if each.exists()]


def read_broadcasts(folder: Path) -> list[Broadcast]:
    """Oldest first; [] where nothing was ever written. Blocks for as long as the disk takes."""
    entries = [
        entry
        for path in sorted(folder.glob("segments.*.jsonl"))
        for part in rotated(path)
        for entry in _lines(part, SegmentEntry)
    ]
    marks = [mark for part in rotated(folder / MARKS) for mark in _lines(part, OnAirMark)]
    return broadcasts(marks, entries)


def read_tail(folder: Path, broadcast: Broadcast) -> Broadcast:
    """``broadcast`` with its latest entries alone, as they are now: 256 KiB of each language."""
    files = sorted(folder.glob("segments.*.jsonl"))
    entries = [entry for path in files for entry in _lines(path, SegmentEntry, tail=_TAIL_BYTES)]
    return broadcast.with_entries(entries)


def erase(folder: Path) -> None:
    """Remove the journal, and the folder where nothing else is in it. Raises OSError."""
    for name in (f"{MARKS}*", "segments.*.jsonl*"):
        for path in folder.glob(name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not any(folder.iterdir()):
            folder.rmdir()


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the marks and of all segments that are written now: other numbers mean that something is new."""
    return _size(folder / MARKS), sum(_size(path) for path in folder.glob("segments.*.jsonl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lines(path: Path, kind: type[_Line], tail: int | None = None) -> Iterator[_Line]:
    """Lines that make no sense are left out: the last one may be half written, and so may a tail's first."""
    try:
        with path.open("rb") as file:
            if tail is not None:
                file.seek(-min(tail, file.seek(0, os.SEEK_END)), os.SEEK_END)
            data = file.read()
    except OSError:
        return
    for line in data.splitlines():
        try:
            yield kind.model_validate_json(line)
        except ValidationError:
            continue

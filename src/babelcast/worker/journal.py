"""What became of each segment: the latest in memory, all of them in files where a folder is given."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import IO

from babelcast.captions.cues import OnAirMark
from babelcast.captions.journal import KEEP, MARKS, segments_file
from babelcast.spec import SegmentEntry

log = logging.getLogger(__name__)

_ROTATE_BYTES = 16 << 20


class Journal:
    """``segments.<lang>.jsonl`` in ``folder``, one SegmentEntry a line, each whole on disk once it is written, and
    ``broadcasts.jsonl``, one OnAirMark for each worker that went on air.

    Bounded: a file that has ``rotate_bytes`` becomes ``<name>.1``, and the oldest of three such goes.
    """

    def __init__(self, folder: Path | None, most: int, *, rotate_bytes: int = _ROTATE_BYTES) -> None:
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        self._files: dict[str, IO[bytes]] = {}
        self._latest: deque[SegmentEntry] = deque(maxlen=most)

    def add(self, entry: SegmentEntry) -> None:
        self._latest.append(entry)
        self._write(segments_file(entry.language), entry.model_dump_json())

    def mark(self, mark: OnAirMark) -> None:
        self._write(MARKS, mark.model_dump_json())

    def after(self, sequence: int) -> list[SegmentEntry]:
        """The latest entries of all languages with a greater ``sequence``."""
        return [entry for entry in self._latest if entry.sequence > sequence]

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, name: str, line: str) -> None:
        if self._folder is None:
            return
        try:
            file = self._files.get(name) or self._open(self._folder, name)
            if file.tell() > self._rotate_bytes:
                self._files.pop(name).close()
                _rotate(self._folder / name)
                file = self._open(self._folder, name)
            file.write(line.encode() + b"\n")
        except OSError as error:  # a full disk must not stop the broadcast
            log.error("the journal can't be written: %s", error, extra={"stage": "journal"})

    def _open(self, folder: Path, name: str) -> IO[bytes]:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # unbuffered: a line is on disk in one piece, also beside a worker that is on its way out
        file = self._files[name] = (folder / name).open("ab+", buffering=0)
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":  # the worker before was killed in the middle of a line
                file.write(b"\n")
        return file


def _rotate(path: Path) -> None:
    for index in range(KEEP, 0, -1):
        younger = path.with_name(f"{path.name}.{index - 1}") if index > 1 else path
        if younger.exists():
            younger.replace(path.with_name(f"{path.name}.{index}"))

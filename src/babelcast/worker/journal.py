"""What became of each segment: the latest in memory, all of them in files where a folder is given."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import IO

from babelcast.spec import SegmentEntry

log = logging.getLogger(__name__)


class Journal:
    """``segments.<lang>.jsonl`` in ``folder``, one SegmentEntry a line, each whole on disk once it is written."""

    def __init__(self, folder: Path | None, most: int) -> None:
        self._folder = folder
        self._files: dict[str, IO[str]] = {}
        self._latest: deque[SegmentEntry] = deque(maxlen=most)

    def add(self, entry: SegmentEntry) -> None:
        self._latest.append(entry)
        if self._folder is None:
            return
        try:
            file = self._files.get(entry.language)
            if file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"segments.{entry.language}.jsonl"
                file = self._files[entry.language] = path.open("a", encoding="utf-8", buffering=1)
            file.write(entry.model_dump_json() + "\n")
        except OSError as error:  # a full disk must not stop the broadcast
            log.error("the journal can't be written: %s", error, extra={"stage": "journal"})

    def after(self, sequence: int) -> list[SegmentEntry]:
        """The latest entries of all languages with a greater ``sequence``."""
        return [entry for entry in self._latest if entry.sequence > sequence]

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

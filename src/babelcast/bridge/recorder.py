"""A recording of the programme: FLV files in a folder, the oldest removed when they become too much."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelcast.bridge import command
from babelcast.bridge.encoder import Ffmpeg, outcome
from babelcast.bridge.status import RecordingState
from babelcast.errors import BabelcastError, PublishError
from babelcast.worker.backoff import Backoff

log = logging.getLogger(__name__)

_LOOK_S = 5.0
_LEAST_FREE = 1 << 30
"""Bytes: with less on the disk nothing is recorded, so that the rest of the machine goes on."""


@dataclass(frozen=True, slots=True)
class Recording:
    """``keep_bytes``: all files together."""

    folder: Path
    minutes: float
    keep_bytes: int


class Recorder:
    """``run()`` until cancelled; :meth:`use` begins, changes and ends the recording at any time. It reads the programme
    as anybody may, in a process of its own, so nothing that a disk does disturbs a destination."""

    def __init__(self, feed_url: str, look_s: float = _LOOK_S) -> None:
        self.state: RecordingState = "off"
        self.last_error: str | None = None
        self.files = self.bytes = 0
        self._feed_url = feed_url
        self._look_s = look_s
        self._wanted: Recording | None = None
        self._changed = asyncio.Event()

    def use(self, wanted: Recording | None) -> None:
        """No effect where it is the present one."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        while True:
            wanted = self._wanted
            self._changed.clear()
            self.state = "off" if wanted is None else "connecting"
            self.files, self.bytes, self.last_error = 0, 0, None
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._changed.wait())]
            if wanted:
                tasks.append(asyncio.create_task(self._record_forever(wanted)))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # raises where a fault ended the recording
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _record_forever(self, wanted: Recording) -> None:
        backoff = Backoff(first_s=0.5, most_s=10.0)
        while True:
            error = await self._record(wanted)
            if self.state == "recording":
                backoff.reset()
            self.state, self.last_error = "retrying", str(error)
            wait_s = backoff.next_s()
            log.warning("nothing is recorded: %s; next attempt in %.1f s", error, wait_s)
            await asyncio.sleep(wait_s)

    async def _record(self, wanted: Recording) -> BabelcastError:
        """Why it ended."""
        try:
            await asyncio.to_thread(_prepare, wanted.folder)
        except BabelcastError as error:
            return error
        words = command.record(self._feed_url, wanted.folder, wanted.minutes)
        task = asyncio.create_task(outcome(Ffmpeg(lambda pipes: words).run(_nothing)))
        try:
            while True:
                await asyncio.wait({task}, timeout=self._look_s)
                if task.done():
                    return task.result()
                before = self.bytes
                self.files, self.bytes, free = await asyncio.to_thread(_tidy, wanted)
                if self.bytes != before:
                    self.state, self.last_error = "recording", None
                if free < _LEAST_FREE:
                    return PublishError(f"only {free >> 20} MiB are free on the disk of {wanted.folder}")
        except OSError as error:  # somebody removed the folder
            return PublishError(f"can't look into {wanted.folder}: {error.strerror}")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _prepare(folder: Path) -> None:
    """Raises PublishError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise PublishError(f"can't write to {folder}: {error.strerror}") from error
    if free < _LEAST_FREE:
        raise PublishError(f"only {free >> 20} MiB are free on the disk of {folder}")


def _tidy(wanted: Recording) -> tuple[int, int, int]:
    """Remove the oldest files beyond what is kept, but never the newest. Files, their bytes, free bytes."""
    found: list[tuple[Path, int]] = []
    for file in sorted(wanted.folder.glob("bridge-*.flv")):
        with contextlib.suppress(OSError):
            found.append((file, file.stat().st_size))
    while len(found) > 1 and sum(size for _, size in found) > wanted.keep_bytes:
        with contextlib.suppress(OSError):
            found[0][0].unlink()
        del found[0]
    return len(found), sum(size for _, size in found), shutil.disk_usage(wanted.folder).free


async def _nothing(out: asyncio.StreamReader) -> None:
    await out.read(-1)

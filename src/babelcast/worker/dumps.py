"""Rolling audio dumps of one stream, on demand: what came in, what was made of it, and what went out, as WAV files.

========================  =================================================================
``source``                as it came in
``background``            as the separator found it (not in bypass)
``dub.<lang>``            the dubbed speech before its gain
``mix.<lang>``            what is on air
========================  =================================================================

All are 48 kHz stereo S16 on the source timeline: files of the same begin hold the same time, sample for sample,
whatever their place in the flow (the mix's are complete when the delay is over). A file holds ``seconds``, its begin is
in its name in milliseconds; where there was nothing, it is silent.

Whatever goes wrong here must not be heard: blocks go through a queue of 512 (*drop and count*) to a thread that
writes. A disk that is full ends the dump, with a warning, and not the broadcast.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import threading
import wave
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aiohttp import web
from pydantic import ValidationError

from babelcast import problems
from babelcast.errors import ControlsError
from babelcast.spec import DumpSpec, DumpStatus, sentence_of
from babelcast.units import CHANNELS, RATE

log = logging.getLogger(__name__)

_QUEUE_BLOCKS = 512
_FRAME = 2 * CHANNELS
_HEADER_BYTES = 44
_NAME = re.compile(r"[a-z]+(\.[A-Za-z0-9-]+)?")

Open = Callable[[Path], IO[bytes]]


@dataclass(frozen=True, slots=True)
class _Block:
    stem: str
    position: int
    pcm: bytes


class Dumps:
    """At most one dump at a time. ``folder`` None: there is nowhere to write. ``open_file`` is for tests."""

    def __init__(self, folder: Path | None, stems: tuple[str, ...], open_file: Open | None = None) -> None:
        self._folder = folder
        self._stems = stems
        self._open_file = open_file or (lambda path: path.open("wb"))
        self._writer: _Writer | None = None
        self._order = threading.Lock()
        """Requests come in threads: one after the other."""

    @property
    def wanted(self) -> bool:
        """Whether blocks are of use now; asked before one is made only for this."""
        return self._writer is not None and self._writer.error is None

    def start(self, spec: DumpSpec, position: int) -> DumpStatus:
        """From the next whole second of the source timeline after ``position`` on. Raises ControlsError."""
        with self._order:
            if self._folder is None:
                raise ControlsError("this worker has no folder to write to (it was started without --spec)", 409)
            if self.wanted:
                raise ControlsError("a dump is being written already", 409)
            size = _HEADER_BYTES + spec.seconds * RATE * _FRAME
            least = 2 * size * len(self._stems)
            if spec.keep_bytes < least:
                raise ControlsError(f"keep_bytes: two files of each of {len(self._stems)} need {least} bytes", 422)
            begin = -(-position // RATE) * RATE
            self._writer = _Writer(self._folder, spec, begin, size, self._open_file)
            self._writer.start()
            log.info("audio dump begins", extra={"stage": "dump", "folder": str(self._folder)})
            return self.status()

    def stop(self) -> DumpStatus:
        """End it; what has come so far is written. Waits a second at most."""
        with self._order:
            if self._writer is not None:
                self._writer.end()
                log.info("audio dump ended", extra={"stage": "dump"})
                self._writer.join(1.0)
            found = self.status()
            if self._writer is not None and self._writer.error is None:
                self._writer = None
            return found.model_copy(update={"active": False})

    def take(self, stem: str, position: int, pcm: bytes) -> None:
        """``pcm``: S16LE stereo at this sample of the source timeline. Costs next to nothing while there is no dump."""
        writer = self._writer
        if writer is not None and writer.error is None:
            writer.put(_Block(stem, position, pcm))

    def status(self) -> DumpStatus:
        writer = self._writer
        found: list[tuple[str, int]] = []
        for path in sorted(self._folder.glob("*.wav")) if self._folder is not None else ():
            with suppress(OSError):
                found.append((path.name, path.stat().st_size))
        return DumpStatus(
            active=self.wanted,
            folder=str(self._folder) if self._folder is not None else None,
            files=tuple(name for name, _ in found),
            bytes=sum(size for _, size in found),
            dropped_blocks=writer.dropped if writer is not None else 0,
            error=writer.error if writer is not None else None,
        )


class _Writer(threading.Thread):
    """Daemon: a disk that hangs must not keep a worker from ending."""

    def __init__(self, folder: Path, spec: DumpSpec, begin: int, file_bytes: int, open_file: Open) -> None:
        super().__init__(name="dumps", daemon=True)
        self._folder = folder
        self._spec = spec
        self._begin = begin
        self._file_bytes = file_bytes
        self._open_file = open_file
        self._queue: queue.Queue[_Block | None] = queue.Queue(_QUEUE_BLOCKS)
        self._stems: dict[str, _Stem] = {}
        self._ending = threading.Event()
        self.dropped = 0
        self.error: str | None = None

    def put(self, block: _Block) -> None:
        try:
            self._queue.put_nowait(block)
        except queue.Full:
            self.dropped += 1

    def end(self) -> None:
        self._ending.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)

    def run(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            while (block := self._queue.get()) is not None:
                self._write(block)
                if self._ending.is_set() and self._queue.empty():
                    break
        except (OSError, wave.Error) as error:
            self.error = f"the audio dump has ended: {getattr(error, 'strerror', None) or error}"
            log.warning("%s; the broadcast goes on", self.error, extra={"stage": "dump"})
        finally:
            for stem in self._stems.values():
                with suppress(OSError, wave.Error):  # on a full disk closing fails as well
                    stem.close()

    def _write(self, block: _Block) -> None:
        stem = self._stems.get(block.stem)
        if stem is None:
            stem = self._stems[block.stem] = _Stem(block.stem, self._begin, self._spec.seconds * RATE, self._open)
        stem.take(block.position, block.pcm)

    def _open(self, name: str) -> IO[bytes]:
        self._make_room()
        return self._open_file(self._folder / name)

    def _make_room(self) -> None:
        """For one more whole file, and for the rest of those that are being written: the oldest go."""
        writing = {stem.name for stem in self._stems.values() if stem.name is not None}
        done = [path for path in self._folder.glob("*.wav") if path.name not in writing]
        done.sort(key=lambda path: path.stat().st_mtime_ns)
        left = self._spec.keep_bytes - self._file_bytes * (len(writing) + 1)
        total = sum(path.stat().st_size for path in done)
        for path in done:
            if total <= left:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)


class _Stem:
    """One kind of sound: blocks in, whole files out. A gap is silence; what has been written is not written again."""

    def __init__(self, stem: str, begin: int, samples: int, open_file: Callable[[str], IO[bytes]]) -> None:
        assert _NAME.fullmatch(stem), stem
        self._stem = stem
        self._at = begin
        self._samples = samples
        self._open = open_file
        self._file: IO[bytes] | None = None
        self._wave: wave.Wave_write | None = None
        self._left = 0
        self.name: str | None = None

    def take(self, position: int, pcm: bytes) -> None:
        if position < self._at:
            pcm = pcm[(self._at - position) * _FRAME :]
        elif position - self._at > self._samples:  # the source was away: no hours of silence
            self.close()
            self._at = position
        else:
            pcm = bytes((position - self._at) * _FRAME) + pcm
        while pcm:
            if self._wave is None:
                self._begin_file()
            part = pcm[: self._left * _FRAME]
            pcm = pcm[len(part) :]
            assert self._wave is not None
            self._wave.writeframes(part)  # mends the header too: whoever looks at it now can play it
            self._at += len(part) // _FRAME
            self._left -= len(part) // _FRAME
            if self._left == 0:
                self.close()

    def _begin_file(self) -> None:
        self.name = f"{self._stem}-{self._at * 1_000 // RATE:010d}.wav"
        self._file = self._open(self.name)
        self._wave = wave.open(self._file)
        self._wave.setparams((CHANNELS, 2, RATE, 0, "NONE", ""))
        self._left = self._samples

    def close(self) -> None:
        file, writer = self._file, self._wave
        self._file = self._wave = self.name = None
        try:
            if writer is not None:
                writer.close()
        finally:
            if file is not None:
                file.close()


def routes(dumps: Dumps, position: Callable[[], int]) -> list[web.RouteDef]:
    """``POST /dumps`` begins, ``DELETE`` ends, ``GET`` lists; off the loop, because they look at the disk.

    ``position``: the source sample that came last.
    """

    async def show(_request: web.Request) -> web.Response:
        return _answer(await asyncio.to_thread(dumps.status))

    async def start(request: web.Request) -> web.Response:
        try:
            spec = DumpSpec.model_validate_json(await request.read() or b"{}")
            return _answer(await asyncio.to_thread(dumps.start, spec, position()))
        except ValidationError as error:
            return _problem(422, sentence_of(error))
        except ControlsError as error:
            return _problem(error.status, str(error))

    async def stop(_request: web.Request) -> web.Response:
        return _answer(await asyncio.to_thread(dumps.stop))

    return [web.get("/dumps", show), web.post("/dumps", start), web.delete("/dumps", stop)]


def _answer(status: DumpStatus) -> web.Response:
    return web.Response(text=status.model_dump_json(), content_type="application/json")


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response(problems.document(status, detail), status=status, content_type=problems.MEDIA_TYPE)

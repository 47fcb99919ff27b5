"""The last seconds of the source, kept where a worker's end does not reach them.

A worker that dies takes the delay's worth of media with it, and the next one would have nothing to show before the
delay is over again. So what comes in is also written to files in memory (``/dev/shm``); the next worker of the stream
reads them and is on air at once, on the same timeline: its epoch is a time of the machine's monotonic clock, which
both share. A worker that ends as it was asked to removes them.

A file holds a group of pictures with its sound (two seconds of sound where there are no pictures) and is removed when
it is too old to be shown: about 11 MB at a delay of 6 s and 6 Mb/s. Writing is best effort; a full disk is said once.
What nobody will read any more is removed by the next worker of the machine.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from babelcast.units import NS_PER_S, AccessUnit, ns_to_samples, samples_to_ns

log = logging.getLogger(__name__)

_MAGIC = b"BCSPOOL1"
_HEADER = struct.Struct("<8s16sq")  # magic, boot, epoch
_RECORD = struct.Struct("<cqqI")  # kind, DTS or position, PTS, length
_CAPS, _KEY, _DELTA, _SOUND = b"C", b"K", b"D", b"A"
_SOUND_ALONE_NS = 2 * NS_PER_S
_MAX_FILE = 64 << 20
_MAX_BUFFERED = 4 << 20
_FRESH_NS = 15 * NS_PER_S
_AHEAD_NS = 2 * NS_PER_S
"""A source may run a little ahead of its own anchor, and its end then be yet to come."""
_LEFT_S = 60.0
_SLACK_NS = 4 * NS_PER_S
"""Kept beyond the delay: a worker's start, and the way back to a key frame."""
_FRAME_BYTES = 4


@dataclass(slots=True)
class Spooled:
    """What the worker before has left: on its timeline, in order."""

    epoch_ns: int
    video: list[AccessUnit] = field(default_factory=list)
    audio: list[tuple[int, bytes]] = field(default_factory=list)
    """(position, S16LE stereo)."""

    @property
    def audio_end(self) -> int:
        """Sample after the last one."""
        return max((position + len(pcm) // _FRAME_BYTES for position, pcm in self.audio[-1:]), default=0)

    @property
    def end_ns(self) -> int:
        """Source time up to which something came."""
        return max(self.video[-1].dts_ns if self.video else 0, samples_to_ns(self.audio_end))

    def audio_from(self, from_ns: int) -> list[tuple[int, bytes]]:
        """The blocks that end after ``from_ns``."""
        first = ns_to_samples(from_ns)
        return [(at, pcm) for at, pcm in self.audio if at + len(pcm) // _FRAME_BYTES > first]

    def tail(self, samples: int) -> bytes:
        """The last so many samples without a gap, or what there is of them."""
        found, begins = b"", self.audio_end
        for position, pcm in reversed(self.audio):
            if position + len(pcm) // _FRAME_BYTES != begins or len(found) >= samples * _FRAME_BYTES:
                break
            found, begins = pcm + found, position
        return found[-samples * _FRAME_BYTES :]

    def start_ns(self, due_ns: int) -> int | None:
        """Where to begin so that the picture at ``due_ns`` can be shown: the key frame before; without pictures
        ``due_ns`` itself. None when nothing is left that is due."""
        if due_ns >= self.end_ns:
            return None
        if not self.video:
            return due_ns
        return max((unit.dts_ns for unit in self.video if unit.key and unit.dts_ns <= due_ns), default=None)


def spool_folder(worker_folder: Path) -> Path:
    """For all generations of the stream whose worker has this folder: in memory, where there is room."""
    name = hashlib.sha256(str(worker_folder.absolute().parent).encode()).hexdigest()[:16]
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK):
        return memory / f"babelcast-{os.getuid()}" / name
    return worker_folder.parent / "spool"


class Spool:
    """Writes what comes in. One writer at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffer = bytearray()
        self._files: deque[tuple[Path, int]] = deque()  # with the source time at which each ends
        self._descriptor: int | None = None
        self._size = 0
        self._begun_ns = 0
        self._end_ns = 0
        self._caps = ""
        self._epoch_ns: int | None = None
        self._number = 0
        self._failed = False

    def read(self, now_ns: int) -> Spooled | None:
        """What the worker before has left, if it is fresh. Begins with empty files afterwards."""
        found = read_spool(self._folder, now_ns)
        self._clear()
        sweep(self._folder.parent, time.time())
        return found

    def video(self, unit: AccessUnit) -> None:
        if unit.key or unit.caps != self._caps:
            self._new_file(unit.dts_ns)
            self._caps = unit.caps
            self._put(_CAPS, 0, 0, unit.caps.encode())
        self._put(_KEY if unit.key else _DELTA, unit.dts_ns, unit.pts_ns, unit.data)
        self._end_ns = max(self._end_ns, unit.dts_ns)

    def audio(self, position: int, pcm: bytes) -> None:
        start_ns = samples_to_ns(position)
        if not self._caps and start_ns - self._begun_ns >= _SOUND_ALONE_NS:
            self._new_file(start_ns)
        self._put(_SOUND, position, 0, pcm)
        self._end_ns = max(self._end_ns, start_ns)

    def flush(self, epoch_ns: int, delay_ns: int) -> None:
        """Write what has come since the last call (twenty times a second), and remove what is too old."""
        self._epoch_ns = epoch_ns
        try:
            self._write()
            while len(self._files) > 1 and self._files[0][1] < self._end_ns - delay_ns - _SLACK_NS:
                self._files.popleft()[0].unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """The end that was asked for: nothing is left."""
        self._close_file()
        self._clear()

    def _put(self, kind: bytes, at: int, pts: int, data: bytes) -> None:
        if self._failed or len(self._buffer) > _MAX_BUFFERED:
            return
        self._buffer += _RECORD.pack(kind, at, pts, len(data))
        self._buffer += data

    def _new_file(self, begins_ns: int) -> None:
        """What was put before goes into the file before."""
        if self._epoch_ns is not None:
            try:
                self._write()
            except OSError as error:
                self._fail(error)
        self._close_file()
        self._begun_ns = begins_ns

    def _write(self) -> None:
        if self._failed or not self._buffer or self._epoch_ns is None:
            return
        if self._descriptor is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._number += 1
            path = self._folder / f"{self._number:08d}.spool"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._files.append((path, self._end_ns))
            self._size = os.write(self._descriptor, _HEADER.pack(_MAGIC, _boot(), self._epoch_ns))
        if self._size < _MAX_FILE:
            self._size += os.write(self._descriptor, self._buffer)
        self._buffer.clear()
        self._files[-1] = (self._files[-1][0], self._end_ns)

    def _close_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._files.clear()

    def _fail(self, error: OSError) -> None:
        self._failed = True
        self._buffer.clear()
        self._close_file()
        self._clear()
        log.warning("a crash of this worker will cost the delay: nothing can be kept (%s)", error.strerror)


def read_spool(folder: Path, now_ns: int) -> Spooled | None:
    """What was written up to a moment ago, on this machine, since it was started; else None.

    The last file ends wherever its writer died.
    """
    found: Spooled | None = None
    for file in sorted(folder.glob("*.spool")):
        try:
            data = memoryview(file.read_bytes())
        except OSError:
            continue
        if len(data) < _HEADER.size:
            continue
        magic, boot, epoch_ns = _HEADER.unpack_from(data)
        if magic != _MAGIC or boot != _boot():
            continue
        if found is None or found.epoch_ns != epoch_ns:
            found = Spooled(epoch_ns)
        _parse(data[_HEADER.size :], found)
    if found is None or not -_AHEAD_NS <= now_ns - found.epoch_ns - found.end_ns < _FRESH_NS:
        return None
    return found


def sweep(folder: Path, now_s: float) -> None:
    """Remove what workers left that were killed with all that could have started another one. What is not written to
    any more is of no use, and one that still lives makes its folder anew."""
    for spool in folder.iterdir() if folder.is_dir() else ():
        try:
            files = list(spool.iterdir()) if spool.is_dir() else [spool]
            if not files or any(file.suffix != ".spool" for file in files):
                continue
            if max(file.stat().st_mtime for file in (*files, spool)) < now_s - _LEFT_S:
                shutil.rmtree(spool, ignore_errors=True)
        except OSError:
            continue  # another worker sweeps as well


def _parse(data: memoryview, found: Spooled) -> None:
    caps, at = "", 0
    while at + _RECORD.size <= len(data):
        kind, place, pts, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > len(data):
            return
        body, at = bytes(data[at : at + length]), at + length
        if kind == _CAPS:
            caps = body.decode()
        elif kind == _SOUND:
            found.audio.append((place, body))
        elif kind in (_KEY, _DELTA):
            found.video.append(AccessUnit(pts, place, kind == _KEY, body, caps))
        else:
            return


def _boot() -> bytes:
    """Which start of the machine this is: the monotonic clock begins anew with each."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)

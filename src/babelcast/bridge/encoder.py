"""One ffmpeg process: started, read, judged and ended. What to do when it ends is the caller's."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from babelcast.bridge import command
from babelcast.bridge.command import Pipes
from babelcast.errors import BabelcastError, IngestError, MissingDependencyError
from babelcast.process import dies_with_us, end, how_it_ended
from babelcast.rtmp.message import Message
from babelcast.slate.ffmpeg import INSTALL
from babelcast.telemetry.redact import redact

log = logging.getLogger(__name__)

_GRACE_S = 1.5
_LAST_WORDS_S = 0.5
_MAX_TAG = 16 << 20
_LABELS = re.compile(r"\[\S+ @ 0x[0-9a-f]+\] |\[(?:error|fatal|warning|panic)\] ")
"""Where in ffmpeg a line is from, and its level: nothing to people."""
_PROBE_S = 15.0


@dataclass(slots=True)
class Figures:
    """What ffmpeg's ``-progress`` says of this run, and the source's video bytes as they came."""

    frames: int = 0
    duplicated: int = 0
    dropped: int = 0
    speed: float = 0.0
    bytes_in: int = 0

    def take(self, line: str) -> None:
        """One ``name=value`` line; what it can't read is left as it was."""
        name, _, value = line.strip().partition("=")
        with contextlib.suppress(ValueError):
            if name == "frame":
                self.frames = int(value)
            elif name == "dup_frames":
                self.duplicated = int(value)
            elif name == "drop_frames":
                self.dropped = int(value)
            elif name == "speed":
                self.speed = float(value.strip().removesuffix("x"))


@dataclass(slots=True)
class Words:
    """The last lines that ffmpeg said, redacted, and what they mean."""

    lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=12))
    wrong_passphrase: bool = False

    def take(self, line: str) -> None:
        lowered = line.lower()
        if "passphrase" in lowered and ("incorrect" in lowered or "reject" in lowered):
            self.wrong_passphrase = True
        if any(mark in line for mark in ("[error]", "[fatal]", "[warning]", "[panic]", "REJECT")):
            self.lines.append(redact(line.strip()))

    def error(self, status: int) -> IngestError:
        if self.wrong_passphrase:
            return IngestError("the SRT passphrase is wrong: the connection was refused", hint="compare both ends")
        said = [line for line in self.lines if "[error]" in line or "[fatal]" in line] or list(self.lines)
        # the first error is the reason, the last one is how ffmpeg gave up
        why = f": {_LABELS.sub('', said[0])}" if said else ""
        return IngestError(f"ffmpeg {how_it_ended(status)}{why}")


class Ffmpeg:
    """``run()`` once. ``build`` gives the command for the descriptors it is told; ``sound`` is the reading end of a
    pipe, which is closed here."""

    def __init__(
        self,
        build: Callable[[Pipes], list[str]],
        *,
        playlist: str | None = None,
        sound: int = 0,
        count: bool = False,
    ) -> None:
        self.figures = Figures()
        self.words = Words()
        self._build = build
        self._playlist = playlist
        self._sound = sound
        self._count = count

    async def run(self, read: Callable[[asyncio.StreamReader], Awaitable[None]]) -> None:
        """Until it ends, which is an IngestError; or until cancelled. ``read`` takes its standard output to the end.
        Raises MissingDependencyError where there is no ffmpeg."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            if self._sound:
                theirs.callback(os.close, self._sound)
            progress, progress_w = _pipe(ours, theirs)
            counted, counted_w = _pipe(ours, theirs) if self._count else (None, 0)
            listed = _filled(theirs, self._playlist) if self._playlist else 0
            pipes = Pipes(playlist=listed, sound=self._sound, progress=progress_w, count=counted_w)
            fds = [fd for fd in (listed, self._sound, progress_w, counted_w) if fd]
            process = await _spawn(self._build(pipes), fds)
            theirs.close()
            readers: list[asyncio.Task[None]] = []
            try:
                readers.append(loop.create_task(self._progress(await _reader(progress, ours))))
                readers.append(loop.create_task(self._listen(process.stderr)))
                if counted is not None:
                    readers.append(loop.create_task(self._counted(await _reader(counted, ours))))
                assert process.stdout is not None
                await read(process.stdout)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_S):
                        await process.wait()
                await asyncio.wait(readers, timeout=_LAST_WORDS_S)
            finally:
                for task in readers:
                    task.cancel()
                await asyncio.gather(*readers, return_exceptions=True)
                await end(process, _GRACE_S)
            if process.returncode == 127 or (process.returncode and any("No such file" in w for w in self._missing())):
                raise MissingDependencyError("ffmpeg is not installed", hint=INSTALL)
            raise self.words.error(process.returncode or 0)

    def _missing(self) -> Iterator[str]:
        return (line for line in self.words.lines if line.startswith("ffmpeg: "))

    async def _progress(self, reader: asyncio.StreamReader) -> None:
        async for line in _lines(reader):
            self.figures.take(line)

    async def _listen(self, reader: asyncio.StreamReader | None) -> None:
        assert reader is not None
        async for line in _lines(reader):
            self.words.take(line)
            if line.startswith("ffmpeg: "):
                self.words.lines.append(redact(line))
            log.debug("%s", redact(line), extra={"child": "ffmpeg"})

    async def _counted(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            self.figures.bytes_in += len(data)


async def _spawn(words: list[str], fds: list[int]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *dies_with_us(),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=fds,
            limit=1 << 20,
            start_new_session=True,  # Ctrl-C reaches us alone
        )
    except OSError as error:
        raise MissingDependencyError(f"ffmpeg can't be started: {error}", hint=INSTALL) from error


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    ours.callback(os.close, reading)
    theirs.callback(os.close, writing)
    return reading, writing


def _filled(theirs: contextlib.ExitStack, text: str) -> int:
    """A pipe that holds ``text``: short enough for its buffer."""
    reading, writing = os.pipe()
    theirs.callback(os.close, reading)
    try:
        os.write(writing, text.encode())
    finally:
        os.close(writing)
    return reading


async def _reader(fd: int, ours: contextlib.ExitStack) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 20)
    own = os.fdopen(os.dup(fd), "rb", 0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), own)
    ours.callback(transport.close)
    return reader


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # beyond the reader's limit: drop it
            continue
        if not line:
            return
        yield line.decode("utf-8", "replace").rstrip()


async def outcome(run: Awaitable[None]) -> BabelcastError:
    """What ended it, as data: a fault of ours must not take the other parts along."""
    try:
        await run
    except BabelcastError as error:
        return error
    except Exception as error:
        log.exception("unexpected error around ffmpeg")
        return IngestError(f"internal error: {type(error).__name__}")
    return IngestError("it ended")


async def flv_messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """The tags of an FLV stream as RTMP carries them. Raises IngestError where it is not FLV."""
    try:
        head = await reader.readexactly(13)
        if head[:3] != b"FLV":
            raise IngestError("ffmpeg wrote no FLV")
        while True:
            head = await reader.readexactly(11)
            size = int.from_bytes(head[1:4], "big")
            if size > _MAX_TAG:
                raise IngestError("ffmpeg wrote a tag that is too long")
            body = await reader.readexactly(size + 4)
            timestamp = int.from_bytes(head[4:7], "big") | head[7] << 24
            yield Message(head[0], timestamp, body[:size])
    except asyncio.IncompleteReadError:
        return


_NAMES = {"x264": "libx264", "nvenc": "h264_nvenc"}
_AUTO = ("h264_nvenc", "libx264")


async def choose_encoder(wanted: str) -> str:
    """ffmpeg's name of the encoder, after it has encoded pictures here; ``copy`` as it is.

    Raises MissingDependencyError where it can't.
    """
    if wanted == "copy":
        return wanted
    said = "it said nothing"
    for encoder in _AUTO if wanted == "auto" else (_NAMES.get(wanted, wanted),):
        works, said = await _works(encoder)
        if works:
            return encoder
        log.info("the encoder %s can't be used here: %s", encoder, said)
    raise MissingDependencyError(
        f"no H.264 encoder works here: {said}" if wanted == "auto" else f"the encoder {wanted} does not work: {said}",
        hint="set VIDEO_ENCODER to auto, x264 or copy",
    )


async def _works(encoder: str) -> tuple[bool, str]:
    process = await _spawn(command.probe(encoder), [])
    try:
        async with asyncio.timeout(_PROBE_S):
            _, words = await process.communicate()
    except TimeoutError:
        return False, f"it was not ready after {_PROBE_S:.0f} s"
    finally:
        await end(process, _GRACE_S)
    lines = redact(words.decode("utf-8", "replace")).strip().splitlines()
    return process.returncode == 0, lines[0] if lines else f"status {process.returncode}"

"""Pictures that a browser's WebRTC can't show as they are (B-frames), encoded again: small, once for all viewers.

By ffmpeg as a program of its own, so that x264 (GPL) stays there. FLV goes in, FLV comes out, timestamps kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from babelcast.errors import MissingDependencyError
from babelcast.process import dies_with_us, end
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.ffmpeg import INSTALL
from babelcast.telemetry.redact import redact

log = logging.getLogger(__name__)

HEIGHT = 480
_MAX_PENDING = 4 * 1024 * 1024
"""Bytes that ffmpeg may be behind; beyond, pictures are dropped up to the next key picture."""
_MAX_TAG = 8 * 1024 * 1024
_MAX_WORDS = 4096
_FLV_HEADER = b"FLV\1\1\0\0\0\x09\0\0\0\0"
_ARGUMENTS = (
    *("-v", "error", "-nostdin", "-max_alloc", str(512 << 20)),
    # no look-ahead: what must be known of the stream is in its header (nobuffer would throw the first key picture away)
    *("-probesize", "32", "-analyzeduration", "0", "-fpsprobesize", "0"),
    *("-threads", "1", "-f", "flv", "-i", "pipe:0", "-an", "-copyts", "-fps_mode", "passthrough"),
    *("-vf", f"scale=-2:'min({HEIGHT},trunc(ih/2)*2)':flags=fast_bilinear,format=yuv420p"),
    *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-threads", "1"),
    *("-crf", "24", "-maxrate", "1500k", "-bufsize", "1500k", "-g", "50", "-bf", "0"),
    *("-flush_packets", "1", "-muxdelay", "0", "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"),
)


class Reencoder:
    """One ffmpeg. ``feed`` never waits. Runs inside :meth:`running`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._awaiting_key = True
        self.dropped = 0
        assert process.stdin is not None
        self._stdin = process.stdin
        self._stdin.write(_FLV_HEADER)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, take: Callable[[Message], None]) -> AsyncIterator[tuple[Reencoder, Awaitable[str]]]:
        """Gives the encoder and what ends with it: why it ended. ``take`` gets its video messages, sequence header
        first. Raises MissingDependencyError without ffmpeg."""
        try:
            process = await asyncio.create_subprocess_exec(
                *dies_with_us(),
                "ffmpeg",
                *_ARGUMENTS,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise MissingDependencyError(f"ffmpeg can't be started: {error}", hint=INSTALL) from error
        reading = asyncio.create_task(_read(process, take), name="preview encoder")
        try:
            yield cls(process), reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await end(process)

    def feed(self, message: Message, *, key: bool, header: bool) -> None:
        """Pass on a video message of the source, or drop it where the encoder can't keep up."""
        transport = self._stdin.transport
        if transport.is_closing():
            return
        pending = transport.get_write_buffer_size()
        if self._awaiting_key and not header:
            if not key or pending > _MAX_PENDING // 2:
                self.dropped += 1
                return
            self._awaiting_key = False
        elif pending > _MAX_PENDING and not header:
            self.dropped += 1
            self._awaiting_key = True
            return
        self._stdin.write(tag(message))


def tag(message: Message) -> bytes:
    """An FLV video tag with its length after it."""
    size, stamp = len(message.payload), message.timestamp
    head = bytes([MessageType.VIDEO]) + size.to_bytes(3, "big")
    head += (stamp & 0xFFFFFF).to_bytes(3, "big") + bytes([(stamp >> 24) & 0xFF, 0, 0, 0])
    return head + message.payload + (size + 11).to_bytes(4, "big")


async def _read(process: asyncio.subprocess.Process, take: Callable[[Message], None]) -> str:
    assert process.stdout is not None and process.stderr is not None
    words = asyncio.create_task(_last_words(process.stderr), name="preview encoder's words")
    try:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await process.stdout.readexactly(len(_FLV_HEADER))
            while True:
                head = await process.stdout.readexactly(11)
                size = int.from_bytes(head[1:4], "big")
                if size > _MAX_TAG:
                    break
                body = (await process.stdout.readexactly(size + 4))[:size]
                if head[0] == MessageType.VIDEO:
                    take(Message(MessageType.VIDEO, int.from_bytes(head[4:7], "big") | head[7] << 24, body))
        said = redact((await words).decode("utf-8", "replace")).strip().splitlines()
        return said[-1] if said else "it said nothing"
    finally:
        words.cancel()
        await asyncio.gather(words, return_exceptions=True)


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    """The end of what it says. All of it is read, or it would wait for that in the middle of a picture."""
    said = b""
    while data := await stream.read(_MAX_WORDS):
        said = (said + data)[-_MAX_WORDS:]
    return said

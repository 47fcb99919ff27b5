"""ffmpeg as a program of its own, for one short job: bytes in, bytes out, within a time and a size.

Encoders under the GPL (x264) stay in that program. What it is given by file lies in a folder of its own that goes
with the job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from babelcast.errors import MissingDependencyError, PublishError
from babelcast.process import dies_with_us, end
from babelcast.telemetry.redact import redact

INSTALL = "apt-get install ffmpeg"
_MAX_OUTPUT = 16 << 20
_MAX_WORDS = 64 << 10
# No picture of more than 64 megapixels and no single allocation beyond 512 MiB: an image is what a user gives.
_GUARDS = ("-max_alloc", str(512 << 20))


@dataclass(frozen=True, slots=True)
class FlvTag:
    """``type`` 8 is audio, 9 video, 18 metadata; ``body`` as RTMP carries it."""

    type: int
    timestamp_ms: int
    body: bytes


async def run_ffmpeg(arguments: Sequence[str], folder: Path, *, feed: bytes = b"", timeout_s: float) -> bytes:
    """What ffmpeg, working in ``folder``, writes to its standard output; ``feed`` is its input.

    Raises MissingDependencyError where there is no ffmpeg; PublishError where it fails, takes longer than
    ``timeout_s``, or writes more than 16 MiB. It never outlives the call.
    """
    command = [*dies_with_us(), "ffmpeg", "-v", "error", "-nostdin", *_GUARDS, *arguments]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise MissingDependencyError(f"ffmpeg can't be started: {error}", hint=INSTALL) from error
    reads = [
        asyncio.create_task(_read(process.stdout, _MAX_OUTPUT)),
        asyncio.create_task(_read(process.stderr, _MAX_WORDS)),
    ]
    write = asyncio.create_task(_write(process.stdin, feed))
    try:
        async with asyncio.timeout(timeout_s):
            output, words = await asyncio.gather(*reads)
            status = await process.wait()
    except TimeoutError:
        raise PublishError(f"ffmpeg was not ready after {timeout_s:.0f} s") from None
    finally:
        for task in (*reads, write):
            task.cancel()
        await asyncio.gather(*reads, write, return_exceptions=True)
        await end(process)
    said = redact(words.decode("utf-8", "replace")).strip().splitlines()
    if status == 127 or (status and said and said[0].startswith("ffmpeg: No such file")):
        raise MissingDependencyError("ffmpeg is not installed", hint=INSTALL)
    if status:
        raise PublishError(f"ffmpeg ended with status {status}: {said[-1] if said else 'it said nothing'}")
    return output


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    assert stream is not None
    data = bytearray()
    while chunk := await stream.read(1 << 16):
        data += chunk
        if len(data) > limit:
            raise PublishError(f"ffmpeg wrote more than {limit >> 20} MiB")
    return bytes(data)


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    assert stream is not None
    with contextlib.suppress(ConnectionError):  # it has enough, or it is gone: its status tells which
        stream.write(data)
        await stream.drain()
    stream.close()


def flv_tags(data: bytes) -> Iterator[FlvTag]:
    """The tags of an FLV file: a header of 13 bytes, then 11 of each tag's head, its body, and 4 of length."""
    at = 13
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        stamp = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        body = data[at + 11 : at + 11 + size]
        if len(body) < size:
            return
        yield FlvTag(data[at], stamp, body)
        at += 15 + size

"""Recording and publishing with ffmpeg, without touching a byte of what is inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from babelcast.errors import BabelcastError, ConfigError, MissingDependencyError
from babelcast.telemetry.redact import redact

logger = logging.getLogger(__name__)

_RETRY_S = 0.25
_STOP_S = 3.0
_FFMPEG = ("ffmpeg", "-hide_banner", "-v", "error", "-nostats")


class Recorder:
    """Records an RTMP path to an FLV file from the moment when there is something to read.

    ``start()`` returns at once; until the path exists, ffmpeg is tried again. ``stop()`` ends the file properly.
    A stream that ends by itself ends the recording; it is not opened again (the file would be written over).
    """

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"record {self.path.name}")

    @property
    def bytes_recorded(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def ended(self) -> bool:
        """Whether the stream ended after something of it was recorded."""
        return self._task is not None and self._task.done()

    async def stop(self) -> int:
        """End the recording, in 3 s at most; returns its size in bytes (0: nothing ever came)."""
        self._stopping = True
        if self._task is not None:
            await end_process(self._process)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        return self.bytes_recorded

    async def _run(self) -> None:
        # -copyts keeps the stream's own clock. Not -fflags nobuffer: what is read while probing would be lost.
        options = ("-analyzeduration", "1000000", "-copyts", "-i", self.url)
        output = ("-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize")
        try:
            while not self._stopping:
                self.path.unlink(missing_ok=True)
                self._process = await asyncio.create_subprocess_exec(
                    *_FFMPEG, "-rw_timeout", "15000000", *options, *output, "-y", str(self.path),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                await self._process.wait()
                if self.bytes_recorded > 1_000:
                    return
                await asyncio.sleep(_RETRY_S)
        finally:
            await end_process(self._process)


class Publisher:
    """Publishes a file over RTMP at the speed of life, codecs untouched."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *_FFMPEG, "-re", "-i", str(self.path), "-map", "0:v:0?", "-map", "0:a:0?",
            "-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize", self.url,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def wait(self) -> None:
        """Until the file has been sent. Raises BabelcastError when the server refused or hung up."""
        if self._process is None:
            raise BabelcastError("the publisher was not started")
        _, errors = await self._process.communicate()
        if self._process.returncode:
            said = redact(errors.decode(errors="replace").strip())[-300:]
            raise BabelcastError(f"publishing {self.path.name} failed: {said}", retryable=True)

    async def stop(self) -> None:
        await end_process(self._process)


async def end_process(process: asyncio.subprocess.Process | None) -> None:
    """Ask it to end (ffmpeg then writes its trailer), kill it after 3 s."""
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def check_input(path: Path) -> float:
    """The length of ``path`` in seconds. Raises ConfigError unless it is H.264, AAC or both, as the wire carries;
    MissingDependencyError without ffmpeg."""
    if shutil.which("ffprobe") is None:
        raise MissingDependencyError("ffmpeg is not installed", hint="sudo apt install ffmpeg")
    process = await asyncio.create_subprocess_exec(
        *("ffprobe", "-v", "error", "-of", "json", "-show_entries", "format=duration:stream=codec_type,codec_name"),
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await process.communicate()
    finally:
        await end_process(process)
    found = json.loads(output or b"{}") if process.returncode == 0 else {}
    codecs: dict[str, str] = {}
    for stream in found.get("streams", []):
        codecs.setdefault(stream.get("codec_type", ""), stream.get("codec_name", "unknown"))
    if not codecs.keys() & {"video", "audio"}:
        raise ConfigError(f"{path} holds neither pictures nor sound that can be read")
    wrong = [
        f"{kind} is {codecs[kind]}"
        for kind, wanted in (("video", "h264"), ("audio", "aac"))
        if codecs.get(kind, wanted) != wanted
    ]
    if wrong:
        raise ConfigError(
            f"{path}: its {' and its '.join(wrong)}; the demo publishes H.264 and AAC as they are",
            hint=f"ffmpeg -i {path.name} -c:v libx264 -c:a aac converted.mp4",
        )
    return float(found.get("format", {}).get("duration", 0.0))


@contextlib.asynccontextmanager
async def recording(url: str, path: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder(url, path)
    recorder.start()
    try:
        yield recorder
    finally:
        await recorder.stop()


async def finish_mp4(flv: Path, mp4: Path) -> None:
    """Remux a recording to an MP4 that plays while it loads. Raises BabelcastError when ffmpeg fails."""
    await run_ffmpeg(
        ("-i", str(flv), "-map", "0:v?", "-map", "0:a?", "-c", "copy", "-movflags", "+faststart", str(mp4))
    )


async def run_ffmpeg(options: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *_FFMPEG, "-y", *options, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, errors = await process.communicate()
    finally:
        await end_process(process)
    if process.returncode:
        raise BabelcastError(f"ffmpeg failed: {redact(errors.decode(errors='replace').strip())[-300:]}")

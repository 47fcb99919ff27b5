"""One producer: its body through a decoder of its own into a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from babelcast.bridge.audio_endpoint.formats import Format, decoder
from babelcast.bridge.audio_endpoint.settings import AudioSettings
from babelcast.bridge.encoder import Words
from babelcast.bridge.jitter import SoundQueue
from babelcast.errors import BabelcastError, MissingDependencyError
from babelcast.process import dies_with_us, end
from babelcast.slate.ffmpeg import INSTALL
from babelcast.telemetry.redact import redact

_READ = 1 << 14
_GRACE_S = 1.5
_WAIT_S = 0.02
_CHUNKS = 4
"""Of a body, as they come from the network (up to 128 KiB each); then the sender has to wait."""
_ENDS_S = 5.0
"""Which it does at once, but on a machine that is too busy."""


class Undecodable(BabelcastError):
    """The body is not what its content type says."""


class Replaced(BabelcastError):
    """Another producer is heard now."""


class Silent(BabelcastError):
    """The producer sent nothing for too long."""


class Producer:
    """``run()`` once. ``heard`` is called with it at its first samples: only then may it take another one's place, so
    that a body that can't be decoded disturbs nobody."""

    def __init__(self, form: Format, settings: AudioSettings, heard: Callable[[Producer], None], *, live: bool) -> None:
        self.format = form
        self.live = live
        self.since = datetime.now(UTC)
        self.received = 0
        """Bytes of the body so far."""
        most_s, late_s = (settings.burst_s, settings.late_s) if live else (settings.file_s, None)
        self.queue = SoundQueue(settings.target_s, most_s, late_s=late_s)
        self._timeout_s = settings.producer_timeout_s
        self._heard = heard
        self._replaced = asyncio.Event()
        self._words = Words()

    def replace(self) -> None:
        self._replaced.set()

    async def run(self, body: AsyncIterator[bytes]) -> None:
        """Until the body has ended and has been heard. Raises Undecodable, Replaced, Silent, MissingDependencyError
        and what ``body`` raises."""
        chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS)
        # begun before the decoder: a sender that has said all may go at once, and what was not taken by then is lost
        take = asyncio.create_task(self._take(body, chunks), name="audio body")
        try:
            process = await _spawn(decoder(self.format, live=self.live))
        except BaseException:
            await _cancelled(take)
            raise
        assert process.stdin and process.stdout and process.stderr
        feed = asyncio.create_task(self._feed(chunks, process.stdin), name="audio decoder's input")
        read = asyncio.create_task(self._read(process.stdout), name="audio decoder")
        listen = asyncio.create_task(self._listen(process.stderr), name="audio decoder's words")
        replaced = asyncio.create_task(self._replaced.wait(), name="audio producer replaced")
        try:
            await self._until_read(take, read, replaced)
            samples = read.result()
            self.queue.ended = True
            async with asyncio.timeout(_ENDS_S):
                await asyncio.wait({listen})
                status = await process.wait()
            if not samples or (status and not self.queue.complete):
                said = str(self._words.error(status)).partition(": ")[2] or "no sound is in it"
                raise Undecodable(f"the body could not be decoded as {self.format.name}: {said}")
            while not self.queue.finished:
                if self._replaced.is_set():
                    raise Replaced("another producer is heard now")
                await asyncio.sleep(_WAIT_S)
        except TimeoutError:
            raise Undecodable("the decoder did not end") from None
        finally:
            self.queue.ended = True
            await _cancelled(take, feed, read, listen, replaced)
            await end(process, _GRACE_S)

    async def _until_read(
        self, take: asyncio.Task[None], read: asyncio.Task[int], replaced: asyncio.Task[bool]
    ) -> None:
        waiting: set[asyncio.Task[object]] = {take, read, replaced}
        while not read.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if replaced in done:
                raise Replaced("another producer is heard now")
            if take in done:
                take.result()  # raises what ended it: the producer vanished, or is silent

    async def _take(self, body: AsyncIterator[bytes], chunks: asyncio.Queue[bytes | None]) -> None:
        iterator = aiter(body)
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    chunk = await anext(iterator, None)
            except TimeoutError:
                raise Silent(f"nothing came for {self._timeout_s:g} s") from None
            self.received += len(chunk or b"")
            await chunks.put(chunk)
            if chunk is None:
                return

    async def _feed(self, chunks: asyncio.Queue[bytes | None], decoder: asyncio.StreamWriter) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the decoder has ended: it says why
            while (chunk := await chunks.get()) is not None:
                decoder.write(chunk)
                await decoder.drain()
            self.queue.complete = True
        decoder.close()

    async def _read(self, decoded: asyncio.StreamReader) -> int:
        count = 0
        while data := await decoded.read(_READ):
            if not count:
                self._heard(self)
            count += len(data)
            self.queue.put(data)
            while self.queue.full:  # noqa: ASYNC110 - the clock empties it, fifty times a second
                await asyncio.sleep(_WAIT_S)
        return count

    async def _listen(self, words: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await words.readline()
            except ValueError:  # beyond the reader's limit
                continue
            if not line:
                return
            self._words.take(redact(line.decode("utf-8", "replace")))


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _spawn(words: list[str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *dies_with_us(),
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 16,
            start_new_session=True,
        )
    except OSError as error:
        raise MissingDependencyError(f"ffmpeg can't be started: {error}", hint=INSTALL) from error

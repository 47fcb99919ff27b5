"""One producer: its body through a decoder of its own into a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from babelcast.bridge.audio_endpoint.formats import Format, decoder
from babelcast.bridge.audio_endpoint.queue import SoundQueue
from babelcast.bridge.audio_endpoint.settings import AudioSettings
from babelcast.bridge.encoder import Words, end
from babelcast.errors import BabelcastError, MissingDependencyError
from babelcast.process import dies_with_us
from babelcast.slate.ffmpeg import INSTALL
from babelcast.telemetry.redact import redact

_READ = 1 << 14
_WAIT_S = 0.02
_LAST_WORDS_S = 0.5


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
        most_s = settings.most_s if live else settings.file_s
        self.queue = SoundQueue(settings.target_s, most_s, live=live)
        self._timeout_s = settings.producer_timeout_s
        self._heard = heard
        self._replaced = asyncio.Event()
        self._words = Words()

    def replace(self) -> None:
        self._replaced.set()

    async def run(self, body: AsyncIterator[bytes]) -> None:
        """Until the body has ended and is decoded; a file's, until it has been heard. Raises Undecodable, Replaced,
        Silent, MissingDependencyError, and what ``body`` raises."""
        process = await _spawn(decoder(self.format))
        assert process.stdin and process.stdout and process.stderr
        feed = asyncio.create_task(self._feed(body, process.stdin), name="audio body")
        read = asyncio.create_task(self._read(process.stdout), name="audio decoder")
        listen = asyncio.create_task(self._listen(process.stderr), name="audio decoder's words")
        replaced = asyncio.create_task(self._replaced.wait(), name="audio producer replaced")
        tasks = (feed, read, listen, replaced)
        try:
            await self._until_read(feed, read, replaced)
            samples = read.result()
            await asyncio.wait({listen}, timeout=_LAST_WORDS_S)
            status = await asyncio.wait_for(process.wait(), _LAST_WORDS_S)
            if not samples or (status and not feed.done()):
                said = str(self._words.error(status)).partition(": ")[2] or "no sound is in it"
                raise Undecodable(f"the body could not be decoded as {self.format.name}: {said}")
            self.queue.ended = True
            while not self.live and not self.queue.finished:
                if self._replaced.is_set():
                    raise Replaced("another producer is heard now")
                await asyncio.sleep(_WAIT_S)
        except TimeoutError:
            raise Undecodable("the decoder did not end") from None
        finally:
            self.queue.ended = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await end(process)

    async def _until_read(
        self, feed: asyncio.Task[None], read: asyncio.Task[int], replaced: asyncio.Task[bool]
    ) -> None:
        waiting: set[asyncio.Task[object]] = {feed, read, replaced}
        while not read.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if replaced in done:
                raise Replaced("another producer is heard now")
            if feed in done:
                feed.result()  # raises what ended it: the producer vanished, or is silent

    async def _feed(self, body: AsyncIterator[bytes], decoder: asyncio.StreamWriter) -> None:
        chunks = aiter(body)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the decoder has ended: it says why
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(chunks), self._timeout_s)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise Silent(f"nothing came for {self._timeout_s:g} s") from None
                self.received += len(chunk)
                decoder.write(chunk)
                await decoder.drain()
            decoder.close()

    async def _read(self, decoded: asyncio.StreamReader) -> int:
        count = 0
        while data := await decoded.read(_READ):
            if not count:
                self._heard(self)
            count += len(data)
            self.queue.put(data)
            while not self.live and self.queue.full:  # noqa: ASYNC110 - the clock empties it, fifty times a second
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

"""Calls of several sessions joined into one call of a model: a batch costs a GPU little more than one clause.

:class:`Batcher` is the policy, in asyncio: whoever asks first waits ``wait_s`` for company of the same kind, and what
comes while a batch is being worked on goes into the next one without more waiting. :class:`BlockingBatcher` is the same
for the engines, whose callers are threads.
"""

from __future__ import annotations

import asyncio
import bisect
import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from babelcast.errors import SpeechError, SpeechUnavailableError

In = TypeVar("In")
Out = TypeVar("Out")
Answers = Sequence[Out | SpeechError]
"""One for each item of the batch, in their order; an error is its item's own."""

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
WAITS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.05, 0.1, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """``size``: items of a batch at most; 1 joins nothing."""

    size: int = 8
    wait_s: float = 0.004
    """How long the first one waits for company."""
    workers: int = 1
    """Batches at once."""
    max_waiting: int = 256
    """Items that wait. Full policy: the next one is refused as overloaded."""
    timeout_s: float = 30.0
    """An item that has no answer by then is given up."""


@dataclass(slots=True)
class BatchStats:
    """``sizes[i]`` counts the batches of at most ``SIZES[i]`` items and more than ``SIZES[i - 1]``, the last place
    those beyond; ``waits`` likewise counts items by :data:`WAITS_S`."""

    engine: str
    sizes: list[int] = field(default_factory=lambda: [0] * (len(SIZES) + 1))
    waits: list[int] = field(default_factory=lambda: [0] * (len(WAITS_S) + 1))
    items: int = 0
    waited_s: float = 0.0

    def count(self, waits_s: Sequence[float]) -> None:
        self.sizes[bisect.bisect_left(SIZES, len(waits_s))] += 1
        self.items += len(waits_s)
        self.waited_s += sum(waits_s)
        for wait_s in waits_s:
            self.waits[bisect.bisect_left(WAITS_S, wait_s)] += 1


@runtime_checkable
class Batching(Protocol):
    """An engine that joins calls. Implemented by whisper.WhisperEngine and ct2.Ct2Translator."""

    @property
    def batches(self) -> BatchStats: ...


@dataclass(slots=True, eq=False)
class _Entry(Generic[In, Out]):
    item: In
    key: Hashable
    since: float
    answer: asyncio.Future[Out]


class Batcher(Generic[In, Out]):
    """``run`` works on a batch; items are only joined where ``key`` gives the same for them. Belongs to one event loop.

    An item whose caller was cancelled is left out of its batch, or its answer is dropped: the others don't notice.
    Where ``run`` raises SpeechError for a batch, its items are tried one by one, so that each pays only for its own.
    """

    def __init__(
        self,
        run: Callable[[list[In]], Awaitable[Answers[Out]]],
        key: Callable[[In], Hashable],
        settings: BatchSettings,
        stats: BatchStats,
    ) -> None:
        self._run = run
        self._key = key
        self._settings = settings
        self.stats = stats
        self._waiting: deque[_Entry[In, Out]] = deque()
        self._came = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()
        self._closed = False

    async def submit(self, item: In) -> Out:
        """Raises the item's SpeechError; SpeechUnavailableError (``overloaded``, ``deadline``)."""
        if self._closed:
            raise SpeechUnavailableError("the service is stopping", code="overloaded")
        if len(self._waiting) >= self._settings.max_waiting:
            raise SpeechUnavailableError(
                f"{len(self._waiting)} clauses wait for {self.stats.engine}", code="overloaded"
            )
        loop = asyncio.get_running_loop()
        entry = _Entry[In, Out](item, self._key(item), loop.time(), loop.create_future())
        self._waiting.append(entry)
        self._came.set()
        # a worker that is done may still be in the set
        if sum(not worker.done() for worker in self._workers) < self._settings.workers:
            worker = asyncio.create_task(self._work(), name=f"batches {self.stats.engine}")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await entry.answer
        except TimeoutError as error:
            raise SpeechUnavailableError(f"{self.stats.engine} does not answer", code="deadline") from error
        finally:
            if not entry.answer.cancel() and not entry.answer.cancelled():
                entry.answer.exception()  # seen, also where the caller was cancelled meanwhile
            with contextlib.suppress(ValueError):
                self._waiting.remove(entry)

    async def aclose(self) -> None:
        """Refuse what waits. A batch in progress is let go; the thread that it is in ends with it."""
        self._closed = True
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for entry in self._waiting:
            _fail(entry, SpeechUnavailableError("the service is stopping", code="overloaded"))

    async def _work(self) -> None:
        """One batch after the other, for as long as items wait."""
        while self._waiting:
            batch = [self._waiting.popleft()]
            try:
                await self._join(batch)
                await self._answer(batch)
            except asyncio.CancelledError:
                for entry in batch:
                    _fail(entry, SpeechUnavailableError("the service is stopping", code="overloaded"))
                raise

    async def _join(self, batch: list[_Entry[In, Out]]) -> None:
        """Give the oldest item its company, out of what waits and what comes."""
        loop, settings = asyncio.get_running_loop(), self._settings
        until = batch[0].since + settings.wait_s
        while True:
            for entry in [entry for entry in self._waiting if entry.key == batch[0].key]:
                if len(batch) < settings.size:
                    self._waiting.remove(entry)
                    batch.append(entry)
            if len(batch) >= settings.size or loop.time() >= until:
                return
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._came.wait()

    async def _answer(self, batch: list[_Entry[In, Out]]) -> None:
        batch = [entry for entry in batch if not entry.answer.done()]
        if not batch:
            return
        now = asyncio.get_running_loop().time()
        self.stats.count([now - entry.since for entry in batch])
        try:
            answers = await self._run([entry.item for entry in batch])
            if len(answers) != len(batch):
                raise SpeechError(f"{self.stats.engine} answered {len(answers)} of {len(batch)}", code="engine_failed")
        except SpeechError as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for entry in batch:
                await self._answer([entry])
            return
        except Exception as error:  # a defect in an engine must not leave its callers waiting
            for entry in batch:
                _fail(entry, error)
            return
        for entry, answer in zip(batch, answers, strict=True):
            if isinstance(answer, SpeechError):
                _fail(entry, answer)
            elif not entry.answer.done():
                entry.answer.set_result(answer)


def _fail(entry: _Entry[In, Out], error: Exception) -> None:
    if not entry.answer.done():
        entry.answer.set_exception(error)


class BlockingBatcher(Generic[In, Out]):
    """A :class:`Batcher` for callers in threads. Its event loop has a thread of its own, from the first call on, and
    ``run`` works in ``settings.workers`` more."""

    def __init__(
        self,
        engine: str,
        run: Callable[[list[In]], Answers[Out]],
        key: Callable[[In], Hashable] = lambda item: None,
        settings: BatchSettings | None = None,
    ) -> None:
        self.stats = BatchStats(engine)
        self._run = run
        self._key = key
        self._settings = settings or BatchSettings()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._batcher: Batcher[In, Out] | None = None
        self._closed = False

    def call(self, item: In) -> Out:
        """Blocks. Raises as :meth:`Batcher.submit`."""
        try:
            with self._lock:
                loop, batcher = self._started()
                asked = asyncio.run_coroutine_threadsafe(batcher.submit(item), loop)
            return asked.result()
        except concurrent.futures.CancelledError as error:
            raise SpeechUnavailableError("the service is stopping", code="overloaded") from error

    def close(self) -> None:
        """Refuse what waits. Idempotent. Does not wait for a batch in progress."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop and self._thread:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _started(self) -> tuple[asyncio.AbstractEventLoop, Batcher[In, Out]]:
        if self._closed:
            raise SpeechUnavailableError("the service is stopping", code="overloaded")
        if self._loop is None or self._batcher is None:
            self._loop = asyncio.new_event_loop()
            pool = ThreadPoolExecutor(self._settings.workers, self.stats.engine)
            self._batcher = Batcher(self._in(self._loop, pool), self._key, self._settings, self.stats)
            self._thread = threading.Thread(
                target=self._live, args=(self._loop, self._batcher, pool), name=f"batches {self.stats.engine}"
            )
            self._thread.daemon = True  # it ends with close; a program that forgets it must end all the same
            self._thread.start()
        return self._loop, self._batcher

    def _in(
        self, loop: asyncio.AbstractEventLoop, pool: ThreadPoolExecutor
    ) -> Callable[[list[In]], Awaitable[Answers[Out]]]:
        async def run(batch: list[In]) -> Answers[Out]:
            return await loop.run_in_executor(pool, self._run, batch)

        return run

    @staticmethod
    def _live(loop: asyncio.AbstractEventLoop, batcher: Batcher[In, Out], pool: ThreadPoolExecutor) -> None:
        async def end() -> None:
            await batcher.aclose()
            # those who asked in the last moment get their answer before the loop is closed
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

        try:
            loop.run_forever()
            loop.run_until_complete(end())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            loop.close()

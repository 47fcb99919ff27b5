"""What the routes share: the engine, its threads, admission, draining and the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from babelcast.errors import BabelcastError, SpeechUnavailableError
from babelcast.sts.admission import AdmissionSettings, Factor, refusal
from babelcast.sts.auth import Clients
from babelcast.sts.engine import Engine
from babelcast.sts.metrics import BatchCollector, Metrics
from babelcast.sts.resume import Resumption

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_REFUSED_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    sessions: int = 4
    """WebSocket sessions at once; the next one is refused as overloaded."""
    handshakes: int = 32
    """Sockets that are open and have not said what they want."""
    requests: int = 2
    """REST fragments being processed at once."""
    waiting_requests: int = 6
    """REST fragments that wait for their turn; the next one is refused as overloaded."""
    queue_s: float = 15.0
    """Sound of one session that waits; beyond it the session is closed as overloaded."""
    deadline_s: float = 10.0
    """For one REST fragment, its wait for a turn included."""
    body_bytes: int = 16 << 20
    body_s: float = 10.0
    """For a REST body to come."""
    hung_s: float = 120.0
    """An engine that has not come back from a call for so long is taken to hang. Nothing can end such a call, so the
    service says that it is not well: whoever looks after it starts another one."""
    send_s: float = 5.0
    """A client that reads nothing for as long is closed."""
    idle_s: float = 60.0
    """A session from which nothing comes for so long, no sound and no KeepAlive, is ended: it holds a place."""
    session_s: float | None = None
    """A session that lasts longer is asked to go, and closed 10 s later."""
    capacity: float | None = None
    """Seconds of work that get done in a second: see :mod:`babelcast.sts.admission`. The cores where absent."""


class Member(Protocol):
    """A session as the service sees it. Implemented by stream.Stream."""

    factor: Factor

    @property
    def session_id(self) -> str: ...

    @property
    def queued_s(self) -> float: ...

    async def going_away(self, deadline_s: float) -> None: ...

    def end(self, why: str) -> None:
        """Close it, retryable: its client has come back on another socket, or had its time to go."""
        ...


class Service:
    """Lives as long as the process. ``run`` is the only way to the engine's blocking calls."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits | None = None,
        token: str | None = None,
        *,
        clients: Clients | None = None,
        resumption: Resumption | None = None,
        admin_token: str | None = None,
    ) -> None:
        self.engine = engine
        self.limits = limits or Limits()
        self.clients = (clients or Clients()).with_token(token)
        self.resumption = resumption or Resumption()
        self.admin_token = admin_token
        self.metrics = Metrics()
        self.metrics.registry.register(BatchCollector(engine.batches))
        self.metrics.queue.set_function(lambda: sum(stream.queued_s for stream in self.streams))
        self.streams: set[Member] = set()
        self.handshakes = 0
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()
        """Whoever serves ends when this is set."""
        self._empty = asyncio.Event()
        self._empty.set()
        self._all = Factor()
        """What sessions have needed so far, all together."""
        self._admission = AdmissionSettings(self.limits.capacity or float(len(os.sched_getaffinity(0))))
        self._waiting = 0
        self._turn_s = 0.0
        self._turns = asyncio.Semaphore(self.limits.requests)
        self._calls: dict[object, float] = {}
        """When each call that a thread is in began."""
        self._threads = ThreadPoolExecutor(self.limits.sessions + self.limits.requests + 1, thread_name_prefix="sts")
        self._preloads: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def work() -> T:
            this = object()
            self._calls[this] = time.monotonic()
            try:
                return call(*args, **kwargs)
            finally:
                del self._calls[this]

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @property
    def hangs(self) -> bool:
        """Whether a call of the engine lasts longer than ``Limits.hung_s``."""
        return any(time.monotonic() - began > self.limits.hung_s for began in list(self._calls.values()))

    def refuse(self, reason: str, retry_after_s: float = _REFUSED_RETRY_S) -> SpeechUnavailableError:
        """The error for a session or request that the service as a whole can't take."""
        self.metrics.refused.inc()
        return SpeechUnavailableError(reason, code="overloaded", retry_after_s=retry_after_s)

    def check_open(self) -> None:
        """Raises SpeechUnavailableError (``overloaded``) while the service goes away."""
        if self.draining.is_set():
            raise self.refuse("the service is going away", 1.0)

    def admit(self, stream: Member, resumes: str | None = None) -> None:
        """Count a session in; ``resumes`` is the session that it goes on with. Raises SpeechUnavailableError
        (``overloaded``) when there are enough, or when it could not be dubbed in time."""
        self.check_open()
        for other in [other for other in self.streams if other.session_id == resumes]:
            other.end("the session goes on on another connection")
            self.leave(other)
        if not (resumes and self.resumption.take_place(resumes)):
            taken = len(self.streams) + self.resumption.kept
            if taken >= self.limits.sessions:
                raise self.refuse(f"{taken} sessions are open, as many as --max-sessions allows")
            factors = [other.factor for other in self.streams]
            waiting_s = max((other.queued_s for other in self.streams), default=0.0)
            reason = refusal(self._admission, factors, self._all.value if self._all.settled else None, waiting_s)
            if reason:
                raise self.refuse(f"the session could not be dubbed in time: {reason}")
        self.streams.add(stream)
        self._empty.clear()
        self.metrics.sessions.set(len(self.streams))

    def leave(self, stream: Member) -> None:
        self.streams.discard(stream)
        self.metrics.sessions.set(len(self.streams))
        if not self.streams:
            self._empty.set()

    def measure(self, factor: Factor, audio_s: float, busy_s: float) -> None:
        """Count a step of a session whose own ``factor`` that is."""
        factor.add(audio_s, busy_s)
        self._all.add(audio_s, busy_s)
        self.metrics.audio.inc(audio_s)
        self.metrics.busy.inc(busy_s)
        self.metrics.factor.set(factor.value)

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new, ask the sessions to go, and return when all are gone or ``deadline_s`` are over."""
        self.draining.set()
        self.metrics.draining.set(1)
        await asyncio.gather(*(stream.going_away(deadline_s) for stream in list(self.streams)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        if self.streams and deadline_s:
            log.warning("%d sessions are still open after %.1f s", len(self.streams), deadline_s)

    def end_sessions(self) -> None:
        """Close those that are still open after a drain."""
        for stream in list(self.streams):
            stream.end("the service goes away")

    def drain_soon(self, deadline_s: float) -> None:
        """Begin to drain, and end the process when that is over."""

        async def drain() -> None:
            await self.drain(deadline_s)
            self.drained.set()

        task = asyncio.create_task(drain(), name="drain")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def preload_soon(self) -> None:
        """Make the next session's start fast, while this one runs."""
        if self._preloads:
            return

        async def preload() -> None:
            try:
                await self.run(self.engine.preload)
            except BabelcastError as error:
                log.warning("preloading failed: %s", error)
            except Exception:
                log.exception("preloading failed")

        task = asyncio.create_task(preload(), name="preload")
        self._preloads.add(task)
        task.add_done_callback(self._preloads.discard)

    async def turn(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one REST fragment, when its turn comes. Raises SpeechUnavailableError: ``overloaded``, ``deadline``."""
        self.check_open()
        wait_s = self._waiting * self._turn_s / self.limits.requests
        if self._waiting >= self.limits.waiting_requests:
            raise self.refuse("too many fragments wait already", max(1.0, wait_s))
        if self._waiting and wait_s + self._turn_s > self.limits.deadline_s:
            raise self.refuse("the fragment could not be dubbed in time", wait_s)
        try:
            async with asyncio.timeout(self.limits.deadline_s):
                self._waiting += 1
                try:
                    await self._turns.acquire()
                finally:
                    self._waiting -= 1
                began = time.perf_counter()
                work = asyncio.ensure_future(self.run(call, *args, **kwargs))
                # the turn is over when the thread is, not when the caller has lost patience
                work.add_done_callback(lambda done: self._end_turn(done, began))
                return await asyncio.shield(work)
        except TimeoutError as error:
            raise SpeechUnavailableError("the fragment took too long", code="deadline") from error

    def _end_turn(self, work: asyncio.Future[T], began: float) -> None:
        self._turns.release()
        self._turn_s += 0.2 * (time.perf_counter() - began - self._turn_s)
        if not work.cancelled():
            work.exception()  # seen, also where nobody waits any more

    async def aclose(self) -> None:
        """Free the engine; what still runs is not waited for longer than its children live."""
        tasks = [*self._preloads, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self.engine.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

"""What the routes share: the engine, its threads, admission and the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from babelcast.errors import BabelcastError, SpeechUnavailableError
from babelcast.sts.engine import Engine
from babelcast.wire import StageTimes

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


@dataclass(frozen=True, slots=True)
class Limits:
    sessions: int = 4
    """WebSocket sessions at once; the next one is refused as overloaded."""
    requests: int = 2
    """REST fragments being processed at once."""
    waiting_requests: int = 6
    """REST fragments that wait for their turn; the next one is refused as overloaded."""
    queue_s: float = 15.0
    """Sound of one session that waits; beyond it the session is closed as overloaded."""
    deadline_s: float = 10.0
    """For one REST fragment, or one step of a session."""
    body_bytes: int = 16 << 20


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stage = Histogram(
            "sts_stage_seconds", "Time per stage", ["stage"], buckets=_BUCKETS, registry=self.registry
        )
        self.sessions = Gauge("sts_sessions", "WebSocket sessions open", registry=self.registry)
        self.refused = Counter("sts_refused", "Sessions and requests refused as overloaded", registry=self.registry)
        self.segments = Counter("sts_segments", "Segments spoken", registry=self.registry)
        self.audio = Counter("sts_audio_seconds", "Source audio heard", registry=self.registry)
        self.busy = Counter("sts_busy_seconds", "Time spent on source audio", registry=self.registry)
        self.factor = Gauge(
            "sts_realtime_factor", "Time spent per second of audio, latest session", registry=self.registry
        )
        self.queue = Gauge("sts_queue_seconds", "Audio that waits, all sessions", registry=self.registry)
        self.requests = Counter("sts_requests", "REST fragments answered", ["status"], registry=self.registry)

    def observe(self, stages: StageTimes) -> None:
        for stage in ("vad", "asr", "mt", "tts", "fit"):
            if spent := getattr(stages, f"{stage}_ms"):
                self.stage.labels(stage).observe(spent / 1e3)


class Closable(Protocol):
    """A stream that can be told that the service stops."""

    async def going_away(self) -> None: ...


class Service:
    """Lives as long as the process. ``run`` is the only way to the engine's blocking calls."""

    def __init__(self, engine: Engine, limits: Limits | None = None, token: str | None = None) -> None:
        self.engine = engine
        self.limits = limits or Limits()
        self.token = token
        self.metrics = Metrics()
        self.streams: set[Closable] = set()
        self._waiting = 0
        self._turns = asyncio.Semaphore(self.limits.requests)
        self._threads = ThreadPoolExecutor(self.limits.sessions + self.limits.requests + 1, thread_name_prefix="sts")
        self._preloads: set[asyncio.Task[None]] = set()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))

    def admit(self, stream: Closable) -> None:
        """Count a session in. Raises SpeechUnavailableError (``overloaded``) when there are enough."""
        if len(self.streams) >= self.limits.sessions:
            self.metrics.refused.inc()
            raise SpeechUnavailableError(f"{len(self.streams)} sessions are open", code="overloaded")
        self.streams.add(stream)
        self.metrics.sessions.set(len(self.streams))

    def leave(self, stream: Closable) -> None:
        self.streams.discard(stream)
        self.metrics.sessions.set(len(self.streams))

    def preload_soon(self) -> None:
        """Make the next session's start fast, while this one runs."""
        if self._preloads:
            return

        async def preload() -> None:
            try:
                await self.run(self.engine.preload)
            except BabelcastError as error:
                log.warning("preloading failed: %s", error)

        task = asyncio.create_task(preload(), name="preload")
        self._preloads.add(task)
        task.add_done_callback(self._preloads.discard)

    async def turn(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one REST fragment, when its turn comes. Raises SpeechUnavailableError: ``overloaded``, ``deadline``."""
        if self._waiting >= self.limits.waiting_requests:
            self.metrics.refused.inc()
            raise SpeechUnavailableError("too many fragments wait already", code="overloaded")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        work = asyncio.ensure_future(self.run(call, *args, **kwargs))
        # the turn is over when the thread is, not when the caller has lost patience
        work.add_done_callback(self._end_turn)
        try:
            return await asyncio.wait_for(asyncio.shield(work), self.limits.deadline_s)
        except TimeoutError as error:
            raise SpeechUnavailableError("the fragment took too long", code="deadline") from error

    def _end_turn(self, work: asyncio.Future[T]) -> None:
        self._turns.release()
        if not work.cancelled():
            work.exception()  # seen, also where nobody waits any more

    async def aclose(self) -> None:
        """Free the engine; what still runs is not waited for longer than its children live."""
        for task in list(self._preloads):
            task.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self.engine.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

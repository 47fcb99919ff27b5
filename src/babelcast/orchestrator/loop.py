"""The loop that makes it so: asks what is there, lets :mod:`reconcile` decide, does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Literal

from babelcast.clock import Clock
from babelcast.errors import BabelcastError, LaunchError, MediaServerError
from babelcast.media_server.base import MediaServer, PathInfo
from babelcast.orchestrator.controls import ControlsBook
from babelcast.orchestrator.desired import Settings, Wanted, desired_sources, grace_s
from babelcast.orchestrator.forwarding import Forwarding
from babelcast.orchestrator.handle import Handle
from babelcast.orchestrator.launchers.base import Launcher
from babelcast.orchestrator.metrics import Metrics
from babelcast.orchestrator.reconcile import (
    Action,
    Backoff,
    Ensure,
    Forget,
    Hold,
    Memory,
    Policy,
    Refuse,
    Rng,
    Stop,
    reconcile,
)
from babelcast.orchestrator.retention import Retention
from babelcast.orchestrator.store import AsyncStore, EventKind, Store
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)

MIN_ROUND_S = 0.05


class ReconcileLoop:
    """Polls every ``poll_s`` and at once when woken. What it knows is read by the API.

    When the media server does not answer, what was wanted before stays wanted (and a worker that dies is still
    restarted); before its first answer nothing is touched. When the launcher can't list, nothing is touched.
    """

    def __init__(
        self,
        server: MediaServer,
        launcher: Launcher,
        store: AsyncStore,
        forwarding: Forwarding,
        controls: ControlsBook,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
        *,
        poll_s: float = 1.0,
        stop_grace_s: float = 5.0,
        policy: Policy | None = None,
        rng: Rng | None = None,
    ) -> None:
        self._retention = Retention(store, launcher, settings.config, settings.journal_dir, clock)
        self.wanted: Wanted | None = None
        self.paths: dict[str, PathInfo] = {}
        """What the media server listed last."""
        self.handles: tuple[Handle, ...] = ()
        self.memory: dict[str, Memory] = {}
        self.media_server_error: str | None = "not asked yet"
        self._server = server
        self._launcher = launcher
        self._store = store
        self._forwarding = forwarding
        self._controls = controls
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._poll_s = poll_s
        self._stop_grace_s = stop_grace_s
        self._policy = policy or Policy()
        self._rng = rng or random.Random()
        self._wake = asyncio.Event()
        self._stops: dict[str, asyncio.Task[None]] = {}
        self._trouble = RateLimited(10.0)

    def wake(self) -> None:
        """Have the next round at once."""
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for row in await self._store.call(Store.streams):
            self.memory[row.stream_id] = Memory(generation=row.generation)
        task = asyncio.create_task(self._run(), name="reconcile")
        try:
            yield
        finally:
            tasks = [task, *self._stops.values()]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def restart(self, stream_id: str) -> None:
        """Replace the stream's worker, also one that gave up; begins at once."""
        memory = self.memory.get(stream_id, Memory())
        self.memory[stream_id] = replace(
            memory, restart_below=memory.generation + 1, failures=0, retry_at_ns=None, refused_hash=None
        )
        self.wake()

    def latest(self, stream_id: str) -> Handle | None:
        """The stream's latest worker."""
        mine = [handle for handle in self.handles if handle.stream_id == stream_id]
        return max(mine, key=lambda handle: handle.generation, default=None)

    async def _run(self) -> None:
        while True:
            self._wake.clear()  # before the round: an event that comes during it is about the next one
            try:
                result = await self._round()
            except Exception:
                result = "error"
                if self._trouble.ready() is not None:
                    log.exception("a reconcile round failed; the next one follows")
            self._metrics.rounds.labels(result).inc()
            await asyncio.sleep(MIN_ROUND_S)  # a flood of events is one wake-up
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()

    async def _round(self) -> str:
        known = await self._look()
        if self.wanted is None:
            return "no_paths"
        try:
            self.handles = await self._launcher.list()
        except LaunchError as error:
            if self._trouble.ready() is not None:
                log.error("the workers can't be listed, so nothing is done: %s", error)
            return "no_workers"
        round_ = reconcile(self.wanted.specs, self.handles, self.memory, self._clock.now_ns(), self._rng, self._policy)
        self.memory = dict(round_.memory)
        for action in round_.actions:
            await self._do(action)
        if round_.actions:
            self.handles = await self._launcher.list()
        await self._forwarding.apply(self.wanted.sources)
        await self._controls.deliver(self.wanted.specs.values(), self.latest)
        if known:
            with self._database_may_fail():
                busy = {*self.wanted.sources, *(handle.stream_id for handle in self.handles)}
                await self._retention.forget_old(self.memory, busy)
        return "ok" if known else "no_paths"

    async def _look(self) -> bool:
        """Ask the media server what is on air. False when it does not say: all stays as it is."""
        try:
            paths = await self._server.list_paths()
            self.paths = {path.name: path for path in paths}
            await self._want(paths)
        except MediaServerError as error:
            if self.media_server_error is None or self._trouble.ready() is not None:
                log.warning("what is on air stays as it is: %s", error)
            self.media_server_error = str(error)
            self._metrics.media_server_up.set(0)
            return False
        if self.media_server_error is not None:
            log.info("the media server answers", extra={"mediaServer": self._server.name})
        self.media_server_error = None
        self._metrics.media_server_up.set(1)
        return True

    async def _want(self, paths: list[PathInfo]) -> None:
        before = self.wanted or Wanted()
        self.wanted = desired_sources(paths, before, self._settings, self._server, self._clock.now_ns())
        for stream_id, source in self.wanted.sources.items():
            was = before.sources.get(stream_id)
            if source.gone_since_ns is None and (was is None or was.gone_since_ns is not None):
                await self._note("source_ready", stream_id, "the source is on air")
            elif source.gone_since_ns is not None and was is not None and was.gone_since_ns is None:
                grace = f"{grace_s(source.spec, self._settings):g} s"
                await self._note("source_gone", stream_id, f"the source went; its worker is kept for {grace}")
        for stream_id in before.sources.keys() - self.wanted.sources.keys():
            await self._save(stream_id, self.memory.get(stream_id, Memory()).generation, "off")
        await self._controls.forget_all_but(self.wanted.sources)

    async def _do(self, action: Action) -> None:
        match action:
            case Ensure():
                await self._start(action)
            case Stop():
                await self._note("worker_stopped", action.stream_id, action.reason)
                self._begin_stop(action.stream_id)
            case Forget():
                await self._launcher.forget(action.stream_id)
            case Backoff():
                self._metrics.failures.inc()
                wait_s = (action.retry_at_ns - self._clock.now_ns()) / 1e9
                detail = f"{action.reason}; failure {action.failures} in a row, again in {max(0.0, wait_s):.1f} s"
                await self._note("worker_failed", action.stream_id, detail)
            case Hold():
                await self._note("worker_refused", action.stream_id, f"{action.reason}; it starts when one ends")
            case Refuse():
                self._metrics.failures.inc()
                await self._note("worker_refused", action.stream_id, f"{action.reason}; not tried again as it is")

    async def _start(self, action: Ensure) -> None:
        spec = self._controls.in_spec(action.spec)
        # on record before it runs: a generation must never be given twice
        await self._save(spec.stream_id, spec.generation, "on")
        try:
            await self._launcher.ensure(spec, spec.generation)
        except LaunchError as error:
            log.warning("%s", error, extra={"streamId": spec.stream_id})
            return
        self._metrics.starts.inc()
        await self._note("worker_started", spec.stream_id, f"generation {spec.generation}")

    def _begin_stop(self, stream_id: str) -> None:
        """In a task of its own: a worker that takes its time must not hold up the others."""
        if stream_id not in self._stops:
            stopping = self._launcher.stop(stream_id, self._stop_grace_s)
            task = asyncio.create_task(stopping, name=f"stop {stream_id}")
            self._stops[stream_id] = task
            task.add_done_callback(lambda done: self._stopped(stream_id, done))

    def _stopped(self, stream_id: str, task: asyncio.Task[None]) -> None:
        self._stops.pop(stream_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("a worker could not be stopped", exc_info=task.exception(), extra={"streamId": stream_id})
        self.wake()

    async def _note(self, kind: EventKind, stream_id: str, detail: str) -> None:
        level = logging.WARNING if kind in {"worker_failed", "worker_refused"} else logging.INFO
        log.log(level, "%s: %s", kind, detail, extra={"streamId": stream_id})
        with self._database_may_fail():
            await self._store.call(Store.add_event, kind, stream_id, detail)

    async def _save(self, stream_id: str, generation: int, desired: Literal["on", "off"]) -> None:
        with self._database_may_fail():
            await self._store.call(Store.save_stream, stream_id, generation, desired)

    @contextlib.contextmanager
    def _database_may_fail(self) -> Iterator[None]:
        """A full disk must not keep a stream off the air."""
        try:
            yield
        except BabelcastError as error:
            if self._trouble.ready() is not None:
                log.error("%s", error)

"""One worker process from start to end: readiness, health, memory, log size, and how it is stopped.

The supervisor ends a worker that is not well; it never starts another one. That is for the reconcile step, so that
one layer alone owns restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from babelcast.orchestrator.handle import ENDED, Handle, LaunchState
from babelcast.orchestrator.launchers.folder import WorkerFolder
from babelcast.orchestrator.launchers.os_process import KILLED_WITHIN_S, OsProcess
from babelcast.process import how_it_ended

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisionPolicy:
    """Times in seconds, sizes in bytes."""

    start_timeout_s: float = 20.0
    """From the start until the worker has written its record and answers."""
    health_interval_s: float = 1.5
    health_timeout_s: float = 2.0
    health_misses: int = 3
    """So many failed checks in a row end the worker."""
    unwell_grace_s: float = 2.0
    """Between SIGTERM and SIGKILL for a worker that is not well."""
    memory_limit: int = 1024 * 1024 * 1024
    log_limit: int = 4 * 1024 * 1024


class SupervisedWorker:
    """``start`` begins the watch, ``stop`` ends the worker, ``release`` ends the watch alone. ``changed`` is called
    when the worker gets ready and when it has ended."""

    def __init__(
        self,
        folder: WorkerFolder,
        process: OsProcess,
        spec_hash: str,
        session: aiohttp.ClientSession,
        policy: SupervisionPolicy,
        changed: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._process = process
        self._spec_hash = spec_hash
        self._session = session
        self._policy = policy
        self._changed = changed
        self._state: LaunchState = "pending"
        self._reason: str | None = None
        self._requested = False
        self._exit_code: int | None = None
        self._status_url: str | None = None
        self._rss: int | None = None
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def handle(self) -> Handle:
        return Handle(
            stream_id=self._folder.stream_id,
            generation=self._folder.generation,
            spec_hash=self._spec_hash,
            state=self._state,
            exit_code=self._exit_code,
            reason=self._reason,
            requested=self._requested,
            pid=None if self._state in ENDED else self._process.pid,
            status_url=self._status_url,
            rss_bytes=self._rss,
        )

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name=f"worker {self._folder.stream_id}")

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, SIGKILL after ``grace_s``; returns once the process is gone."""
        if self._state in ENDED:
            return
        if self._state != "stopping":
            self._requested, self._reason = True, "stopped"
        await self._end(grace_s)

    async def release(self) -> None:
        """Stop watching; a process that still lives goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _watch(self) -> None:
        health = asyncio.create_task(self._watch_health(), name=f"health of {self._folder.stream_id}")
        try:
            exit_code = await self._process.wait()
            if exit_code is None:  # adopted: not our child
                exit_code = self._folder.read_exit(self._process.pid, self._process.start_time)
        finally:
            health.cancel()
            await asyncio.gather(health, return_exceptions=True)
            if not health.cancelled() and health.exception() is not None:
                log.error("the health watch failed", exc_info=health.exception(), extra=self._ids())
            self._process.close()
        self._ended(exit_code)

    def _ended(self, exit_code: int | None) -> None:
        self._exit_code = exit_code
        self._status_url = None
        self._rss = None
        unwell = self._reason is not None and not self._requested
        self._state = "failed" if unwell or (exit_code != 0 and not self._requested) else "succeeded"
        if self._reason is None:
            self._reason = _why(exit_code, self._folder.last_words())
        try:
            self._folder.mark_ended()
        except OSError as error:  # a disk that takes nothing must not hide the end
            log.warning("a worker's record can't be removed: %s", error.strerror, extra=self._ids())
        level = logging.INFO if self._state == "succeeded" else logging.WARNING
        log.log(level, "worker ended: %s", self._reason, extra=self._ids() | {"exitCode": exit_code})
        self._gone.set()
        self._changed()

    async def _watch_health(self) -> None:
        """Returns after it has ended a worker that is not well; cancelled when the worker ends."""
        if not await self._wait_until_ready():
            await self._end_unwell(f"not ready after {self._policy.start_timeout_s:g} s")
            return
        if self._state == "pending":
            self._state = "running"
            log.info("worker is ready", extra=self._ids())
            self._changed()
        misses = 0
        while misses < self._policy.health_misses:
            await asyncio.sleep(self._policy.health_interval_s)
            misses = 0 if await self._is_healthy() else misses + 1
            self._rss = self._process.rss_bytes()
            if self._rss is not None and self._rss > self._policy.memory_limit:
                await self._end_unwell(f"uses {self._rss >> 20} MB of memory, more than {self._limit_mb()} MB")
                return
            self._folder.rotate_log(self._policy.log_limit)
        await self._end_unwell(f"did not answer {misses} health checks in a row")

    async def _wait_until_ready(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.start_timeout_s):
                while True:
                    record = self._folder.read_record()
                    if record is not None and record.pid == self._process.pid:
                        self._status_url = f"http://127.0.0.1:{record.status_port}"
                        if await self._is_healthy():
                            return True
                    await asyncio.sleep(0.1)
        return False

    async def _is_healthy(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=self._policy.health_timeout_s)
        try:
            async with self._session.get(f"{self._status_url}/healthz", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _end_unwell(self, reason: str) -> None:
        if self._state == "stopping":
            return  # it is being stopped already, and owes nobody an answer
        self._reason = reason
        log.warning("worker is not well and will be ended: %s", reason, extra=self._ids())
        await self._end(self._policy.unwell_grace_s)

    async def _end(self, grace_s: float) -> None:
        self._state = "stopping"
        self._process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self._gone.wait()
        except TimeoutError:
            log.warning("worker did not end within %g s and is killed", grace_s, extra=self._ids())
            self._process.kill()
            try:
                async with asyncio.timeout(KILLED_WITHIN_S):
                    await self._gone.wait()
            except TimeoutError:
                log.error("worker can't be killed: the system holds it", extra=self._ids())

    def _limit_mb(self) -> int:
        return self._policy.memory_limit >> 20

    def _ids(self) -> dict[str, object]:
        handle = self._folder
        return {"streamId": handle.stream_id, "generation": handle.generation, "pid": self._process.pid}


def _why(exit_code: int | None, last_words: str | None) -> str:
    if exit_code is None:
        text = "the worker was killed or crashed: it left no exit status"
    else:
        text = f"the worker {how_it_ended(exit_code)}"
    return f"{text}: {last_words}" if last_words and exit_code != 0 else text

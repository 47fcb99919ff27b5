"""Workers as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Literal

import aiohttp

from babelcast.errors import LaunchError
from babelcast.lock import held
from babelcast.orchestrator.handle import ENDED, Handle, spec_hash
from babelcast.orchestrator.launchers.folder import WorkerFolder, prune, worker_folders
from babelcast.orchestrator.launchers.os_process import OsProcess
from babelcast.orchestrator.launchers.spare import SpareWorker
from babelcast.orchestrator.supervisor import SupervisedWorker, SupervisionPolicy
from babelcast.spec import WorkerSpec

log = logging.getLogger(__name__)

OrphanPolicy = Literal["adopt", "die"]
"""What becomes of workers when the orchestrator ends.

adopt: they go on, and the next orchestrator with the same state directory takes them over. die: they are stopped, and
the kernel kills them should the orchestrator be killed (``up``, ``demo``)."""

_UNKNOWN_SPEC = "written by another version"
"""In the place of a spec's hash: it is none that anybody wants, so the worker is replaced."""

WORKER_COMMAND = (sys.executable, "-m", "babelcast", "worker")


class ProcessLauncher:
    """Implements Launcher. Call from the main thread's event loop where ``orphans`` is ``die`` (see OsProcess.spawn).

    One launcher at a time per state directory: a second one gets a LaunchError from :meth:`running`. ``spare`` is the
    command of a worker that is kept ready (spare.SPARE_COMMAND); without it every worker starts from nothing.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        orphans: OrphanPolicy = "adopt",
        command: Sequence[str] = WORKER_COMMAND,
        spare: Sequence[str] | None = None,
        policy: SupervisionPolicy | None = None,
        stop_grace_s: float = 3.0,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._root = self._state_dir / "workers"
        self._orphans = orphans
        self._command = tuple(command)
        self._spare = SpareWorker(spare, die_with_us=orphans == "die") if spare is not None else None
        self._policy = policy or SupervisionPolicy()
        self._stop_grace_s = stop_grace_s
        self._workers: dict[str, list[SupervisedWorker]] = {}
        self._failed: dict[str, Handle] = {}
        self._session: aiohttp.ClientSession | None = None
        self._changed: Callable[[], None] = lambda: None

    @contextlib.asynccontextmanager
    async def running(self, changed: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        self._changed = changed
        async with contextlib.AsyncExitStack() as stack:
            another = LaunchError(
                f"another orchestrator uses {self._state_dir}",
                hint="end it, or choose another state directory",
                retryable=False,
            )
            stack.enter_context(held(self._root / "lock", another))
            self._session = await stack.enter_async_context(aiohttp.ClientSession())
            stack.push_async_callback(self._leave)
            self._adopt_all()
            prune(self._root)
            if self._spare is not None:
                stack.push_async_callback(self._spare.aclose)
                self._spare.prepare()
            yield

    async def ensure(self, spec: WorkerSpec, generation: int) -> Handle:
        for worker in self._workers.get(spec.stream_id, []):
            if worker.handle.generation == generation:
                return worker.handle
            if worker.handle.state not in ENDED:
                raise LaunchError(f"stream {spec.stream_id} has a worker of generation {worker.handle.generation}")
        await self.forget(spec.stream_id)
        spec = spec.model_copy(update={"generation": generation})
        folder = self._folder(spec.stream_id, generation)
        process: OsProcess | None = None
        try:
            folder.create(spec)
            process = self._spawn(folder)
            folder.write_launch(process.pid, process.start_time)
        except (LaunchError, OSError) as error:
            if process is not None:  # a full disk: without a record nobody could end it later
                process.discard()
            folder.mark_ended()
            handle = Handle(spec.stream_id, generation, spec_hash(spec), "failed", reason=str(error))
            self._failed[spec.stream_id] = handle
            return handle
        log.info("worker started", extra={"streamId": spec.stream_id, "generation": generation, "pid": process.pid})
        return self._supervise(folder, process, spec_hash(spec)).handle

    def _spawn(self, folder: WorkerFolder) -> OsProcess:
        spare = self._spare.take(folder.spec_file, folder.log_file) if self._spare is not None else None
        if spare is not None:
            return spare
        argv = [*self._command, "--spec", str(folder.spec_file)]
        return OsProcess.spawn(argv, folder.log_file, die_with_us=self._orphans == "die")

    async def stop(self, stream_id: str, grace_s: float) -> None:
        await asyncio.gather(*(worker.stop(grace_s) for worker in self._workers.get(stream_id, [])))

    async def list(self) -> tuple[Handle, ...]:
        lost = self._adopt_all()
        known = [worker.handle for workers in self._workers.values() for worker in workers]
        return (*known, *self._failed.values(), *lost)

    async def forget(self, stream_id: str) -> None:
        workers = self._workers.pop(stream_id, [])
        living = [worker for worker in workers if worker.handle.state not in ENDED]
        if living:
            self._workers[stream_id] = living
        for worker in workers:
            if worker not in living:
                await worker.release()
        self._failed.pop(stream_id, None)
        prune(self._root)

    async def erase(self, stream_id: str) -> None:
        await self.forget(stream_id)
        if stream_id not in self._workers and (self._root / stream_id).exists():
            await asyncio.to_thread(shutil.rmtree, self._root / stream_id)

    async def logs(self, stream_id: str, tail: int) -> tuple[str, ...]:
        folders = worker_folders(self._root, stream_id)
        return tuple(await asyncio.to_thread(folders[-1].tail, tail)) if folders else ()

    def _folder(self, stream_id: str, generation: int) -> WorkerFolder:
        return WorkerFolder(self._root / stream_id / str(generation))

    def _supervise(self, folder: WorkerFolder, process: OsProcess, hash_: str) -> SupervisedWorker:
        assert self._session is not None
        worker = SupervisedWorker(folder, process, hash_, self._session, self._policy, self._changed)
        worker.start()
        self._workers.setdefault(folder.stream_id, []).append(worker)
        return worker

    def _adopt_all(self) -> tuple[Handle, ...]:
        """Take over every worker that is on record and not ours yet; answers with those that can't be found.

        Between starting a worker and writing down its PID the orchestrator can be killed. Such a worker is lost
        until it writes its own record; when it has not after twice the start timeout, it never came up.
        """
        known = {(w.handle.stream_id, w.handle.generation) for ws in self._workers.values() for w in ws}
        lost: tuple[Handle, ...] = ()
        for folder in worker_folders(self._root):
            if (folder.stream_id, folder.generation) in known or not folder.spec_file.exists():
                continue
            spec, launch = folder.read_spec(), folder.read_launch()
            process = OsProcess.adopt(*launch) if launch else None
            if process is not None:
                log.info("worker adopted", extra={"streamId": folder.stream_id, "pid": process.pid})
                self._supervise(folder, process, spec_hash(spec) if spec is not None else _UNKNOWN_SPEC)
            elif spec is not None and launch is None and self._age_s(folder) < 2 * self._policy.start_timeout_s:
                why = "it was started, and left no record"
                lost += (Handle(folder.stream_id, folder.generation, spec_hash(spec), "lost", reason=why),)
            else:
                self._log_end(folder, launch)
                folder.mark_ended()
        return lost

    def _log_end(self, folder: WorkerFolder, launch: tuple[int, float] | None) -> None:
        """Of a worker that ended while nobody watched."""
        status = folder.read_exit(*launch) if launch else None
        how = "left no exit status: it was killed or crashed" if status is None else f"exit status {status}"
        words = folder.last_words() if status else None
        fields = {"streamId": folder.stream_id, "generation": folder.generation}
        log.warning("a worker ended while nobody watched: %s", f"{how}: {words}" if words else how, extra=fields)

    def _age_s(self, folder: WorkerFolder) -> float:
        try:
            return time.time() - folder.spec_file.stat().st_mtime
        except OSError:
            return float("inf")

    async def _leave(self) -> None:
        workers = [worker for workers in self._workers.values() for worker in workers]
        if self._orphans == "die":
            await asyncio.gather(*(worker.stop(self._stop_grace_s) for worker in workers))
        living = sum(worker.handle.state not in ENDED for worker in workers)
        for worker in workers:
            await worker.release()
        self._workers.clear()
        if living:
            log.info("%d workers go on; an orchestrator with the same state directory takes them over", living)

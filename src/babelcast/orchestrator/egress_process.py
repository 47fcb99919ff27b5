"""The egress process from outside: started when needed, adopted when there, restarted when it dies or hangs.

``<state>/egress/`` is its folder (see :mod:`babelcast.egress.server`). It is told the whole desired set, with a
revision; what it says of its destinations is kept here, with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from babelcast.egress.client import EgressClient
from babelcast.egress.fleet import Place
from babelcast.egress.server import RECORD
from babelcast.egress.status import DestinationStatus
from babelcast.egress.wire import PROTOCOL, Delivery, DesiredSet, EgressRecord, EgressReport
from babelcast.errors import BabelcastError, LaunchError
from babelcast.orchestrator.launchers.folder import rotate_log
from babelcast.orchestrator.launchers.os_process import OsProcess
from babelcast.orchestrator.launchers.process import OrphanPolicy
from babelcast.process import how_it_ended
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)

EGRESS_COMMAND = (sys.executable, "-m", "babelcast", "egress")
_NOTEWORTHY = frozenset({"live", "retrying", "failed"})


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Times in seconds, sizes in bytes."""

    poll_s: float = 0.5
    answer_s: float = 2.0
    start_s: float = 20.0
    """From its start to its first answer."""
    hung_after_s: float = 6.0
    """So long without an answer it is killed, and its destinations with it; they are resumed by the next one."""
    steady_s: float = 10.0
    """One that lived this long is restarted at once; else after a wait that doubles up to ``backoff_max_s``."""
    backoff_max_s: float = 10.0
    stop_grace_s: float = 3.0
    log_limit: int = 4 * 1024 * 1024


class EgressProcess:
    """Implements forwarding.Egress. Call from the main thread's event loop where ``orphans`` is ``die``.

    adopt: the process goes on when we end, and the next orchestrator takes it over. die: it ends with us, whatever
    ends us; one that an earlier orchestrator left behind is replaced.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        orphans: OrphanPolicy = "adopt",
        command: Sequence[str] = EGRESS_COMMAND,
        policy: EgressPolicy | None = None,
    ) -> None:
        self._folder = state_dir.absolute() / "egress"
        self._orphans = orphans
        self._command = tuple(command)
        self._policy = policy or EgressPolicy()
        self._wanted: tuple[Delivery, ...] | None = None
        self._revision = 0
        self._pushed = False
        self._news = asyncio.Event()
        self._statuses: dict[Place, DestinationStatus] = {}
        self._heard_at: float | None = None
        self._process: OsProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._leaving = False
        self._error: str | None = None
        self._trouble = RateLimited(10.0)

    @property
    def error(self) -> str | None:
        return self._error

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def want(self, deliveries: Sequence[Delivery]) -> None:
        wanted = tuple(sorted(deliveries, key=lambda delivery: delivery.place))
        if wanted != self._wanted:
            self._wanted, self._pushed = wanted, False
            self._news.set()

    def statuses(self) -> Mapping[Place, DestinationStatus]:
        age_s = 0.0 if self._heard_at is None else asyncio.get_running_loop().time() - self._heard_at
        update = {"age_s": round(age_s, 1)}
        return {place: status.model_copy(update=update) for place, status in self._statuses.items()}

    async def start(self) -> None:
        if self._task is None:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
            self._task = asyncio.create_task(self._run(), name="egress process")

    async def stop(self) -> None:
        """Leave it, or with ``die`` end it: its destinations get a goodbye."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leaving = True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            if self._orphans == "die":
                await self._end(process)
            else:
                log.info("egress goes on; an orchestrator with the same state directory takes it over")
            process.close()

    async def _run(self) -> None:
        short_lives = 0
        async with EgressClient.connected(self._folder, timeout_s=self._policy.answer_s) as client:
            while True:
                process = await self._found_or_started()
                began = asyncio.get_running_loop().time()
                try:
                    await self._attend(process, client)
                finally:
                    if self._process is None:
                        process.close()
                lived_s = asyncio.get_running_loop().time() - began
                short_lives = short_lives + 1 if lived_s < self._policy.steady_s else 0
                if short_lives > 1:
                    await asyncio.sleep(min(self._policy.backoff_max_s, 0.25 * 2.0 ** min(short_lives, 10)))

    async def _found_or_started(self) -> OsProcess:
        """One that an earlier orchestrator left, else a new one as soon as there is something to send."""
        while True:
            process = self._adopt()
            if process is not None and (self._orphans == "die" or not self._speaks_our_protocol()):
                log.info("an egress process that was left behind is replaced", extra={"pid": process.pid})
                await self._end(process)
                process.close()
                process = None
            if process is None and self._wanted:
                process = self._spawn()
            if process is not None:
                self._process = process
                return process
            if self._wanted is None or self._wanted:
                await asyncio.sleep(self._policy.poll_s)  # it could not be started, or nothing is known yet
            else:
                self._error = None
                self._news.clear()
                await self._news.wait()

    def _adopt(self) -> OsProcess | None:
        record = self._record()
        process = OsProcess.adopt(record.pid, record.pid_start_time) if record else None
        if process is not None:
            log.info("egress process adopted", extra={"pid": process.pid})
        return process

    def _record(self) -> EgressRecord | None:
        try:
            return EgressRecord.model_validate_json((self._folder / RECORD).read_bytes())
        except (OSError, ValidationError):
            return None

    def _speaks_our_protocol(self) -> bool:
        record = self._record()
        return record is not None and record.protocol == PROTOCOL

    def _spawn(self) -> OsProcess | None:
        argv = [*self._command, "--folder", str(self._folder)]
        try:
            process = OsProcess.spawn(argv, self._folder / "egress.log", die_with_us=self._orphans == "die")
        except (LaunchError, OSError) as error:
            self._note_error(f"the egress process can't be started: {error}")
            return None
        log.info("egress process started", extra={"pid": process.pid})
        return process

    async def _attend(self, process: OsProcess, client: EgressClient) -> None:
        """Talk to it until it has ended, by itself or because it hung."""
        self._pushed = False
        talk = asyncio.create_task(self._talk(process, client), name="egress talk")
        try:
            status = await process.wait()
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
        self._process = None
        if not self._leaving:
            why = "is gone" if status is None else how_it_ended(status)
            self._note_error(f"the egress process {why}; its destinations are resumed by another one")

    async def _talk(self, process: OsProcess, client: EgressClient) -> None:
        loop = asyncio.get_running_loop()
        heard, answered = loop.time(), False
        while True:
            self._news.clear()
            try:
                await self._exchange(client)
                heard, answered = loop.time(), True
            except BabelcastError as error:
                silent_s = loop.time() - heard
                if answered and silent_s > self._policy.answer_s:
                    self._note_error(f"{error} (for {silent_s:.0f} s)")
                if silent_s > (self._policy.hung_after_s if answered else self._policy.start_s):
                    log.error("egress has not answered for %.0f s and is killed", silent_s)
                    process.kill()
                    return
            except Exception:  # a bug here must not leave the destinations as they are for ever
                self._note_error("the egress process can't be spoken to; the log has it")
                if self._trouble.ready() is not None:
                    log.exception("the talk with egress failed; it is tried again")
            rotate_log(self._folder / "egress.log", self._policy.log_limit)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.poll_s if answered else 0.05):
                    await self._news.wait()

    async def _exchange(self, client: EgressClient) -> None:
        report = await client.report()
        wanted = self._wanted
        if wanted is not None and not (self._pushed and report.revision == self._revision):
            self._revision = max(self._revision, report.revision) + 1
            report = await client.put(DesiredSet(revision=self._revision, deliveries=wanted))
            self._pushed = self._wanted is wanted
        self._heard(report)

    def _heard(self, report: EgressReport) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self._error is not None:
            log.info("egress answers")
        self._error = None
        for status in report.destinations:
            place = (status.stream_id, status.name)
            before = self._statuses.get(place)
            if (before is None or before.state != status.state) and status.state in _NOTEWORTHY:
                _tell(status)
        self._statuses = {(status.stream_id, status.name): status for status in report.destinations}

    def _note_error(self, error: str) -> None:
        if self._error is None:
            log.error("%s", error)
        self._error = error

    async def _end(self, process: OsProcess) -> None:
        if await process.end(self._policy.stop_grace_s):
            log.warning("egress did not end within %g s and was killed", self._policy.stop_grace_s)


def _tell(status: DestinationStatus) -> None:
    fields = {"streamId": status.stream_id, "destination": status.name}
    if status.state == "live":
        log.info("publishing to %s", status.url, extra=fields)
    else:
        log.warning("%s: %s", status.state, status.last_error, extra=fields)

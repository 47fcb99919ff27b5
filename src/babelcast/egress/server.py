"""The egress process: forwarders under the control of whoever has the state directory. It needs nobody to go on.

============  ===========================================================================
egress.json   the EgressRecord, written once it listens
control.sock  where it is told what is wanted and asked how it goes (:mod:`babelcast.egress.wire`)
lock          held while it runs: there is one per folder
egress.log    what it wrote; bounded by the orchestrator
============  ===========================================================================

Keys come by the socket and are kept in memory alone: after a crash the orchestrator says them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from pydantic import ValidationError

from babelcast.control_socket import listening
from babelcast.egress.fleet import Fleet, ForwarderFactory
from babelcast.egress.handler import EgressHandler
from babelcast.egress.standby import SlateCache
from babelcast.egress.wire import PROTOCOL, Delivery, DesiredSet, EgressRecord, EgressReport
from babelcast.errors import LaunchError
from babelcast.lock import held
from babelcast.process import start_time

log = logging.getLogger(__name__)

RECORD = "egress.json"
_MAX_SET_BYTES = 8 * 1024 * 1024


class EgressServer:
    """Answers for a fleet; holds the revision of what it was told last."""

    def __init__(self, make: ForwarderFactory) -> None:
        self._fleet = Fleet(make)
        self._revision = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[web.Application]:
        """The application to serve; forwarders say goodbye on exit."""
        app = web.Application(client_max_size=_MAX_SET_BYTES)
        app.add_routes([web.put("/desired", self._desired), web.get("/report", self._reported)])
        task = asyncio.create_task(self._fleet.run(), name="egress fleet")
        try:
            yield app
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _desired(self, request: web.Request) -> web.Response:
        try:
            wanted = DesiredSet.model_validate_json(await request.read())
        except ValidationError as error:
            # without what was sent: there are keys in it
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            places = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems[:5])
            return web.Response(status=422, text=places)
        if wanted.revision < self._revision:
            return self._report(409)
        if wanted.revision > self._revision:
            self._revision = wanted.revision
            self._fleet.want(wanted.deliveries)
            log.info("%d destinations are wanted", len(wanted.deliveries), extra={"revision": wanted.revision})
        return self._report()

    async def _reported(self, _request: web.Request) -> web.Response:
        return self._report()

    def _report(self, status: int = 200) -> web.Response:
        report = EgressReport(protocol=PROTOCOL, revision=self._revision, destinations=self._fleet.statuses())
        return web.Response(status=status, text=report.model_dump_json(), content_type="application/json")


async def serve(folder: Path) -> None:
    """Run in ``folder`` until cancelled. Raises LaunchError where another process does."""
    another = LaunchError(f"another egress process uses {folder}", retryable=False)
    with held(folder / "lock", another), listening(folder) as server:
        async with EgressServer(_factory()).running() as app:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
            await runner.setup()
            try:
                await web.SockSite(runner, server).start()
                _write_record(folder)
                log.info("egress listens", extra={"pid": os.getpid()})
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()


def _factory() -> ForwarderFactory:
    slates = SlateCache()

    def make(delivery: Delivery) -> EgressHandler:
        return EgressHandler(
            delivery.stream_id, delivery.source_url, delivery.destination, slate=delivery.slate, slates=slates
        )

    return make


def _write_record(folder: Path) -> None:
    pid = os.getpid()
    record = EgressRecord(pid=pid, pid_start_time=start_time(pid) or 0.0, protocol=PROTOCOL)
    temporary = folder / f"{RECORD}.tmp"
    temporary.write_text(record.model_dump_json(), encoding="utf-8")
    temporary.replace(folder / RECORD)

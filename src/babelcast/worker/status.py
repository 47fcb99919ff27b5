"""The worker's loopback server, and the record by which an orchestrator finds and adopts it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from babelcast.errors import LaunchError
from babelcast.spec import WorkerRecord
from babelcast.worker import controls, dumps
from babelcast.worker.session import WorkerSession

_HOST = "127.0.0.1"


@asynccontextmanager
async def status_server(session: WorkerSession) -> AsyncIterator[int]:
    """Serve ``/healthz``, ``/status``, ``/levels``, ``/metrics``, ``/segments?after=N``, ``/controls``, ``/dumps`` and
    ``POST /stop``; gives the port."""
    app = web.Application()
    app.add_routes(_routes(session))
    app.add_routes(controls.routes(session.desk))
    app.add_routes(dumps.routes(session.dumps, lambda: session.source_position))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _HOST, session.spec.status_port)
        try:
            await site.start()
        except OSError as error:
            raise LaunchError(f"the status server can't listen on {_HOST}:{session.spec.status_port}") from error
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()


def _routes(session: WorkerSession) -> list[web.RouteDef]:
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def status(_request: web.Request) -> web.Response:
        return web.Response(text=session.status().model_dump_json(), content_type="application/json")

    async def levels(_request: web.Request) -> web.Response:
        """Of ``/status`` alone what is asked for ten times a second."""
        return web.json_response({language: each.model_dump() for language, each in session.levels().items()})

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=session.metrics.text(), content_type="text/plain", charset="utf-8")

    async def segments(request: web.Request) -> web.Response:
        try:
            after = int(request.query.get("after", "-1"))
        except ValueError:
            raise web.HTTPBadRequest(text="after must be a whole number") from None
        entries = [entry.model_dump(mode="json") for entry in session.segments(after)]
        return web.Response(text=json.dumps(entries, ensure_ascii=False), content_type="application/json")

    async def stop(_request: web.Request) -> web.Response:
        session.request_stop()
        return web.json_response({"status": "stopping"}, status=202)

    return [
        web.get("/healthz", healthz),
        web.get("/status", status),
        web.get("/levels", levels),
        web.get("/metrics", metrics),
        web.get("/segments", segments),
        web.post("/stop", stop),
    ]


def process_start_time() -> float:
    """Clock ticks since boot at which this process began: field 22 of ``/proc/self/stat``."""
    # the second field is the program's name in parentheses, and may hold spaces
    return float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])


def write_record(session: WorkerSession, port: int, folder: Path) -> None:
    """``worker.json`` in ``folder``: whole or not at all."""
    record = WorkerRecord(
        stream_id=session.spec.stream_id,
        generation=session.spec.generation,
        pid=os.getpid(),
        pid_start_time=process_start_time(),
        status_port=port,
    )
    temporary = folder / "worker.json.tmp"
    temporary.write_text(record.model_dump_json(), encoding="utf-8")
    temporary.replace(folder / "worker.json")

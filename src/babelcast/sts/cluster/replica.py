"""One replica: the same app as ``babelcast sts`` serves, in an actor of Ray Serve.

Serve makes it in a process of its own, waits for the app's start (which loads the engines), and then routes to it.
A session stays with it until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import ray
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from babelcast.sts.app import create_app
from babelcast.sts.cluster.report import ClusterHealth, Report, health, merged, report
from babelcast.sts.cluster.settings import ReplicaSettings
from babelcast.sts.cluster.watch import Watch
from babelcast.telemetry.logs import setup_logging

log = logging.getLogger(__name__)

_ANSWER_S = 2.0
"""For the other replicas to say how they are."""


class Replica:
    """What ``serve.deployment`` is given. Everything runs in Serve's event loop for user code."""

    def __init__(self, settings: ReplicaSettings) -> None:
        setup_logging(settings.log_format)
        context = serve.get_replica_context()
        self._id: str = context.replica_tag
        self._app_name, self._name = context.app_name, context.deployment
        # two nodes may have one address, in a test for one
        self._node = f"{ray.util.get_node_ip_address()}/{ray.get_runtime_context().get_node_id()[:6]}"
        self._revision, self._drain_s = settings.revision, settings.drain_s
        self._handle: DeploymentHandle | None = None
        self._draining: asyncio.Task[None] | None = None
        self._service = settings.build()
        self._watch = Watch(self._id, self._members)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._service, status_routes=self._add_status_routes, beside=self._watching)

    async def check_health(self) -> None:
        """Called by Serve each second. What it finds out is that this event loop runs and that no engine hangs: else
        Serve puts another replica in this one's place."""
        self._watch.asked()
        if self._service.hangs:
            raise RuntimeError("an engine hangs")

    async def identify(self) -> str:
        return self._id

    async def report(self, metrics: bool) -> Report:
        return report(self._service, self._id, self._revision, self._node, metrics=metrics)

    async def drain(self, deadline_s: float) -> None:
        """Begin to: no new sessions, and those that there are have ``deadline_s`` to move."""
        self._draining = self._draining or asyncio.create_task(self._drain(deadline_s), name="replica drain")

    async def end_sessions(self) -> None:
        self._service.end_sessions()

    async def _drain(self, deadline_s: float) -> None:
        await self._service.drain(deadline_s)
        self._service.end_sessions()

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        async def watch() -> None:
            await self._watch.removed()
            await self.drain(self._drain_s)

        task = asyncio.create_task(watch(), name="replica watch")
        try:
            yield
        finally:
            for each in (task, self._draining):
                if each:
                    each.cancel()
            await asyncio.gather(*filter(None, (task, self._draining)), return_exceptions=True)

    def _all(self) -> DeploymentHandle:
        """Of this deployment; made late, since it does not exist while its first replica is made."""
        self._handle = self._handle or serve.get_deployment_handle(self._name, self._app_name)
        return self._handle

    async def _members(self) -> set[str] | None:
        try:
            answers = await self._all().broadcast("identify").results_async(timeout_s=_ANSWER_S)
        except DeploymentUnavailableError:
            return set()  # none is to run
        except Exception as error:  # Ray's errors have no common base
            log.debug("the replicas can't be asked: %s", error)
            return None
        return set(answers)

    async def _reports(self, *, metrics: bool) -> list[Report]:
        """Of all that answer, this one at least."""
        mine = await self.report(metrics)
        try:
            response = self._all().broadcast("report", metrics)
            answers = await response.results_async(timeout_s=_ANSWER_S, return_exceptions=True)
        except Exception as error:
            log.warning("the other replicas can't be asked: %s", error)
            return [mine]
        others = {answer.replica: answer for answer in answers if isinstance(answer, Report)}
        return list({**others, mine.replica: mine}.values())

    def _add_status_routes(self, app: FastAPI) -> None:
        @app.get("/healthz", response_model=ClusterHealth, responses={503: {"model": ClusterHealth}})
        async def healthz() -> Response:
            """All replicas; 503 while none of them takes sessions."""
            found = health(await self._reports(metrics=False))
            return JSONResponse(found.model_dump(), 200 if found.status == "ok" else 503)

        @app.get("/metrics", response_class=Response)
        async def metrics() -> Response:
            """Prometheus metrics of all replicas, each sample with its ``replica``."""
            text = await asyncio.to_thread(merged, await self._reports(metrics=True))
            return Response(text, media_type=CONTENT_TYPE_LATEST)

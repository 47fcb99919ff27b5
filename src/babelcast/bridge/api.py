"""The bridge's REST API and its events."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable

from fastapi import APIRouter, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from babelcast.bridge.events import MAX_LISTENERS, Event
from babelcast.bridge.metrics import BridgeMetrics
from babelcast.bridge.service import Bridge
from babelcast.bridge.settings import NAMES
from babelcast.bridge.status import BridgeStatus, Health, health
from babelcast.errors import BabelcastError, ConfigError
from babelcast.hosts import names_this_machine, same_origin
from babelcast.orchestrator.problems import create_api, problem

_REFUSED = 4401


def create_app(
    bridge: Bridge, token: SecretStr | None, preview: APIRouter | None = None, view_token: SecretStr | None = None
) -> FastAPI:
    """``token`` guards everything but ``/healthz``; without one the API is for this machine. ``preview`` are the
    preview's routes, which ``view_token`` opens too."""
    description = "One source, its sound, and a primary and a backup destination. /api/streaming/events is a WebSocket."
    app = create_api("Babelcast media bridge", description, token, view_token)
    if preview is not None:
        app.include_router(preview)
    app.include_router(_streaming(bridge))
    app.include_router(_events(bridge, token))
    metrics = BridgeMetrics(bridge.status)

    @app.get("/healthz", summary="Answers 200 while it runs")
    async def healthz() -> Health:
        return health(bridge.status())

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics_text() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _streaming(bridge: Bridge) -> APIRouter:
    router = APIRouter(prefix="/api/streaming", tags=["streaming"])

    async def answered(what: Awaitable[None]) -> BridgeStatus:
        try:
            await what
        except ConfigError as error:
            raise HTTPException(422, str(error)) from error
        except BabelcastError as error:
            raise HTTPException(503, str(error)) from error
        return bridge.status()

    @router.post("/start", summary="Start; no effect where it runs")
    async def start() -> BridgeStatus:
        return await answered(bridge.start())

    @router.post("/stop", summary="Say goodbye to all destinations and stop the encoders")
    async def stop() -> BridgeStatus:
        return await answered(bridge.stop())

    @router.post("/restart", summary="Read the settings again, and start anew")
    async def restart() -> BridgeStatus:
        return await answered(bridge.restart())

    @router.post("/reload", summary="Read the settings again, and touch only what they change")
    async def reload() -> BridgeStatus:
        return await answered(bridge.reload())

    @router.get("/status", summary="Source, sound, encoder, destinations, alerts")
    async def status() -> BridgeStatus:
        return bridge.status()

    @router.get("/health", summary="In one word, with the reasons")
    async def healthy() -> Health:
        return health(bridge.status())

    @router.get("/config", summary="The settings in force, secrets masked")
    async def config() -> dict[str, object]:
        return bridge.settings.shown()

    @router.patch("/config", summary="Write settings into the settings file, and use them; null takes one out")
    async def change(values: dict[str, str | int | float | None]) -> dict[str, object]:
        unknown = sorted(set(values) - NAMES)
        if unknown:
            raise HTTPException(422, f"there is no such setting: {unknown[0][:40]}")
        await answered(bridge.change({name: None if v is None else str(v) for name, v in values.items()}))
        return bridge.settings.shown()

    return router


def _events(bridge: Bridge, token: SecretStr | None) -> APIRouter:
    router = APIRouter(prefix="/api/streaming", tags=["streaming"])

    @router.websocket("/events")
    async def events(socket: WebSocket) -> None:
        """The latest events first; then each event, and the status twice a second."""
        if not _allowed(socket, token):
            await socket.close(_REFUSED)
            return
        if bridge.events.full:
            refusal = problem(503, f"{MAX_LISTENERS} listen already", headers={"Retry-After": "10"})
            await socket.send_denial_response(refusal)
            return
        await socket.accept()
        with bridge.events.listening() as queue:
            sender = asyncio.create_task(_send(socket, bridge, queue))
            gone = asyncio.create_task(_until_gone(socket))
            try:
                await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sender, gone):
                    task.cancel()
                await asyncio.gather(sender, gone, return_exceptions=True)

    return router


async def _send(socket: WebSocket, bridge: Bridge, queue: asyncio.Queue[Event]) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
        for event in bridge.events.recent:
            await socket.send_text(event.model_dump_json())
        while True:
            await socket.send_text((await queue.get()).model_dump_json())


async def _until_gone(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_text()


def _allowed(socket: WebSocket, token: SecretStr | None) -> bool:
    """As the REST API; a browser can't set a header here, so the token may be in the query. A page of another origin is
    refused."""
    origin = socket.headers.get("origin")
    if origin is not None and not same_origin(origin, socket.headers.get("host")):
        return False
    if token is None:
        return names_this_machine(socket.headers.get("host"))
    scheme, _, given = socket.headers.get("authorization", "").partition(" ")
    given = given if scheme.lower() == "bearer" else socket.query_params.get("token", "")
    return hmac.compare_digest(given.encode(), token.get_secret_value().encode())

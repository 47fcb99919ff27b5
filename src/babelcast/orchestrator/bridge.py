"""The media bridge, as the orchestrator's API shows it and passes orders on to it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import aiohttp
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from babelcast.bridge.status import BridgeStatus, Health, health
from babelcast.config import Bridge
from babelcast.hosts import LOOPBACK
from babelcast.http_client import read_at_most
from babelcast.orchestrator.login import who

_ASK = aiohttp.ClientTimeout(total=3.0)
_ORDER = aiohttp.ClientTimeout(total=45.0)
"""A start tries encoders, and one that is not there may take its time to say so."""
_MOST_BYTES = 1 << 20

Order = Literal["start", "stop", "restart"]
Ordered = Callable[[Order, str], Awaitable[None]]
Who = Annotated[str, Depends(who)]


@dataclass(frozen=True, slots=True)
class BridgeAddress:
    """Where a bridge's API answers: ``http://HOST:PORT``, and its token."""

    url: str
    token: SecretStr | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Bridge) -> BridgeAddress | None:
        """The one that runs elsewhere by the config; None where the config names none."""
        return cls(settings.api.rstrip("/"), settings.token) if settings.api else None


class BridgeView(BaseModel):
    """``status`` is the bridge's own word; ``health`` is its status in one word, with the reasons."""

    model_config = ConfigDict(frozen=True)

    status: BridgeStatus
    health: Health


class BridgeClient:
    """Errors are HTTPException: what the bridge refused as it refused it, 502 where its answer is no good, 503 where
    there is none."""

    def __init__(self, session: aiohttp.ClientSession, address: BridgeAddress) -> None:
        self._session = session
        self._url = address.url
        token = address.token.get_secret_value() if address.token else None
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def is_local(self) -> bool:
        """It runs on this machine, so that its feed's address holds here too."""
        return urlsplit(self._url).hostname in LOOPBACK

    async def view(self) -> BridgeView:
        return _view(await self._json("GET", "status"))

    async def order(self, order: Order) -> BridgeView:
        return _view(await self._json("POST", order, timeout=_ORDER))

    async def config(self) -> dict[str, object]:
        return await self._json("GET", "config")

    async def change(self, values: Mapping[str, object]) -> dict[str, object]:
        return await self._json("PATCH", "config", values, timeout=_ORDER)

    async def metrics(self) -> bytes:
        return await self._ask("GET", f"{self._url}/metrics", None, _ASK)

    async def _json(
        self, method: str, what: str, body: object = None, timeout: aiohttp.ClientTimeout = _ASK
    ) -> dict[str, object]:
        data = await self._ask(method, f"{self._url}/api/streaming/{what}", body, timeout)
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise HTTPException(502, "what answers at the bridge's address is no media bridge")
        return found

    async def _ask(self, method: str, url: str, body: object, timeout: aiohttp.ClientTimeout) -> bytes:
        try:
            async with self._session.request(
                method, url, json=body, headers=self._headers, timeout=timeout, allow_redirects=False
            ) as answer:
                data = await read_at_most(answer, _MOST_BYTES)
                if answer.status == 200:
                    return data
                raise _refused(answer.status, data)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise HTTPException(503, f"the media bridge does not answer: {type(error).__name__}") from error


def _refused(status: int, data: bytes) -> HTTPException:
    if status == 401:
        return HTTPException(502, "the media bridge does not take our token: bridge.token must be its API's")
    try:
        detail = str(json.loads(data)["detail"])
    except (ValueError, KeyError, TypeError):
        return HTTPException(502, f"the media bridge answered {status}")
    return HTTPException(status if status in (409, 422, 503) else 502, f"media bridge: {detail}")


def _view(found: dict[str, Any]) -> BridgeView:
    try:
        status = BridgeStatus.model_validate(found)
    except ValidationError as error:
        raise HTTPException(502, "what answers at the bridge's address is no media bridge of this version") from error
    return BridgeView(status=status, health=health(status))


async def _nothing(order: Order, who: str) -> None:
    """Nobody wants to know."""


def bridge_router(bridge: BridgeClient | None, ordered: Ordered = _nothing) -> APIRouter:
    """Routes of ``/api/v1/bridge``; None: there is none, which is said with 404. ``ordered`` is told what was done, and
    by whom."""
    router = APIRouter(prefix="/api/v1/bridge", tags=["bridge"])

    def known() -> BridgeClient:
        if bridge is None:
            raise HTTPException(404, "no media bridge is configured: see bridge.env_file and bridge.api of the config")
        return bridge

    async def order(what: Order, who: str) -> BridgeView:
        view = await known().order(what)
        await ordered(what, who)
        return view

    @router.get("", summary="The media bridge: source, sound, encoder, destinations, alerts, health")
    async def view() -> BridgeView:
        return await known().view()

    @router.post("/start", summary="Start it; no effect where it runs")
    async def start(who: Who) -> BridgeView:
        return await order("start", who)

    @router.post("/stop", summary="Say goodbye to its destinations and stop its encoders")
    async def stop(who: Who) -> BridgeView:
        return await order("stop", who)

    @router.post("/restart", summary="Read its settings again, and start it anew")
    async def restart(who: Who) -> BridgeView:
        return await order("restart", who)

    @router.get("/config", summary="Its settings in force, secrets masked")
    async def config() -> dict[str, object]:
        return await known().config()

    @router.patch("/config", summary="Write settings into its settings file, and use them; null takes one out")
    async def change(values: dict[str, str | int | float | None]) -> dict[str, object]:
        return await known().change(values)

    @router.get("/metrics", summary="Its Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(await known().metrics(), media_type=CONTENT_TYPE_LATEST)

    return router

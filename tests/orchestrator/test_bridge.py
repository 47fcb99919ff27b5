"""The orchestrator's routes over a bridge of its own kind, one that is silent, and something else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI
from pydantic import SecretStr

from babelcast.bridge.api import create_app
from babelcast.bridge.service import Bridge, SettingsFile
from babelcast.config import Config
from babelcast.config_file import parse_config
from babelcast.errors import ConfigError
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.orchestrator import problems
from babelcast.orchestrator.bridge import BridgeAddress, BridgeClient, bridge_router
from babelcast.orchestrator.http_server import serving
from tests.bridge.rig import SMALL
from tests.fakes.web import serving as web_service

_TOKEN = "br1dge-t0ken"


@contextlib.asynccontextmanager
async def _orchestrator(
    address: BridgeAddress | None, ordered: list[tuple[str, str]] | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Its bridge routes alone, on a server of their own; ``ordered`` gets the orders that were obeyed."""

    async def note(order: str, who: str) -> None:
        if ordered is not None:
            ordered.append((order, who))

    async with aiohttp.ClientSession() as own, contextlib.AsyncExitStack() as stack:
        app = FastAPI()
        problems.install(app, None)
        app.include_router(bridge_router(BridgeClient(own, address) if address else None, note))
        port = await stack.enter_async_context(serving(app, "127.0.0.1", 0))
        yield await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))


@contextlib.asynccontextmanager
async def _bridge(path: Path) -> AsyncIterator[str]:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(RelaySettings(rtmp_port=0, api_port=0)))
        bridge = await stack.enter_async_context(Bridge.running(SettingsFile(path, SMALL), relay))
        port = await stack.enter_async_context(serving(create_app(bridge, SecretStr(_TOKEN)), "127.0.0.1", 0))
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def _answering(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    async with web_service(app) as url:
        yield url


async def _asked(api: aiohttp.ClientSession, method: str, path: str = "", **request: Any) -> tuple[int, Any]:
    async with api.request(method, f"/api/v1/bridge{path}", **request) as answer:
        return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())


@pytest.mark.integration
async def test_it_shows_the_bridge_and_passes_orders_on(tmp_path: Path) -> None:
    file = tmp_path / "media.env"
    file.write_text("PRIMARY_RTMP_URL=rtmp://127.0.0.1:1/app\nPRIMARY_STREAM_KEY=s3cret-key\n")
    ordered: list[tuple[str, str]] = []
    async with _bridge(file) as url, _orchestrator(BridgeAddress(url, SecretStr(_TOKEN)), ordered) as api:
        status, view = await _asked(api, "GET")
        assert status == 200 and view["status"]["state"] == "stopped" and view["health"]["status"] == "down"
        status, view = await _asked(api, "POST", "/start")
        assert status == 200 and view["status"]["state"] in ("waiting", "slate")
        assert view["status"]["feed_url"].startswith("rtmp://127.0.0.1:")
        status, config = await _asked(api, "PATCH", "/config", json={"FPS": 20})
        assert (status, config["FPS"], config["PRIMARY_STREAM_KEY"]) == (200, 20, "***")
        assert "FPS=20" in file.read_text()
        status, view = await _asked(api, "POST", "/restart")
        assert status == 200 and [each["name"] for each in view["status"]["destinations"]] == ["primary"]
        status, metrics = await _asked(api, "GET", "/metrics")
        assert status == 200 and "bridge_state" in metrics
        status, refused = await _asked(api, "PATCH", "/config", json={"FPS": 0})
        assert status == 422 and "FPS" in refused["detail"]
        file.write_text("nonsense\n")
        status, refused = await _asked(api, "POST", "/restart")
        assert status == 422 and "media.env:1" in refused["detail"]
        status, view = await _asked(api, "POST", "/stop", headers={"X-Operator": "Ana"})
        assert status == 200 and view["status"]["state"] == "stopped"
        assert ordered == [("start", "operator"), ("restart", "operator"), ("stop", "Ana")]  # not what was refused
        for path in ("", "/config"):
            assert "s3cret" not in str(await _asked(api, "GET", path))


@pytest.mark.integration
async def test_no_bridge_a_silent_one_and_a_wrong_token(tmp_path: Path) -> None:
    async with _orchestrator(None) as api:
        for method, path in (("GET", ""), ("POST", "/start"), ("GET", "/config"), ("GET", "/metrics")):
            status, problem = await _asked(api, method, path)
            assert status == 404 and "bridge.env_file" in problem["detail"]
    async with _orchestrator(BridgeAddress("http://127.0.0.1:1")) as api:
        status, problem = await _asked(api, "GET")
        assert status == 503 and "does not answer" in problem["detail"]
    (tmp_path / "media.env").touch()
    async with _bridge(tmp_path / "media.env") as url, _orchestrator(BridgeAddress(url, SecretStr("wrong"))) as api:
        status, problem = await _asked(api, "POST", "/start")
        assert status == 502 and "bridge.token" in problem["detail"]


@pytest.mark.integration
async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b"bridge_up 1\n", b"bridge_state 2\n"):
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    async with _answering(answer) as url, _orchestrator(BridgeAddress(url)) as api:
        assert await _asked(api, "GET", "/metrics") == (200, "bridge_up 1\nbridge_state 2\n")


@pytest.mark.integration
@pytest.mark.parametrize("body", ["<html>", "[]", '{"state": "live"}'])
async def test_something_else_answers_at_the_address(body: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body)

    async with _answering(answer) as url, _orchestrator(BridgeAddress(url)) as api:
        status, problem = await _asked(api, "GET")
        assert status == 502 and "no media bridge" in problem["detail"]


@pytest.mark.unit
def test_the_config_names_one_bridge() -> None:
    found = parse_config("bridge: {api: 'https://there:8090/', token: s3cret-1}")
    address = BridgeAddress.of(found.bridge)
    assert address is not None and address.url == "https://there:8090" and "s3cret" not in repr(address)
    assert BridgeAddress.of(Config().bridge) is None
    for text in ("bridge: {api: 'http://h', env_file: media.env}", "bridge: {token: s3cret-1}", "bridge: {api: h}"):
        with pytest.raises(ConfigError) as caught:
            parse_config(text)
        assert caught.value.line == 1 and "s3cret" not in str(caught.value)

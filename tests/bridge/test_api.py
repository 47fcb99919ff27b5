"""The API over a bridge that has no encoder running, and who may call it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from tests.bridge.rig import SMALL
from tests.fakes.web import serving as web_service

from babelcast.bridge import events
from babelcast.bridge.api import create_app
from babelcast.bridge.service import Bridge, SettingsFile
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.orchestrator.http_server import serving

pytestmark = pytest.mark.integration

_TOKEN = "t0ken-0123456789"


@contextlib.asynccontextmanager
async def _api(path: Path | None, token: str | None = None, **environ: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(RelaySettings(rtmp_port=0, api_port=0)))
        bridge = await stack.enter_async_context(Bridge.running(SettingsFile(path, SMALL | environ), relay))
        app = create_app(bridge, SecretStr(token) if token else None)
        port = await stack.enter_async_context(serving(app, "127.0.0.1", 0))
        yield await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))


async def _status(api: aiohttp.ClientSession, url: str, **request: Any) -> int:
    async with api.get(url, **request) as answer:
        return answer.status


async def test_status_config_and_errors(tmp_path: Path) -> None:
    file = tmp_path / "media.env"
    file.write_text("PRIMARY_RTMP_URL=rtmp://127.0.0.1:1/app\nPRIMARY_STREAM_KEY=s3cret\n")
    async with _api(file) as api:
        status = await (await api.get("/api/streaming/status")).json()
        assert status["state"] == "stopped" and status["destinations"] == []
        assert (await (await api.get("/api/streaming/health")).json())["status"] == "down"
        config = await (await api.get("/api/streaming/config")).json()
        assert config["PRIMARY_STREAM_KEY"] == "***" and config["FPS"] == 25
        answer = await api.patch("/api/streaming/config", json={"FPS": 30, "PRIMARY_STREAM_KEY": "n3w-s3cret"})
        text = await answer.text()
        assert answer.status == 200 and '"FPS":30' in text and "s3cret" not in text
        assert "PRIMARY_STREAM_KEY=n3w-s3cret" in file.read_text()
        for bad in ({"FPS": 0}, {"FSP": 1}, {"SLATE_TEXT": "a\nb"}):
            async with api.patch("/api/streaming/config", json=bad) as refused:
                assert refused.status == 422
        file.write_text("FPS=25\nnonsense\n")
        answer = await api.post("/api/streaming/restart")
        assert answer.status == 422 and "media.env:2" in (await answer.json())["detail"]
        assert "media.env:2" in (await (await api.get("/api/streaming/status")).json())["settings_error"]
        assert "bridge_state" in await (await api.get("/metrics")).text()


async def test_an_encoder_that_is_not_there_is_named() -> None:
    async with _api(None, VIDEO_ENCODER="h264_nosuch") as api:
        answer = await api.post("/api/streaming/start")
        assert answer.status == 503 and "h264_nosuch" in (await answer.json())["detail"]
        status = await (await api.get("/api/streaming/status")).json()
        assert status["state"] == "failed" and "h264_nosuch" in status["last_error"]


async def test_what_is_on_air_goes_on_where_new_settings_can_not_be_had_here(tmp_path: Path) -> None:
    """An encoder that is not there, or no picture at all, ended the show."""
    file = tmp_path / "media.env"
    file.write_text("# ours\nSLATE_TEXT=soon\n")
    async with _api(file) as api:
        assert (await api.post("/api/streaming/start")).status == 200
        for wrong, status, said in (
            ("VIDEO_ENCODER=h264_nosuch", 503, "h264_nosuch"),
            ("SLATE=off", 422, "SRT_URL: there is no source"),
        ):
            name, _, value = wrong.partition("=")
            answer = await api.patch("/api/streaming/config", json={name: value})
            assert answer.status == status and said in (await answer.json())["detail"]
            assert file.read_text() == "# ours\nSLATE_TEXT=soon\n", "as it was"
            for order in ("reload", "restart"):
                file.write_text(f"{wrong}\n")
                answer = await api.post(f"/api/streaming/{order}")
                assert answer.status == status and said in (await answer.json())["detail"]
                shown = await (await api.get("/api/streaming/status")).json()
                assert shown["state"] in ("waiting", "slate") and said in shown["settings_error"]
            file.write_text("# ours\nSLATE_TEXT=soon\n")
        config = await (await api.get("/api/streaming/config")).json()
        assert (config["VIDEO_ENCODER"], config["SLATE"]) == ("x264", "on")
        assert (await api.post("/api/streaming/reload")).status == 200
        assert (await (await api.get("/api/streaming/status")).json())["settings_error"] is None


async def test_what_could_not_be_started_is_started_by_the_setting_that_mends_it(tmp_path: Path) -> None:
    file = tmp_path / "media.env"
    file.touch()
    async with _api(file, SLATE="off") as api:
        answer = await api.post("/api/streaming/start")
        assert answer.status == 422 and "SRT_URL: there is no source" in (await answer.json())["detail"]
        changes = ({"SLATE": "on"}, {"SLATE_TEXT": "soon"}, {"FPS": 10})
        answers = await asyncio.gather(*(api.patch("/api/streaming/config", json=each) for each in changes))
        assert [each.status for each in answers] == [200, 200, 200]
        status = await (await api.get("/api/streaming/status")).json()
        assert status["state"] in ("waiting", "slate") and status["last_error"] is None
        assert file.read_text() == "SLATE=on\nSLATE_TEXT=soon\nFPS=10\n", "none got lost"


async def test_start_events_and_stop() -> None:
    async with _api(None) as api:
        async with api.ws_connect("/api/streaming/events") as socket:
            async with api.post("/api/streaming/start") as answer:
                assert answer.status == 200
            seen: list[dict[str, object]] = []
            while not any(each["type"] == "on_air" for each in seen):
                seen.append(await socket.receive_json(timeout=20))
            assert any(each["type"] == "status" for each in seen) and any(each["type"] == "state" for each in seen)
        async with api.post("/api/streaming/stop") as answer:
            assert (await answer.json())["state"] == "stopped"


async def test_who_may_call() -> None:
    async with _api(None, _TOKEN) as api:
        assert await _status(api, "/api/streaming/status") == 401
        assert await _status(api, "/metrics") == 401
        assert await _status(api, "/healthz") == 200
        bearer = {"Authorization": f"Bearer {_TOKEN}"}
        assert await _status(api, "/api/streaming/status", headers=bearer) == 200
        for url in ("/api/streaming/events", "/api/streaming/events?token=wrong"):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await api.ws_connect(url)
        async with api.ws_connect(f"/api/streaming/events?token={_TOKEN}"):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await api.ws_connect(f"/api/streaming/events?token={_TOKEN}", origin="http://elsewhere.example")
    async with _api(None) as api:
        assert await _status(api, "/api/streaming/status", headers={"Host": "elsewhere.example"}) == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await api.ws_connect("/api/streaming/events", headers={"Host": "elsewhere.example"})


async def test_one_listener_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_LISTENERS", 2)
    async with _api(None) as api:
        async with api.ws_connect("/api/streaming/events") as first, api.ws_connect("/api/streaming/events") as second:
            await asyncio.gather(first.receive(timeout=10), second.receive(timeout=10))  # both are counted
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await api.ws_connect("/api/streaming/events")
            assert refused.value.status == 503


async def test_alerts_reach_the_webhook() -> None:
    from aiohttp import web
    from tests.bridge.rig import until

    got: list[dict[str, object]] = []

    async def hook(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hook)
    async with web_service(app) as url:
        hooked = {"ALERT_WEBHOOK_URL": f"{url}/hook?token=s3cret", "ALERT_SOURCE_AFTER": "0.1"}
        async with _api(None, SRT_URL="srt://127.0.0.1:1", **hooked) as api:
            async with api.post("/api/streaming/start"):
                pass
            await until(lambda: bool(got))
            assert got[0]["event"] == "alert.raised" and got[0]["alert"] == "source"

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from babelcast.media_server.relay.events import EventSender
from babelcast.media_server.relay.server import Relay
from babelcast.rtmp.client import RtmpClient
from tests.media_server.relay.peers import HEADERS, settings

pytestmark = pytest.mark.integration


class Receiver:
    """What the orchestrator's hook receiver hears; answers with ``status``, after ``delay_s``."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], str]] = []
        self.url = ""
        self.status = 202
        self.delay_s = 0.0
        self.arrived = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        self.heard.append((request.match_info["event"], await request.json(), request.headers["X-Request-Id"]))
        self.arrived.set()
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.status)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    hears = Receiver()
    app = web.Application()
    app.router.add_post("/v1/media/events/{event}", hears.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hears.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hears
    finally:
        await runner.cleanup()


async def test_ready_and_not_ready_name_the_source(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiver() as hears, Relay(settings(events_url=hears.url + "/")) as relay:
        async with RtmpClient.connect(f"{relay.rtmp_url}/live/show/in?user=u&pass=geheim") as publisher:
            await publisher.publish()
            await asyncio.sleep(0.3)
            assert hears.heard == [], "not ready before its tracks are known"
            for message in HEADERS:
                await publisher.send(message)
            await hears.until(1)
        await hears.until(2)
    (ready, body, first_id), (not_ready, same_body, second_id) = hears.heard
    assert (ready, not_ready) == ("ready", "not-ready")
    assert body == same_body
    assert body["path"] == "live/show/in"
    assert body["query"] == "user=u&pass=geheim"
    assert body["sourceType"] == "rtmpConn"
    assert body["sourceId"]
    assert first_id != second_id
    assert "geheim" not in caplog.text


async def test_path_that_was_never_ready_has_no_events() -> None:
    async with receiver() as hears, Relay(settings(events_url=hears.url)) as relay:
        async with RtmpClient.connect(f"{relay.rtmp_url}/live/show/in") as publisher:
            await publisher.publish()
        async with RtmpClient.connect(f"{relay.rtmp_url}/live/other/in") as publisher:
            await publisher.publish()
            for message in HEADERS:
                await publisher.send(message)
            await hears.until(1)
    assert [(event, body["path"]) for event, body, _ in hears.heard] == [
        ("ready", "live/other/in"),
        ("not-ready", "live/other/in"),
    ]


async def test_receiver_that_is_not_there_or_refuses_is_counted_and_logged_without_the_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with receiver() as hears:
        hears.status = 503
        async with EventSender(hears.url) as sender:
            sender.put("ready", "live/a/in", "pass=geheim", "rtmpConn", "1")
            await hears.until(1)
            while not sender.failed:
                await asyncio.sleep(0.01)
    async with EventSender(hears.url) as sender:
        sender.put("ready", "live/a/in", "pass=geheim", "rtmpConn", "1")
        while not sender.failed:
            await asyncio.sleep(0.01)
    assert "event not delivered" in caplog.text
    assert "geheim" not in caplog.text


async def test_full_queue_drops_the_oldest_and_the_end_does_not_wait_for_a_slow_receiver() -> None:
    async with receiver() as hears:
        hears.delay_s = 5.0
        async with EventSender(hears.url) as sender:
            for n in range(300):
                sender.put("ready", f"live/{n}/in", "", "rtmpConn", "1")
            assert sender.dropped == 44
            async with asyncio.timeout(3):
                await hears.until(1)
                await sender.__aexit__(None, None, None)
        assert hears.heard[0][1]["path"] == "live/44/in"

"""The hook program: what it sends, that it starts fast, and that it never holds MediaMTX up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from babelcast.media_server import notify
from tests.fakes.web import serving as web_service

NOTIFY = Path(notify.__file__)
ENVIRONMENT = {
    "MTX_PATH": "live/abc/in",
    "MTX_QUERY": "token%3Dx%26title%3Da%2520b",  # as Go's url.QueryEscape writes token=x&title=a%20b
    "MTX_SOURCE_TYPE": "rtmpConn",
    "MTX_SOURCE_ID": "7edf4ceb",
}


async def run_hook(*arguments: str, url: str | None) -> int:
    environment = ENVIRONMENT | ({"BABELCAST_EVENTS_URL": url} if url else {})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(NOTIFY), *arguments, env=environment, stderr=subprocess.DEVNULL
    )
    return await asyncio.wait_for(process.wait(), 10)


@pytest.mark.integration
async def test_the_event_arrives_as_the_publisher_wrote_it() -> None:
    seen: list[tuple[str, object, str]] = []

    async def receive(request: web.Request) -> web.Response:
        seen.append((request.path, await request.json(), request.headers["X-Request-Id"]))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/v1/media/events/{kind}", receive)
    async with web_service(app) as url:
        assert await run_hook("ready", url=url) == 0
        assert await run_hook("not-ready", url=url) == 0
        assert await run_hook("ready", url=f"{url}/nowhere") == 1
    body = {"path": "live/abc/in", "query": "token=x&title=a%20b", "sourceType": "rtmpConn", "sourceId": "7edf4ceb"}
    assert [(path, sent) for path, sent, _ in seen] == [
        ("/v1/media/events/ready", body),
        ("/v1/media/events/not-ready", body),
    ]
    assert len({request_id for *_, request_id in seen}) == 2


@pytest.mark.integration
async def test_nobody_to_tell_is_no_trouble(free_port: Callable[[], int]) -> None:
    assert await run_hook("ready", url=None) == 0
    assert await run_hook("something-else", url="http://127.0.0.1:1/") == 0
    assert await run_hook("ready", url=f"http://127.0.0.1:{free_port()}") == 1


@pytest.mark.integration
async def test_a_deaf_orchestrator_costs_two_seconds_at_most() -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started = time.monotonic()
        assert await run_hook("ready", url=url) == 1
        assert time.monotonic() - started < notify.TIMEOUT_S + 2


@pytest.mark.integration
def test_it_loads_nothing_slow() -> None:
    """It starts per event on the stream host: none of our dependencies, not even our own package."""
    code = f"import runpy, sys; runpy.run_path({str(NOTIFY)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "aiohttp", "pydantic", "babelcast", "urllib.request"} & set(loaded.stdout.split())

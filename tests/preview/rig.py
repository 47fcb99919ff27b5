"""A relay, the preview over it, a publisher, and a browser that looks."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from fastapi import FastAPI
from playwright.async_api import Browser, Page, async_playwright
from pydantic import SecretStr

from babelcast.media_server.base import MediaServer
from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.orchestrator import problems
from babelcast.orchestrator.http_server import serving
from babelcast.orchestrator.preview import ServerPaths
from babelcast.preview.process import PreviewProcess
from babelcast.preview.routes import preview_router
from babelcast.preview.settings import PreviewSettings
from tests.conftest import chromium_binary
from tests.e2e.programs import until

HERE = PreviewSettings(host="127.0.0.1")
IN = "live/show/in"

_CHROMIUM = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required")
_EMBED = """<!doctype html><style>body { margin: 0 } iframe { border: 0; width: 100vw; height: 100vh }</style><script>
window.messages = [];
addEventListener("message", ({data}) => { if (data?.type === "babelcast.preview") window.messages.push(data); });
</script><iframe src="FRAME" allow="autoplay; fullscreen"></iframe>"""


@dataclass(frozen=True, slots=True)
class Site:
    """``url`` is the API's address; ``http`` asks it."""

    url: str
    process: PreviewProcess
    http: aiohttp.ClientSession = field(repr=False)

    def page(self, path: str = IN, query: str = "") -> str:
        return f"{self.url}/preview/{path}{query}"

    async def view(self, path: str = IN, **request: Any) -> dict[str, Any]:
        async with self.http.get(f"/api/v1/preview/{path}", **request) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def offer(self, sdp: str, path: str = IN, **request: Any) -> tuple[int, str, str]:
        """Status, session resource, body."""
        headers = {"Content-Type": "application/sdp"} | request.pop("headers", {})
        async with self.http.post(f"/api/v1/preview/{path}/whep", data=sdp, headers=headers, **request) as answer:
            return answer.status, answer.headers.get("Location", ""), await answer.text()


@contextlib.asynccontextmanager
async def relaying() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay:
        yield relay


@contextlib.asynccontextmanager
async def site(
    server: MediaServer,
    folder: Path,
    settings: PreviewSettings = HERE,
    *,
    token: str | None = None,
    port: int = 0,
) -> AsyncIterator[Site]:
    """The preview's routes alone, on a server of their own."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(aiohttp.ClientSession())
        process = await stack.enter_async_context(PreviewProcess(folder / "preview", settings).running())
        app = FastAPI()
        problems.install(app, SecretStr(token) if token else None, settings.token)
        app.include_router(preview_router(process, ServerPaths(server), upstream, settings))
        port = await stack.enter_async_context(serving(app, "127.0.0.1", port))
        url = f"http://127.0.0.1:{port}"
        http = await stack.enter_async_context(aiohttp.ClientSession(url))
        yield Site(url, process, http)


@contextlib.asynccontextmanager
async def relay_site(folder: Path, settings: PreviewSettings = HERE, **more: Any) -> AsyncIterator[tuple[Relay, Site]]:
    async with relaying() as relay, contextlib.aclosing(RelayClient(relay.api_url, relay.rtmp_url)) as client:
        async with site(client, folder, settings, **more) as found:
            yield relay, found


@contextlib.asynccontextmanager
async def publishing(
    url: str, *, b_frames: int = 0, sound: bool = True, pictures: bool = True, gop: int = 50, size: str = "640x360"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """ffmpeg with a moving picture and a loud tone, in real time; on air for 0.2 s when this gives it."""
    argv = ["ffmpeg", "-v", "error", "-nostdin"]
    if pictures:
        argv += ["-re", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25"]
    if sound:
        argv += ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000,volume=4"]
    argv += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", str(gop), "-bf", str(b_frames)]
    argv += ["-b:v", "1M", "-c:a", "aac", "-ac", "2", "-stats_period", "0.1", "-progress", "pipe:1", "-f", "flv", url]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(15):
            while _time(await process.stdout.readuntil(b"progress=")) < 200_000:
                pass
        draining = asyncio.create_task(_drain(process.stdout))
        try:
            yield process
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _time(report: bytes) -> int:
    found = re.search(rb"out_time_us=(-?\d+)", report)
    return int(found[1]) if found else -1


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(4096):
        pass


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=list(_CHROMIUM))
        try:
            yield browser
        finally:
            await browser.close()


async def embedded(page: Page, url: str, *, dashboard: str) -> None:
    """Show ``url`` in a frame of ``dashboard``'s page, which is of another origin and notes what it is told."""
    await page.goto(f"{dashboard}/?{urlencode({'frame': url})}")


@contextlib.asynccontextmanager
async def dashboard() -> AsyncIterator[str]:
    """The address of a server whose page embeds what it is asked for."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=_EMBED.replace("FRAME", html.escape(request.query["frame"])), content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def told(page: Page) -> dict[str, Any] | None:
    """The latest message to the parent."""
    found: dict[str, Any] | None = await page.evaluate("window.messages.at(-1) ?? null")
    return found


async def until_told(page: Page, state: str, within_s: float = 15.0) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        found = await told(page)
        return found if found is not None and found["state"] == state else None

    found: dict[str, Any] = await until(reached, f"state {state}", within_s, 0.05)
    return found

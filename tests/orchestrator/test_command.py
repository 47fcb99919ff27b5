"""``babelcast orchestrator`` as a program, beside a media server that is not there yet, then is, then goes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

pytestmark = pytest.mark.integration


async def empty_list(_request: web.Request) -> web.Response:
    return web.json_response({"itemCount": 0, "pageCount": 0, "items": []})


async def test_it_gets_ready_serves_and_ends_on_sigterm(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = tmp_path / "babelcast.yaml"
    config.write_text("listen: {api: 0}\nstreams: {show: {}}\n")
    server_port = free_port()
    argv = ["orchestrator", "--config", str(config), "--state-dir", str(tmp_path / "state"), "--log-format", "text"]
    argv += ["--media-server-api", f"http://127.0.0.1:{server_port}", "--relay-rtmp", "rtmp://127.0.0.1:1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "babelcast", *argv, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            ready = (await process.stdout.readline()).decode()
        assert ready.startswith("ready: API http://127.0.0.1:")
        url = ready.split()[2].removesuffix("/docs")
        async with aiohttp.ClientSession() as session:
            assert await health(session, url) == "degraded"
            runner = await serve_list(server_port)
            async with asyncio.timeout(20):
                while await health(session, url) != "ok":
                    await asyncio.sleep(0.1)
            await runner.cleanup()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
        assert (tmp_path / "state" / "orchestrator.db").exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def health(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/healthz") as response:
        assert response.status == 200
        return str((await response.json())["status"])


async def serve_list(port: int) -> web.AppRunner:
    app = web.Application()
    app.router.add_get("/v3/paths/list", empty_list)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner

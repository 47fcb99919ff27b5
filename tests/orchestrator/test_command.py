"""``babelcast orchestrator`` as a program, beside a media server that is not there yet, then is, then goes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from babelcast.cli.orchestrator import _check
from babelcast.config_file import parse_config

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("audio: {port: 0}\n", "audio: only `babelcast up` starts an audio endpoint"),
        ("bridge: {env_file: media.env}\n", "bridge.env_file: only `babelcast up` starts a media bridge"),
    ],
)
def test_what_only_up_starts_is_not_silently_left_out(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "babelcast.yaml"
    config.write_text(text)
    argv = [sys.executable, "-m", "babelcast", "orchestrator", "--config", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_no_speech_service_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    for text, warned in (
        ("streams: {show: {}}\n", True),
        ("defaults: {backend: gemini-live}\nstreams: {show: {backend: [gemini-live, sts]}}\n", True),
        ("defaults: {backend: none}\n", False),
        ("speech: {url: 'http://127.0.0.1:8070'}\n", False),
    ):
        caplog.clear()
        _check(parse_config(text), None)
        assert ("speech.url" in caplog.text) is warned, text

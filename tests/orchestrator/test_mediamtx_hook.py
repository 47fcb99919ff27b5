"""The real MediaMTX tells the orchestrator through its hook: no polling helps here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from babelcast.config_file import parse_config
from babelcast.media_server.mediamtx import Ports, run_mediamtx
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from tests.conftest import mediamtx_binary
from tests.fakes.fake_egress import FakeEgress
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually

pytestmark = [pytest.mark.integration, pytest.mark.mediamtx]

PICTURES = ["-f", "lavfi", "-i", "testsrc=size=160x90:rate=15", "-c:v", "libx264", "-preset", "ultrafast", "-g", "15"]


@contextlib.asynccontextmanager
async def publisher(url: str) -> AsyncIterator[None]:
    ffmpeg = shutil.which("ffmpeg")
    assert ffmpeg is not None
    argv = [ffmpeg, "-v", "error", "-re", *PICTURES, "-pix_fmt", "yuv420p", "-t", "60", "-f", "flv", url]
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_publish_and_unpublish(tmp_path: Path, workers: FakeWorkers, free_port: Callable[[], int]) -> None:
    port = free_port()
    binary = mediamtx_binary()
    assert binary is not None
    config = parse_config(f"listen: {{api: {port}}}\ndefaults: {{backend: none}}\n")
    launcher = ProcessLauncher(tmp_path / "state", orphans="die", command=workers.command, policy=FAST)
    options = Options(poll_s=3600.0, source_grace_s=0.0)
    async with contextlib.AsyncExitStack() as stack:
        events = f"http://127.0.0.1:{port}"
        server = await stack.enter_async_context(run_mediamtx(Path(binary), Ports(), events_url=events))
        store = stack.enter_context(contextlib.closing(Store("sqlite://")))
        made = Orchestrator(config, server, launcher, store, options, egress=FakeEgress())
        await stack.enter_async_context(made.running())
        async with publisher(server.publish_url("live/show/in")):
            await eventually(lambda: len(workers.pids()) == 1, "the hook starts a worker", timeout_s=30)
        await eventually(lambda: workers.pids() == [], "the hook ends it", timeout_s=30)

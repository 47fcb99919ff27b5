"""Audio dumps by the orchestrator's way: the worker's own routes, asked over HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from babelcast.errors import ControlsError
from babelcast.orchestrator.dumps import ask
from babelcast.orchestrator.handle import Handle
from babelcast.spec import DumpSpec
from babelcast.worker.dumps import Dumps, routes
from tests.fakes.web import serving as web_service

pytestmark = pytest.mark.integration


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[tuple[Dumps, Handle]]:
    dumps = Dumps(tmp_path / "dumps", ("source", "mix.es"))
    app = web.Application()
    app.add_routes(routes(dumps, lambda: 0))
    async with web_service(app) as url:
        yield dumps, Handle("show", 1, "x", "running", status_url=url)


async def test_begin_list_and_end(worker: tuple[Dumps, Handle]) -> None:
    dumps, handle = worker
    async with aiohttp.ClientSession() as http:
        assert not (await ask(http, handle, "GET")).active
        assert (await ask(http, handle, "POST", DumpSpec(seconds=10))).active
        dumps.take("source", 0, bytes(4_800 * 4))
        with pytest.raises(ControlsError, match="already") as twice:
            await ask(http, handle, "POST", DumpSpec())
        assert twice.value.status == 409
        ended = await ask(http, handle, "DELETE")
        assert not ended.active and ended.files == ("source-0000000000.wav",) and ended.error is None
        with pytest.raises(ControlsError, match="keep_bytes") as small:
            await ask(http, handle, "POST", DumpSpec(seconds=600, keep_bytes=1 << 20))
        assert small.value.status == 422


async def test_without_a_worker(worker: tuple[Dumps, Handle]) -> None:
    gone = dataclasses.replace(worker[1], status_url="http://127.0.0.1:9")
    async with aiohttp.ClientSession() as http:
        for handle in (None, gone):
            with pytest.raises(ControlsError, match="no worker"):
                await ask(http, handle, "GET")

"""Controls through the API: kept, handed to the worker and to the next one, forgotten when the stream is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from babelcast.config_file import parse_config
from babelcast.errors import ControlsError
from babelcast.orchestrator.controls import ControlsBook
from babelcast.orchestrator.handle import Handle, spec_hash
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import AsyncStore, Store
from babelcast.spec import BackendSpec, Controls, ControlsPatch, MixSpec, TargetSpec, WorkerSpec
from tests.fakes.fake_egress import FakeEgress
from tests.fakes.fake_media_server import FakeMediaServer
from tests.fakes.web import serving as web_service
from tests.orchestrator.conftest import FAST, FakeWorkers

pytestmark = pytest.mark.integration

CONFIG = parse_config("listen: {api: 0}\ndefaults: {backend: none, fallback: ducked}\nstreams: {show: {}}\n")
SPEC = WorkerSpec(
    stream_id="show",
    ingest_url="rtmp://127.0.0.1/live/show/in",
    targets=(TargetSpec(language="es", output_url="rtmp://127.0.0.1/live/show/out"),),
    backend=BackendSpec(kind="none"),
)
URL = "/api/v1/streams/show/controls"


class Api:
    def __init__(self, orchestrator: Orchestrator, http: aiohttp.ClientSession, server: FakeMediaServer) -> None:
        self.server = server
        self._orchestrator = orchestrator
        self._http = http

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[aiohttp.ClientResponse, Any]:
        async with self._http.request(method, self._orchestrator.api_url + path, **options) as response:
            return response, await response.json()

    async def stream(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self("GET", "/api/v1/streams/show"))[1]
        return found

    async def when(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The stream's view, once it is so."""
        async with asyncio.timeout(20):
            while not condition(view := await self.stream()):
                await asyncio.sleep(0.05)
        return view

    async def on_air(self) -> None:
        self.server.publish("show")
        await self.when(lambda view: view["state"] == "running" and view["status"])


@pytest.fixture
async def api(tmp_path: Path, workers: FakeWorkers) -> AsyncIterator[Api]:
    server = FakeMediaServer()
    launcher = ProcessLauncher(tmp_path / "state", orphans="die", command=workers.command, policy=FAST)
    options = Options(poll_s=0.05, source_grace_s=0.3)
    with contextlib.closing(Store("sqlite://")) as store:
        made = Orchestrator(CONFIG, server, launcher, store, options, egress=FakeEgress())
        async with made.running(), aiohttp.ClientSession() as http:
            yield Api(made, http, server)


async def test_a_change_reaches_the_worker_without_a_restart_and_is_on_record(api: Api) -> None:
    await api.on_air()
    response, before = await api("GET", URL)
    assert (response.headers["ETag"], before["revision"], before["fallback"]) == ('"0"', 0, "ducked")
    wanted = {"force": "original", "mix": {"bg_gain": 0.5}}
    response, controls = await api("PATCH", URL, json=wanted, headers={"If-Match": '"0"'})
    assert (response.status, response.headers["ETag"]) == (200, '"1"')
    assert (controls["force"], controls["mix"]["bg_gain"], controls["fallback"]) == ("original", 0.5, "ducked")
    view = await api.stream()
    assert view["controls"] == view["status"]["controls"] == controls
    assert view["worker"]["generation"] == 1
    _, events = await api("GET", "/api/v1/events?stream=show")
    assert events[-1]["kind"] == "controls_changed"
    assert events[-1]["detail"] == "operator: force original, mix.bg_gain 0.5 (revision 1)"


async def test_the_next_worker_begins_with_them_and_the_next_broadcast_does_not(api: Api, workers: FakeWorkers) -> None:
    await api.on_air()
    await api("PATCH", URL, json={"force": "silence"})
    workers.behave("exit-now=1")
    await api.when(lambda view: view["worker"]["failures"])
    workers.behave()
    view = await api.when(lambda view: view["state"] == "running" and view["status"])
    assert view["worker"]["generation"] == view["status"]["generation"] > 1
    assert (view["status"]["controls"]["force"], view["status"]["controls"]["revision"]) == ("silence", 1)
    api.server.unpublish("show")
    view = await api.when(lambda view: view["state"] == "offline")
    assert view["controls"]["force"] is None
    await api.on_air()
    view = await api.stream()
    assert view["controls"]["revision"] == 0
    _, events = await api("GET", "/api/v1/events?stream=show")
    assert "controls_reset" in [event["kind"] for event in events]


async def test_what_can_not_be_is_a_problem_and_changes_nothing(api: Api, workers: FakeWorkers) -> None:
    assert (await api("PATCH", URL, json={"force": "silence"}))[0].status == 409
    await api.on_air()
    cases: list[tuple[dict[str, Any], dict[str, str], int]] = [
        ({"force": "loud"}, {}, 422),
        ({"delay_s": 1.0}, {}, 422),
        ({"mix": {"bg_gain": 5.0}}, {}, 422),
        ({"mix": {"nothing": 5.0}}, {}, 422),
        ({"surprise": 1}, {}, 422),
        ({"force": "silence"}, {"If-Match": '"7"'}, 412),
        ({"force": "silence"}, {"If-Match": "seven"}, 412),
        ({"force": "silence"}, {"If-Match": "7" * 5_000}, 412),
    ]
    for body, headers, status in cases:
        response, problem = await api("PATCH", URL, json=body, headers=headers)
        assert (response.status, response.content_type) == (status, "application/problem+json"), body
        assert problem["detail"]
    workers.behave("refuse-controls")
    response, problem = await api("PATCH", URL, json={"force": "silence"})
    assert (response.status, problem["detail"]) == (409, "not while it rains")
    assert (await api.stream())["controls"]["revision"] == 0
    assert (await api("GET", "/api/v1/streams/unknown/controls"))[0].status == 404


@contextlib.asynccontextmanager
async def a_worker(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Handle]:
    app = web.Application()
    app.router.add_put("/controls", answer)
    async with web_service(app) as url:
        yield Handle("show", 1, "hash", "running", status_url=url)


async def test_a_worker_that_did_not_answer_gets_it_later_and_an_orchestrator_that_is_new_knows_it() -> None:
    taken: list[Controls] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(Controls.model_validate_json(await request.read()))
        return web.json_response({})

    with contextlib.closing(Store("sqlite://")) as store:
        async with aiohttp.ClientSession() as http, a_worker(take) as handle:
            book = ControlsBook(AsyncStore(store))
            await book.load(http)
            changed, delivered = await book.change(SPEC, None, ControlsPatch(force="ducked"), None, "operator")
            assert (changed.revision, delivered, taken) == (1, False, [])
            await book.deliver([SPEC], lambda _: None)
            await book.deliver([SPEC], lambda _: handle)
            await book.deliver([SPEC], lambda _: handle)
            assert taken == [changed]
            await book.change(SPEC, handle, ControlsPatch(mix={"dub_gain": 0.5}), 1, "operator")
            next_book = ControlsBook(AsyncStore(store))
            await next_book.load(http)
            louder = SPEC.model_copy(update={"mix": MixSpec(bg_gain=2.0)})
            spec = next_book.in_spec(louder)
    assert spec.controls == Controls(revision=2, force="ducked", mix=MixSpec(bg_gain=2.0, dub_gain=0.5))
    assert spec_hash(spec) == spec_hash(louder), "no reason to restart"


async def test_a_worker_in_trouble_is_as_good_as_none() -> None:
    async def fail(_request: web.Request) -> web.Response:
        return web.Response(status=500)

    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"detail": "no"}, status=409)

    with contextlib.closing(Store("sqlite://")) as store:
        async with aiohttp.ClientSession() as http:
            book = ControlsBook(AsyncStore(store))
            await book.load(http)
            async with a_worker(fail) as handle:
                _, delivered = await book.change(SPEC, handle, ControlsPatch(force="ducked"), None, "operator")
                assert not delivered
            async with a_worker(refuse) as handle:
                with pytest.raises(ControlsError, match="no"):
                    await book.change(SPEC, handle, ControlsPatch(force="silence"), None, "operator")
            assert book.controls("show", SPEC.own_controls).force == "ducked"


async def test_nothing_is_left_of_a_stream_whose_change_was_refused() -> None:
    with contextlib.closing(Store("sqlite://")) as store:
        book = ControlsBook(AsyncStore(store))
        with pytest.raises(ControlsError):
            await book.change(SPEC, None, ControlsPatch(force="silence"), 7, "operator")
        await book.forget_all_but([])
        assert not book._turns


async def test_two_changes_at_once_are_made_one_after_the_other() -> None:
    taken: list[Controls] = []

    async def take(request: web.Request) -> web.Response:
        controls = Controls.model_validate_json(await request.read())
        if not taken:
            await asyncio.sleep(0.1)  # the other one comes meanwhile
        taken.append(controls)
        return web.json_response({})

    with contextlib.closing(Store("sqlite://")) as store:
        async with aiohttp.ClientSession() as http, a_worker(take) as handle:
            book = ControlsBook(AsyncStore(store))
            await book.load(http)
            quieter, forced = ControlsPatch(mix={"dub_gain": 0.5}), ControlsPatch(force="original")
            await asyncio.gather(
                book.change(SPEC, handle, quieter, None, "ann"), book.change(SPEC, handle, forced, None, "bob")
            )
            assert [(each.revision, each.force, each.mix.dub_gain) for each in taken] == [
                (1, None, 0.5),
                (2, "original", 0.5),
            ]
            both = [book.change(SPEC, handle, ControlsPatch(force=mode), 2, "ann") for mode in ("none", "silence")]
            outcome = await asyncio.gather(*both, return_exceptions=True)
            assert [isinstance(each, ControlsError) for each in outcome] == [False, True], "the second knew another one"

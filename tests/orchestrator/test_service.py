"""The whole orchestrator with a fake media server, fake workers (real processes) and a fake egress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from babelcast.config import Config
from babelcast.config_file import parse_config
from babelcast.orchestrator.launchers.process import OrphanPolicy, ProcessLauncher
from babelcast.orchestrator.reconcile import Policy
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from tests.fakes.fake_egress import FakeEgress
from tests.fakes.fake_media_server import FakeMediaServer
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually

pytestmark = pytest.mark.integration

FEED = "/api/v1/console/feed"
SECRETS = ("sk-youtube-12345", "sp33ch-token", "hunter2-password", "leaked-key")

CONFIG = """
listen: {api: 0}
defaults: {backend: sts}
speech: {url: "http://127.0.0.1:1", token: sp33ch-token}
streams:
  show:
    destinations:
      - {name: youtube, url: "rtmp://third.example/live2", key: sk-youtube-12345}
      - {name: spare, url: "rtmp://spare.example/live2/sk-youtube-12345", enabled: false}
"""


class Rig:
    """One orchestrator, and what it acts on. ``run`` may be entered again: a restart."""

    def __init__(self, tmp_path: Path, workers: FakeWorkers) -> None:
        self.workers = workers
        self.server = FakeMediaServer()
        self.egress = FakeEgress()
        self.config: Config = parse_config(CONFIG)
        self.source_grace_s = 0.8
        self.orchestrator: Orchestrator
        self._state = tmp_path / "state"
        self._session: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def run(self, orphans: OrphanPolicy = "die") -> AsyncIterator[Rig]:
        launcher = ProcessLauncher(self._state, orphans=orphans, command=self.workers.command, policy=FAST)
        policy = Policy(backoff_base_s=0.1, backoff_max_s=0.4, stable_s=30.0)
        options = Options(source_grace_s=self.source_grace_s, poll_s=0.1, stop_grace_s=1.0, policy=policy)
        with contextlib.closing(Store.in_directory(self._state)) as store:
            made = Orchestrator(self.config, self.server, launcher, store, options, egress=self.egress)
            async with made.running(), aiohttp.ClientSession() as self._session:
                self.orchestrator = made
                yield self

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        async with self._session.request(method, self.orchestrator.api_url + path, **options) as response:
            return response.status, await response.text()

    async def begin_of(self, path: str, *words: str) -> str:
        """What an answer without an end says in a second, or until all ``words`` were in it."""
        said, end = "", asyncio.get_running_loop().time() + 1.0
        async with asyncio.timeout(15), self._session.get(self.orchestrator.api_url + path) as response:
            async for part in response.content.iter_any():
                said += part.decode()
                if all(word in said for word in words) and asyncio.get_running_loop().time() > end:
                    break
        return said

    async def get(self, path: str) -> Any:
        async with self._session.get(self.orchestrator.api_url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def event(self, kind: str, path: str) -> int:
        body = {"path": path, "query": "user=u&pass=hunter2-password", "sourceType": "rtmpConn", "sourceId": "x"}
        status, _ = await self.request(
            "POST", f"/v1/media/events/{kind}", json=body, headers={"X-Request-Id": "request-1"}
        )
        return status

    async def state(self, stream_id: str = "show") -> str:
        return str((await self.get(f"/api/v1/streams/{stream_id}"))["state"])

    async def until(self, state: str, stream_id: str = "show") -> dict[str, Any]:
        try:
            async with asyncio.timeout(15):
                while (found := await self.get(f"/api/v1/streams/{stream_id}"))["state"] != state:
                    await asyncio.sleep(0.03)
        except TimeoutError:
            pytest.fail(f"{stream_id} is {found['state']}, not {state}")
        return dict(found)

    async def pid(self, *, other_than: int | None = None) -> int:
        """Of the worker that runs; after ``other_than``, of its successor."""
        while True:
            pid = int((await self.until("running"))["worker"]["pid"])
            if pid != other_than:
                return pid
            await asyncio.sleep(0.03)

    async def event_kinds(self) -> list[str]:
        return [event["kind"] for event in await self.get("/api/v1/events")]


@pytest.fixture
def rig(tmp_path: Path, workers: FakeWorkers) -> Rig:
    return Rig(tmp_path, workers)


async def test_ready_starts_one_worker_and_duplicates_change_nothing(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        assert [await rig.event("ready", "live/show/in") for _ in range(5)] == [204] * 5
        pid = await rig.pid()
        for _ in range(5):
            await rig.event("ready", "live/show/in")
        await asyncio.sleep(0.4)
        assert rig.workers.pids() == [pid]
        assert (await rig.event_kinds()).count("worker_started") == 1
    assert rig.workers.pids() == []


async def test_an_event_wakes_the_loop_at_once(tmp_path: Path, rig: Rig) -> None:
    launcher = ProcessLauncher(tmp_path / "state", command=rig.workers.command, policy=FAST, orphans="die")
    with contextlib.closing(Store("sqlite://")) as store:
        made = Orchestrator(rig.config, rig.server, launcher, store, Options(poll_s=3600.0), egress=rig.egress)
        async with made.running(), aiohttp.ClientSession() as session:
            await eventually(lambda: rig.server.listed == 1, "the first look")
            rig.server.publish("show")
            async with session.post(f"{made.events_url}/ready", json={"path": "live/show/in"}) as response:
                assert response.status == 204
            await eventually(lambda: len(rig.workers.pids()) == 1, "a worker")


@pytest.mark.parametrize("path", ["live/show/out", "elsewhere", "live/../in", "live/-x/in"])
async def test_an_event_for_another_path_is_taken_and_ignored(rig: Rig, path: str) -> None:
    async with rig.run():
        assert await rig.event("ready", path) == 204
        await asyncio.sleep(0.3)
        assert rig.workers.pids() == []


async def test_an_event_alone_starts_nothing(rig: Rig) -> None:
    """The truth is what the media server lists."""
    async with rig.run():
        await rig.event("ready", "live/show/in")
        await asyncio.sleep(0.4)
        assert rig.workers.pids() == []
        assert await rig.state() == "offline"


async def test_a_missed_event_costs_a_poll(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        await rig.pid()


async def test_a_source_that_goes_takes_its_worker_along_after_the_grace(rig: Rig) -> None:
    rig.source_grace_s = 2.0
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        rig.server.unpublish("show")
        await rig.event("not-ready", "live/show/in")
        async with asyncio.timeout(15):
            while (view := await rig.get("/api/v1/streams/show"))["online"]:
                await asyncio.sleep(0.03)
        assert rig.workers.pids() == [pid], "within the grace"
        assert view["state"] == "running" and 0 <= view["source_gone_s"] < 2.0
        await rig.until("offline")
        assert rig.workers.pids() == []
        assert await rig.event_kinds() == ["source_ready", "worker_started", "source_gone", "worker_stopped"]


async def test_a_source_back_within_the_grace_finds_the_same_worker(rig: Rig) -> None:
    rig.source_grace_s = 5.0
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        rig.server.unpublish("show")
        await asyncio.sleep(0.4)
        rig.server.publish("show")
        await asyncio.sleep(0.4)
        assert await rig.pid() == pid
        assert (await rig.event_kinds()).count("worker_started") == 1


async def test_a_crashing_worker_comes_back_again_and_again(rig: Rig) -> None:
    async with rig.run():
        rig.workers.behave("crash-after=0.1")
        rig.server.publish("show")
        await eventually(lambda: len(rig.workers.pids()) == 1, "a worker")
        for _ in range(400):
            if (await rig.get("/api/v1/streams/show"))["worker"]["failures"] >= 3:
                break
            await asyncio.sleep(0.02)
        rig.workers.behave()
        view = await rig.until("running")
        assert view["worker"]["generation"] >= 4
        assert "SIGKILL" in view["last_error"]
        assert "worker_failed" in await rig.event_kinds()


async def test_a_hanging_worker_is_replaced(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        rig.workers.behave("hang")
        await eventually(lambda: pid not in rig.workers.pids(), "the hanging worker is gone")
        rig.workers.behave()
        await rig.pid(other_than=pid)


async def test_exit_64_is_not_tried_again_until_a_person_says_so(rig: Rig) -> None:
    async with rig.run():
        rig.workers.behave("exit=64")
        rig.server.publish("show")
        view = await rig.until("refused")
        assert view["last_error"] == "the worker ended with exit status 64: asked to fail"
        await asyncio.sleep(1.0)
        assert (await rig.event_kinds()).count("worker_started") == 1
        rig.workers.behave()
        status, _ = await rig.request("POST", "/api/v1/streams/show/restart")
        assert status == 202
        await rig.until("running")


async def test_restart_replaces_the_worker(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        assert (await rig.request("POST", "/api/v1/streams/show/restart"))[0] == 202
        second = await rig.pid(other_than=pid)
        assert rig.workers.pids() == [second]
        view = await rig.until("running")
        assert view["worker"]["generation"] == 2
        assert view["worker"]["failures"] == 0


async def test_changed_tracks_restart_the_worker_with_another_ingest(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        rig.server.publish("show", tracks=("H264", "Opus"))
        await rig.pid(other_than=pid)
        _, text = await rig.request("GET", "/api/v1/streams/show/logs")
        assert "pulls rtmp://" not in text and "pulls srt://127.0.0.1:8890" in text


async def test_a_restarted_orchestrator_adopts(rig: Rig) -> None:
    rig.server.publish("show")
    async with rig.run("adopt"):
        pid = await rig.pid()
    assert rig.workers.pids() == [pid]
    async with rig.run("die"):
        view = await rig.until("running")
        assert view["worker"]["pid"] == pid
        assert view["worker"]["generation"] == 1
        assert (await rig.event_kinds()).count("worker_started") == 1
    assert rig.workers.pids() == []
    async with rig.run("die"):
        assert (await rig.until("running"))["worker"]["generation"] == 2, "generations go on"


async def test_a_restarted_orchestrator_touches_nothing_before_it_knows(rig: Rig) -> None:
    rig.server.publish("show")
    async with rig.run("adopt"):
        pid = await rig.pid()
    rig.server.down = True
    async with rig.run("die"):
        await asyncio.sleep(0.5)
        assert rig.workers.pids() == [pid]
        rig.server.down = False
        assert await rig.pid() == pid


async def test_nothing_stops_while_the_media_server_does_not_answer(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        rig.server.down = True
        await asyncio.sleep(1.2)  # longer than the grace
        assert rig.workers.pids() == [pid]
        assert (await rig.get("/healthz"))["status"] == "degraded"
        rig.workers.behave("exit-now=1")
        await eventually(lambda: rig.workers.pids() == [], "the worker crashes")
        rig.workers.behave()
        await rig.pid(other_than=pid)  # what was wanted stays wanted
        rig.server.down = False
        async with asyncio.timeout(15):
            while (await rig.get("/healthz"))["status"] != "ok":
                await asyncio.sleep(0.03)


async def test_leaving_takes_less_than_the_limit_even_with_a_stubborn_worker(rig: Rig) -> None:
    rig.workers.behave("ignore-term")
    loop = asyncio.get_running_loop()
    async with rig.run():
        rig.server.publish("show")
        await rig.pid()
        begun = loop.time()
    assert rig.workers.pids() == []
    assert loop.time() - begun < 10


async def test_destinations_follow_the_stream_and_the_choice(rig: Rig) -> None:
    async with rig.run():
        await asyncio.sleep(0.3)
        assert rig.egress.running() == []
        rig.server.publish("show")
        await eventually(lambda: rig.egress.running() == ["show/youtube"], "the enabled one is sent to")
        assert rig.egress.wanted["show", "youtube"].source_url.endswith("/live/show/out")
        assert rig.egress.wanted["show", "youtube"].slate is not None, "unless it is switched off"
        assert (await rig.request("POST", "/api/v1/streams/show/destinations/spare/start"))[0] == 202
        assert (await rig.request("POST", "/api/v1/streams/show/destinations/youtube/stop"))[0] == 202
        await eventually(lambda: rig.egress.running() == ["show/spare"], "the choice is followed")
        found = {each["name"]: each for each in await rig.get("/api/v1/streams/show/destinations")}
        assert (found["youtube"]["state"], found["youtube"]["enabled"]) == ("stopped", False)
        assert found["spare"]["state"] == "live"
        rig.server.unpublish("show")
        await eventually(lambda: rig.egress.running() == [], "nothing is sent once the stream is over")
    rig.server.publish("show")
    async with rig.run():
        await eventually(lambda: rig.egress.running() == ["show/spare"], "the choice outlives a restart")
    assert rig.egress.running() == []


async def test_an_egress_that_does_not_answer_is_seen(rig: Rig) -> None:
    async with rig.run():
        rig.server.publish("show")
        await eventually(lambda: rig.egress.running() == ["show/youtube"], "it is sent to")
        assert "orchestrator_egress_up 1.0" in (await rig.request("GET", "/metrics"))[1]
        rig.egress.error = "the egress process does not answer (for 3 s)"
        health = await rig.get("/healthz")
        assert health["status"] == "degraded" and health["egress_error"] == rig.egress.error
        found = {each["name"]: each for each in await rig.get("/api/v1/streams/show/destinations")}
        assert (found["youtube"]["state"], found["youtube"]["last_error"]) == ("retrying", rig.egress.error)
        assert found["youtube"]["bytes_sent"] == 1234, "what it said last"
        assert found["spare"]["state"] == "stopped"
        assert "orchestrator_egress_up 0.0" in (await rig.request("GET", "/metrics"))[1]


async def test_a_stream_beyond_the_limit_waits_for_a_place_and_says_so(rig: Rig) -> None:
    rig.config = parse_config("listen: {api: 0}\nlimits: {workers: 1}\nstreams: {alpha: {}, zeta: {}}")
    rig.source_grace_s = 0.1
    async with rig.run():
        rig.server.publish("zeta")
        await rig.until("running", "zeta")
        rig.server.publish("alpha")
        held = await rig.until("refused", "alpha")
        assert "limits.workers" in held["last_error"]
        assert len(rig.workers.pids()) == 1
        rig.server.unpublish("zeta")
        assert (await rig.until("running", "alpha"))["last_error"] is None
        assert (await rig.event_kinds()).count("worker_refused") == 1


async def test_no_secret_gets_out(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Every answer of the API and every log line, with secrets in config, event, worker status and errors."""
    caplog.set_level(logging.DEBUG)
    answers: list[str] = []
    async with rig.run():
        rig.server.publish("show")
        await rig.event("ready", "live/show/in")
        await rig.pid()
        description = await rig.get("/openapi.json")
        paths = [
            path.replace("{stream_id}", "show").replace("{name}", "youtube").replace("{event}", "ready")
            for path in description["paths"]
            if path != FEED  # has no end
        ]
        assert len(paths) > 8
        feed = await rig.begin_of(f"{FEED}?stream=show", "event: state", "event: lines")
        answers.append(feed)
        for path in [*paths, "/docs", "/openapi.json"]:
            for method in ("GET", "POST"):
                for body in ({}, {"path": "x" * 600, "query": "pass=hunter2-password"}):
                    answers.append((await rig.request(method, path, json=body))[1])
        async with asyncio.timeout(15):
            while (view := await rig.until("running"))["status"] is None:  # its worker was restarted, too
                await asyncio.sleep(0.03)
    assert view["status"]["targets"][0]["last_error"] == "rtmp://third.example/app/*** refused"
    text = "\n".join([*answers, caplog.text])
    assert "third.example" in text and "egress_bytes_total" in text
    assert [secret for secret in SECRETS if secret in text] == []


async def test_a_database_that_fails_keeps_no_stream_off_the_air(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full_disk(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("disk is full"))

    monkeypatch.setattr(Store, "add_event", full_disk)
    monkeypatch.setattr(Store, "save_stream", full_disk)
    async with rig.run():
        rig.server.publish("show")
        pid = await rig.pid()
        assert (await rig.request("POST", "/api/v1/streams/show/restart"))[0] == 202
        await rig.pid(other_than=pid)
        assert "restart_requested is in no list of events" in caplog.text and "disk is full" in caplog.text
        rig.server.unpublish("show")
        await rig.until("offline")


async def test_twenty_streams_at_once(rig: Rig) -> None:
    async with rig.run():
        names = [f"stream-{number}" for number in range(20)]
        for name in names:
            rig.server.publish(name)
        await eventually(lambda: len(rig.workers.pids()) == 20, "a worker each", timeout_s=30)
        for name in names:
            await rig.until("running", name)
        rig.server.paths.clear()
        await eventually(lambda: rig.workers.pids() == [], "all are stopped", timeout_s=30)

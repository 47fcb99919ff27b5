"""The API over real HTTP: errors, access, documentation."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from babelcast.config import Config
from babelcast.config_file import parse_config
from babelcast.errors import ConfigError
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from babelcast.orchestrator.views import secrets_of
from tests.fakes.fake_egress import FakeEgress
from tests.fakes.fake_media_server import FakeMediaServer
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually

pytestmark = pytest.mark.integration

CONFIG = "listen: {api: 0}\ndefaults: {backend: none}\nstreams: {show: {}, other: {target_languages: [es, de]}}\n"


class Client:
    def __init__(self, orchestrator: Orchestrator, session: aiohttp.ClientSession) -> None:
        self.orchestrator = orchestrator
        self._session = session

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[aiohttp.ClientResponse, Any]:
        async with self._session.request(method, self.orchestrator.api_url + path, **options) as response:
            is_json = "json" in response.content_type
            return response, await (response.json() if is_json else response.text())


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path, workers: FakeWorkers, config: Config, server: FakeMediaServer, store_url: str = "sqlite://"
) -> AsyncIterator[Client]:
    launcher = ProcessLauncher(tmp_path / "state", orphans="die", command=workers.command, policy=FAST)
    with contextlib.closing(Store(store_url)) as store:
        options = Options(poll_s=0.1)
        made = Orchestrator(config, server, launcher, store, options, egress=FakeEgress())
        async with made.running(), aiohttp.ClientSession() as session:
            yield Client(made, session)


@pytest.fixture
def server() -> FakeMediaServer:
    return FakeMediaServer()


@pytest.fixture
async def client(tmp_path: Path, workers: FakeWorkers, server: FakeMediaServer) -> AsyncIterator[Client]:
    async with running(tmp_path, workers, parse_config(CONFIG), server) as made:
        yield made


async def test_streams_of_the_config_are_listed_before_they_are_on_air(client: Client) -> None:
    response, streams = await client("GET", "/api/v1/streams")
    assert response.status == 200
    assert [(s["id"], s["state"]) for s in streams] == [("other", "offline"), ("show", "offline")]
    assert streams[0]["urls"] == {
        "publish": "rtmp://127.0.0.1:1935/live/other/in",
        "watch": {
            "es": "rtmp://127.0.0.1:1935/live/other/out/es",
            "de": "rtmp://127.0.0.1:1935/live/other/out/de",
        },
    }


async def test_a_running_stream_shows_what_its_worker_says(client: Client, server: FakeMediaServer) -> None:
    server.publish("show")
    for _ in range(300):
        _, view = await client("GET", "/api/v1/streams/show")
        if view["state"] == "running" and view["status"]:
            break
        await asyncio.sleep(0.05)
    assert view["status"]["state"] == "live"
    assert view["status"]["targets"][0]["dub_lag_s"] == 2.5
    assert view["warnings"] == ["the source is mono"]
    _, segments = await client("GET", "/api/v1/streams/show/segments?after=0")
    assert [segment["sequence"] for segment in segments] == [1, 2]
    _, logs = await client("GET", "/api/v1/streams/show/logs?tail=10")
    assert logs == "fake worker of show pulls rtmp://127.0.0.1:1935/live/show/in\n"
    _, metrics = await client("GET", "/metrics")
    assert 'orchestrator_workers{state="running"} 1.0' in metrics
    assert "orchestrator_worker_starts_total 1.0" in metrics


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/streams/unknown", 404),
        ("GET", "/api/v1/streams/Not%20An%20Id", 422),
        ("GET", "/api/v1/streams/..%2f..%2fetc/logs", 404),
        ("GET", "/api/v1/streams/unknown/logs", 404),
        ("GET", "/api/v1/streams/show/logs?tail=0", 422),
        ("GET", "/api/v1/streams/show/segments", 409),
        ("GET", "/api/v1/streams/show/segments?after=x", 422),
        ("POST", "/api/v1/streams/show/restart", 409),
        ("POST", "/api/v1/streams/show/destinations/nowhere/start", 404),
        ("GET", "/api/v1/events?limit=100000", 422),
        ("GET", "/api/v1/events?after=18446744073709551616", 422),
        ("GET", "/nothing/here", 404),
        ("DELETE", "/healthz", 405),
        ("POST", "/v1/media/events/exploded", 422),
    ],
)
async def test_errors_are_problem_details(client: Client, method: str, path: str, status: int) -> None:
    response, document = await client(method, path)
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert document["status"] == status
    assert document["title"] and document["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"path": 5}', b'{"path": ""}', b"\xff\xfe"])
async def test_a_malformed_event_is_refused(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response, document = await client("POST", "/v1/media/events/ready", data=body, headers=headers)
    assert response.status == 422 and document["status"] == 422


async def test_a_body_that_is_too_large_or_of_unknown_length_is_refused(client: Client) -> None:
    response, _ = await client("POST", "/v1/media/events/ready", data=b"x" * 70_000)
    assert response.status == 413

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000

    response, _ = await client("POST", "/v1/media/events/ready", data=endless())
    assert response.status == 411


async def test_other_pages_and_other_names_are_refused(client: Client) -> None:
    foreign = {"Origin": "https://evil.example"}
    assert (await client("POST", "/api/v1/streams/show/restart", headers=foreign))[0].status == 403
    assert (await client("GET", "/api/v1/streams", headers={"Host": "evil.example"}))[0].status == 403
    for broken in ({"Host": "["}, {"Host": "[::1"}):  # half an address
        assert (await client("GET", "/api/v1/streams", headers=broken))[0].status == 403
    assert (await client("POST", "/api/v1/streams/show/restart", headers={"Origin": "http://["}))[0].status == 403
    same = {"Origin": client.orchestrator.api_url}
    assert (await client("POST", "/api/v1/streams/show/restart", headers=same))[0].status == 409


async def test_the_documentation_loads_nothing_from_elsewhere(client: Client) -> None:
    response, page = await client("GET", "/docs")
    assert response.status == 200
    assert "/api/v1/streams/{stream_id}/restart" in page and "/v1/media/events/{event}" in page
    assert "http" not in page.replace("<!doctype html>", "")
    _, description = await client("GET", "/openapi.json")
    assert description["openapi"].startswith("3.")
    change = description["paths"]["/api/v1/streams/{stream_id}/controls"]["patch"]
    assert set(change["responses"]) == {"200", "202", "default"}, "no 422 of another form than ours"
    assert "detail" in change["responses"]["default"]["content"]["application/problem+json"]["schema"]["properties"]
    for operations in description["paths"].values():
        assert all(operation["summary"] for operation in operations.values())


async def test_a_token_guards_the_api(tmp_path: Path, workers: FakeWorkers, server: FakeMediaServer) -> None:
    config = parse_config("listen: {api: 0, api_host: 0.0.0.0}\napi_token: let-me-in\n")
    async with running(tmp_path, workers, config, server) as client:
        response, document = await client("GET", "/api/v1/streams")
        assert (response.status, document["title"]) == (401, "Unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        for wrong in ("Bearer nope", "Basic let-me-in", "Bearer ", "let-me-in", "Bearer lét"):
            assert (await client("GET", "/metrics", headers={"Authorization": wrong}))[0].status == 401
        right = {"Authorization": "Bearer let-me-in"}
        assert (await client("GET", "/api/v1/streams", headers=right))[0].status == 200
        assert (await client("GET", "/healthz"))[0].status == 200
        event = {"path": "live/x/in"}
        response, _ = await client("POST", "/v1/media/events/ready", json=event)
        assert response.status == 204, "hooks of this machine carry no token"


async def test_a_port_that_is_taken_is_a_setting_to_change(
    tmp_path: Path, workers: FakeWorkers, server: FakeMediaServer, client: Client
) -> None:
    port = client.orchestrator.api_url.rpartition(":")[2]
    with pytest.raises(ConfigError, match="listen"):
        async with running(tmp_path / "second", workers, parse_config(f"listen: {{api: {port}}}"), server):
            pass


async def test_the_server_is_gone_when_the_orchestrator_is(
    tmp_path: Path, workers: FakeWorkers, server: FakeMediaServer, free_port: Callable[[], int]
) -> None:
    port = free_port()
    config = parse_config(f"listen: {{api: {port}}}")
    for _ in range(2):  # the port is free again at once
        async with running(tmp_path, workers, config, server) as client:
            assert (await client("GET", "/healthz"))[0].status == 200
            await eventually(lambda: server.listed > 0, "a look at the media server")


async def test_a_destination_is_stopped_also_where_the_database_fails(
    tmp_path: Path, workers: FakeWorkers, server: FakeMediaServer
) -> None:
    config = parse_config(
        "listen: {api: 0}\ndefaults: {backend: none}\n"
        "streams: {show: {destinations: [{name: tube, url: 'rtmp://127.0.0.1/app'}]}}\n"
    )
    database = tmp_path / "state.db"
    async with running(tmp_path, workers, config, server, f"sqlite:///{database}") as client:
        url = "/api/v1/streams/show/destinations/tube"
        with contextlib.closing(sqlite3.connect(database)) as other:
            other.execute("DROP TABLE destination_choices")
        response, problem = await client("POST", f"{url}/stop")
        assert response.status == 503 and "database" in problem["detail"]
        _, (status,) = await client("GET", "/api/v1/streams/show/destinations")
        assert status["state"] == "stopped"


@pytest.mark.unit
def test_no_secret_of_the_config_is_shown(tmp_path: Path) -> None:
    secrets = {
        name: f"s3cret-{name}-0123" for name in ("api", "view", "turn", "sts", "gemini", "openai", "key", "audio")
    }
    config = parse_config(
        "api_token: ${api}\nspeech: {url: 'http://127.0.0.1', token: '${sts}'}\n"
        "preview: {token: '${view}', ice_servers: [{urls: 'turn:h', username: u, credential: '${turn}'}]}\n"
        "gemini: {api_key: '${gemini}'}\nopenai: {api_key: '${openai}'}\naudio: {token: '${audio}'}\n"
        "streams: {show: {destinations: [{name: tube, url: 'rtmp://127.0.0.1/app', key: '${key}'}]}}\n",
        environment=secrets,
    )
    assert set(secrets_of(config)) == set(secrets.values())

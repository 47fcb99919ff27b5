"""One suite for our HTTP APIs: each describes itself, answers every error with the same problem details, and can't be
upset by what nobody should send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import aiohttp
import pytest
from tests.bridge.audio_endpoint.rig import audio
from tests.bridge.rig import SMALL
from tests.fakes.fake_egress import FakeEgress
from tests.fakes.fake_media_server import FakeMediaServer
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually

from babelcast.bridge.api import create_app
from babelcast.bridge.service import Bridge, SettingsFile
from babelcast.config_file import parse_config
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.orchestrator.http_server import serving
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from babelcast.problems import MEDIA_TYPE, Problem

pytestmark = pytest.mark.integration

CONFIG = """
listen: {api: 0}
defaults: {backend: none}
streams: {show: {destinations: [{name: cdn, url: "rtmp://third.example/live2", key: k3y-k3y}]}}
"""
NASTY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**70, -0.0, 1e308, float("nan"), float("inf"), "", "a", "\x00", "\ud800", "é",
    "\u202e", "../../etc/passwd", "..%2f", "show", "show\n", "x" * 20_000, [], [[]] * 50, {}, {"a": {"b": []}}, "es",
]  # fmt: skip
NAMES = [
    "force", "mix", "delay_s", "fallback", "fallback_by_cause", "bg_gain", "ducking", "ratio", "seconds", "keep_bytes",
    "token", "path", "query", "sourceType", "text", "language", "voice", "bed_gain", "mute", "FPS", "surprise",
]  # fmt: skip
STARTS_SOMETHING = ("/start", "/restart")
Api: TypeAlias = aiohttp.ClientSession


@contextlib.asynccontextmanager
async def orchestrator(folder: Path) -> AsyncIterator[str]:
    """With a stream on air, whose worker is a fake."""
    workers, server = FakeWorkers(folder), FakeMediaServer()
    launcher = ProcessLauncher(folder, orphans="die", command=workers.command, policy=FAST)
    server.publish("show")
    with contextlib.closing(Store("sqlite://")) as store:
        options = Options(journal_dir=folder / "journal")
        made = Orchestrator(parse_config(CONFIG), server, launcher, store, options, egress=FakeEgress())
        async with made.running():
            await eventually(lambda: made.views.health().workers == 1, "on air")
            yield made.api_url


@contextlib.asynccontextmanager
async def bridge(folder: Path) -> AsyncIterator[str]:
    (folder / "media.env").touch()
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(RelaySettings(rtmp_port=0, api_port=0)))
        made = await stack.enter_async_context(Bridge.running(SettingsFile(folder / "media.env", SMALL), relay))
        port = await stack.enter_async_context(serving(create_app(made, None), "127.0.0.1", 0))
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def audio_endpoint(folder: Path) -> AsyncIterator[str]:
    async with audio() as rig:
        yield rig.url


@pytest.fixture(params=[orchestrator, bridge, audio_endpoint], ids=lambda made: made.__name__)
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    make: Callable[[Path], AbstractAsyncContextManager[str]] = request.param
    async with make(tmp_path) as url, aiohttp.ClientSession(url) as session:
        yield session


async def described(api: Api) -> dict[str, Any]:
    async with api.get("/openapi.json") as answer:
        assert answer.status == 200
        return dict(await answer.json())


def resolved(schema: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    return description["components"]["schemas"][name] if name else schema


async def test_each_describes_its_errors_in_the_same_way(api: Api) -> None:
    description = await described(api)
    assert description["openapi"].startswith("3.")
    text, expected = json.dumps(description), Problem.model_json_schema()
    for ref in re.findall(r'"\$ref": "([^"]*)"', text):
        assert ref.removeprefix("#/components/schemas/") in description["components"]["schemas"], ref
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (path, method)
            content = operation["responses"]["default"]["content"]
            assert list(content) == [MEDIA_TYPE], (path, method)
            schema = resolved(content[MEDIA_TYPE]["schema"], description)
            assert (schema["properties"].keys(), schema["required"]) == (
                expected["properties"].keys(),
                expected["required"],
            )
            assert all(int(status) < 400 for status in operation["responses"] if status != "default"), (path, method)


async def test_the_documentation_loads_nothing_from_elsewhere(api: Api) -> None:
    async with api.get("/docs") as answer:
        page = await answer.text()
    assert answer.status == 200 and answer.content_type == "text/html"
    assert "http" not in page.replace("<!doctype html>", "")
    assert all(path in page for path in (await described(api))["paths"])


def body_of(rng: random.Random) -> bytes:
    def value(depth: int = 0) -> Any:
        if depth < 3 and rng.random() < 0.3:
            return {rng.choice(NAMES): value(depth + 1) for _ in range(rng.randint(0, 3))}
        return rng.choice(NASTY)

    text = json.dumps({rng.choice(NAMES): value() for _ in range(rng.randint(0, 4))}).encode()
    kind = rng.random()
    if kind < 0.05:
        return text[: rng.randrange(len(text))]
    if kind < 0.1:
        return rng.randbytes(rng.randint(0, 2_000))
    if kind < 0.12:
        return b"[" * 20_000
    if kind < 0.15:
        return json.dumps(rng.choice(NASTY)).encode()
    return text


def target_of(rng: random.Random, path: str, operation: dict[str, Any]) -> str:
    def some(name: str) -> str:
        likely = ["show", "cdn", "es", "vtt", "in", str(rng.choice(NASTY))[:3_000]]
        return quote(rng.choice(likely).encode("utf-8", "surrogatepass"), safe="")

    path = re.sub(r"\{[^}]*\}", lambda match: some(match.group()), path)
    query = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query" and rng.random() < 0.5]
    return path + "?" + "&".join(f"{name}={some(name)}" for name in [*query, rng.choice(["token", "surprise"])])


async def answered(api: Api, method: str, target: str, **request: Any) -> None:
    """It is done, or refused by a problem; what has no end is heard for a moment."""
    async with api.request(method, target, allow_redirects=False, **request) as answer:
        if answer.content_type in ("text/event-stream", "audio/aac"):
            return
        data = await answer.read()
    if answer.status >= 400:
        assert answer.status not in (500, 502), (method, target[:200], data)
        assert answer.content_type == MEDIA_TYPE, (method, target[:200], answer.status, data)
        found = Problem.model_validate_json(data)
        assert found.status == answer.status and found.detail


async def test_what_nobody_should_send_is_refused_and_upsets_nothing(api: Api) -> None:
    rng = random.Random(5)
    paths = (await described(api))["paths"]
    assert paths
    for number in range(600):
        path = rng.choice([each for each in paths if not each.endswith(STARTS_SOMETHING)])
        method = rng.choice(list(paths[path]) if rng.random() < 0.9 else ["put", "delete", "patch", "post"])
        headers = {
            "Content-Type": rng.choice(["application/json", "text/plain", "audio/pcm;rate=0", "audio/L16;rate=x"])
        }
        if rng.random() < 0.1:
            headers[rng.choice(["If-Match", "X-Operator", "Last-Event-ID", "X-Request-Id"])] = rng.choice(
                ["", '"1"', '"' + "9" * 50 + '"', "%ff%00", "x" * 3_000, "é"]
            )
        target = target_of(rng, path, paths[path].get(method, {}))
        if len(target) > 7_000:
            continue
        try:
            async with asyncio.timeout(10):
                await answered(api, method.upper(), target, data=body_of(rng), headers=headers)
        except TimeoutError:
            pytest.fail(f"no answer to request {number}: {method} {target[:200]}")
    for path in paths:
        known = re.sub(r"\{stream_id\}", "show", path)
        if "{" not in known and "get" in paths[path]:
            await answered(api, "GET", known)
            for each in paths[path]["get"].get("parameters", ()):
                for value in ("18446744073709551616", "-9223372036854775809", "1e400", "nan", "%00"):
                    await answered(api, "GET", f"{known}?{each['name']}={value}")
    async with api.get("/healthz") as answer:
        assert answer.status == 200

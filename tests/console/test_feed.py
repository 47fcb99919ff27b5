"""The feed over real HTTP: the whole first, then what changes; the same for all who watch, and asked for once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import pytest

from babelcast.console import watch as watch_module
from babelcast.console.assets import load_assets
from babelcast.console.delta import apply
from babelcast.console.watch import Watch
from babelcast.spec import Controls, Levels, SegmentEntry
from tests.fakes.console_server import FakeSource, console_server, live, several, source_lost

pytestmark = pytest.mark.integration

TOKEN = "tOken-0123456789"


class Counting(FakeSource):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, int] = {}

    async def levels(self, stream_id: str) -> Mapping[str, Levels] | None:
        self.asked[stream_id] = self.asked.get(stream_id, 0) + 1
        return await super().levels(stream_id)


class Reader:
    """What a page knows: ``state`` with every patch applied, and the other events by name."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.revision = 0
        self.seen: dict[str, list[Any]] = {}

    async def read(self, http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(url) as answer:
            assert answer.status == 200 and answer.content_type == "text/event-stream"
            name = ""
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    self._take(name, json.loads(line[6:]))

    def _take(self, name: str, document: dict[str, Any]) -> None:
        self.seen.setdefault(name, []).append(document)
        if name == "state":
            self.state, self.revision = document["state"], document["revision"]
        elif name == "patch":
            assert document["from"] == self.revision
            self.state, self.revision = apply(self.state, document["patch"]), document["revision"]


async def reading(
    url: str, enough: Callable[[Reader], object], *, count: int = 1, stream: str = "my-show"
) -> list[Reader]:
    """That many readers at once, until each of them has ``enough``."""
    readers = [Reader() for _ in range(count)]
    async with aiohttp.ClientSession() as http:
        tasks = [
            asyncio.create_task(reader.read(http, f"{url}/api/v1/console/feed?stream={stream}&who=R{number}"))
            for number, reader in enumerate(readers)
        ]
        try:
            async with asyncio.timeout(20):
                while not all(map(enough, readers)) and not any(task.done() for task in tasks):
                    await asyncio.sleep(0.02)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    return readers


@pytest.fixture
def source() -> Counting:
    return Counting()


async def test_all_who_watch_know_the_same_and_the_worker_is_asked_once(source: Counting) -> None:
    several(source)
    async with console_server(source) as (url, watch):

        def enough(reader: Reader) -> bool:
            seen = {name: len(documents) for name, documents in reader.seen.items()}
            all_here = reader.state and len(reader.state["server"]["operators"]) == 3
            return bool(all_here and seen.get("patch", 0) >= 3 and "lines" in seen and seen.get("levels", 0) >= 10)

        began = time.monotonic()
        readers = await reading(url, enough, count=3)
        seconds = time.monotonic() - began
        for reader in readers:
            assert [each for each in reader.seen["state"]] == reader.seen["state"][:1]
            assert set(reader.state["streams"]) == set(source.streams)
        by_revision = {reader.revision: reader.state for reader in readers}
        assert all(reader.state == by_revision[reader.revision] for reader in readers)
        assert readers[0].state["server"]["operators"] == {"R0": 1, "R1": 1, "R2": 1}
        assert set(source.asked) == {"my-show"}
        assert source.asked["my-show"] <= 10 * seconds + 1, "ten a second, for all three"
        async with asyncio.timeout(10):
            while watch._watchers:
                await asyncio.sleep(0.01)
        asked = source.asked["my-show"]
        await asyncio.sleep(1.0)
        assert source.asked["my-show"] <= asked + 1  # nobody watches


class Slow(FakeSource):
    """A change comes while the worker of ``my-show`` is asked for its segments."""

    def __init__(self) -> None:
        super().__init__()
        self.watch: Watch | None = None
        self.asked = asyncio.Event()

    async def segments(self, stream_id: str, after: int) -> list[SegmentEntry] | None:
        if self.watch is not None and stream_id == "my-show":
            watch, self.watch = self.watch, None
            self.streams[stream_id].controls = Controls(revision=9)
            watch.poke(stream_id)
            self.asked.set()
        return await super().segments(stream_id, after)


async def test_a_change_that_comes_while_a_stream_is_asked_is_told_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Slow()
    several(source)
    async with console_server(source) as (url, watch), aiohttp.ClientSession() as http:
        reader = Reader()
        task = asyncio.create_task(reader.read(http, f"{url}/api/v1/console/feed?stream=press-conference"))
        source.watch = watch
        async with asyncio.timeout(5):
            await source.asked.wait()
            monkeypatch.setattr(watch_module, "_OTHERS_S", 3_600.0)  # its turn does not come again by itself
            while not reader.state or reader.state["streams"]["my-show"]["controls"]["revision"] != 9:
                await asyncio.sleep(0.01)
        task.cancel()
    assert "can't be brought up to date" not in caplog.text


async def test_a_change_is_told_at_once(source: Counting) -> None:
    live(source)
    async with console_server(source) as (url, _), aiohttp.ClientSession() as http:
        reader = Reader()
        task = asyncio.create_task(reader.read(http, f"{url}/api/v1/console/feed?stream=my-show"))
        async with asyncio.timeout(10):
            while not reader.state:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        who = {"X-Operator": "%C3%81na"}
        async with http.patch(
            f"{url}/api/v1/streams/my-show/controls", json={"force": "original"}, headers=who
        ) as answer:
            assert answer.status == 200
        while reader.state["streams"]["my-show"]["controls"].get("force") != "original":
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.01)
        print(f"told after {time.monotonic() - began:.3f} s")
        shown = reader.state["streams"]["my-show"]
        assert shown["forced"]["by"] == "Ána" and shown["headline"]["tone"] == "notice"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_alarm_is_acknowledged_for_all_and_outlives_its_cause(source: Counting) -> None:
    source_lost(source)
    async with console_server(source) as (url, watch), aiohttp.ClientSession() as http:
        key = "my-show/source-lost"
        (first,) = await reading(url, lambda reader: reader.state and reader.state["alarms"])
        assert set(first.state["alarms"]) == {key}
        assert first.state["streams"]["my-show"]["source"]["state"] == "lost"
        ack = f"{url}/api/v1/alarms/my-show/source-lost/acknowledge"
        async with http.post(ack, headers={"X-Operator": "Ana"}) as answer:
            assert answer.status == 204
        (second,) = await reading(url, lambda reader: reader.state and reader.state["alarms"][key]["by"])
        assert second.state["alarms"][key]["by"] == "Ana"
        source.streams["my-show"].gone_at = None
        (third,) = await reading(url, lambda reader: reader.state and not reader.state["alarms"])
        assert third.state["alarms"] == {}
        async with http.post(ack) as answer:
            assert answer.status == 404
        assert watch.acknowledge("nothing", "Ana") is False


async def test_too_many_are_turned_away(source: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    live(source)
    monkeypatch.setattr(watch_module, "MAX_WATCHERS", 2)
    async with console_server(source) as (url, watch):
        refused = asyncio.Event()
        task = asyncio.create_task(reading(url, lambda reader: reader.state and refused.is_set(), count=2))
        async with asyncio.timeout(10):
            while len(watch._watchers) < 2:
                await asyncio.sleep(0.01)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/api/v1/console/feed") as answer:
            assert answer.status == 503 and "Retry-After" in answer.headers
        refused.set()
        await task


async def test_the_feed_wants_a_login_and_the_page_does_not(source: Counting) -> None:
    live(source)
    async with console_server(source, token=TOKEN) as (url, _):
        async with aiohttp.ClientSession() as http:
            for path in ("/api/v1/console/feed", "/api/v1/streams/my-show/controls"):
                async with http.get(url + path) as answer:
                    assert answer.status == 401
            async with http.get(url + "/") as answer:
                assert answer.status == 200 and TOKEN not in await answer.text()
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            async with http.post(url + "/api/v1/session", json={"token": TOKEN}) as answer:
                assert answer.status == 200
            async with http.get(url + "/api/v1/console/feed") as answer:
                assert answer.status == 200
                assert TOKEN not in (await answer.content.readuntil(b"\n\n")).decode()
            patch = url + "/api/v1/streams/my-show/controls"
            async with http.patch(patch, json={}, headers={"Origin": "http://evil.example"}) as answer:
                assert answer.status == 403
            async with http.patch(patch, json={}, headers={"Origin": url}) as answer:
                assert answer.status == 200


@pytest.fixture
async def page(source: Counting) -> AsyncIterator[str]:
    async with console_server(source) as (url, _):
        yield url


async def test_the_page_runs_its_own_scripts_alone(page: str) -> None:
    assets = load_assets()
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        async with http.get(page + "/", headers={"Accept-Encoding": "identity"}) as answer:
            policy = answer.headers["Content-Security-Policy"]
            html = await answer.text()
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy and "http" not in policy
        assert "<style" not in html and " style=" not in html and "onclick" not in html
        assert html.count("<script") == html.count('<script type="module" src=')
        total = 0
        for name, asset in assets.files.items():
            path = f"{page}/console/{assets.version}/{name}"
            async with http.get(path, headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.status == 200 and "immutable" in answer.headers["Cache-Control"]
                assert answer.content_type == asset.media_type.split(";")[0]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                total += len(await answer.read())
            async with http.get(path, headers={"If-None-Match": answer.headers["ETag"]}) as again:
                assert again.status == 304
        assert total < 60_000
        for wrong in ("/console/000000000000/main.js", f"/console/{assets.version}/..%2fassets.py"):
            async with http.get(page + wrong) as answer:
                assert answer.status == 404


async def test_every_module_is_loaded_ahead_and_none_is_from_elsewhere() -> None:
    assets = load_assets()
    index = assets.index.body.decode()
    for name, asset in assets.files.items():
        text = asset.body.decode()
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text
        assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
        if name.endswith(".js"):
            assert f"/{name}" in index, f"{name} is not preloaded"


@pytest.mark.parametrize(("loss", "sound"), [(None, "problem"), ("slate", "waiting")])
async def test_the_silence_of_a_source_that_was_away_is_not_taken_for_a_muted_microphone(
    loss: str | None, sound: str
) -> None:
    """It is still on air when the source has been back for a while: by the delay."""
    source = FakeSource()
    live(source)
    source.streams["my-show"].loud, source.streams["my-show"].loss = False, loss
    now_s = time.time()
    watch = watch_module.Watch(source, {}, now=lambda: now_s)

    async def shown() -> dict[str, Any]:
        feed = watch.watching("my-show", "Ana")
        try:
            data = (await anext(feed)).partition(b"data: ")[2]
        finally:
            await feed.aclose()  # type: ignore[attr-defined]
        state: dict[str, Any] = json.loads(data)["state"]
        return state

    async with watch.running(), asyncio.timeout(10):
        assert (await shown())["streams"]["my-show"]["steps"]["sound"]["state"] == "waiting"
        now_s += 20.0
        while (state := await shown())["now"] != round(now_s, 1):
            await asyncio.sleep(0.05)
        assert state["streams"]["my-show"]["steps"]["sound"]["state"] == sound


async def test_it_ends_also_where_something_is_changed_at_that_moment() -> None:
    """With wait_for of Python 3.11 it went on for ever, and so did Ctrl-C."""
    async with asyncio.timeout(5):
        watch = watch_module.Watch(FakeSource(), {})
        async with watch.running():
            await asyncio.sleep(0.1)  # it has looked, and waits
            watch.poke()

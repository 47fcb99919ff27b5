"""Captions over real HTTP, from journals as workers write them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from babelcast.captions.cues import OnAirMark
from babelcast.config_file import parse_config
from babelcast.orchestrator import captions
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import Store
from babelcast.worker.journal import Journal
from tests.captions.test_cues import entry
from tests.fakes.fake_egress import FakeEgress
from tests.fakes.fake_media_server import FakeMediaServer
from tests.orchestrator.conftest import FAST, FakeWorkers

pytestmark = pytest.mark.integration

CONFIG = "listen: {api: 0}\nstreams: {show: {backend: none}, mute: {backend: none, target_languages: [es, de]}}\n"


@contextlib.asynccontextmanager
async def api(tmp_path: Path, workers: FakeWorkers) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    launcher = ProcessLauncher(tmp_path / "state", orphans="die", command=workers.command, policy=FAST)
    with contextlib.closing(Store("sqlite://")) as store:
        options = Options(poll_s=0.1, journal_dir=tmp_path / "journal")
        server, config = FakeMediaServer(), parse_config(CONFIG)
        made = Orchestrator(config, server, launcher, store, options, egress=FakeEgress())
        async with made.running(), aiohttp.ClientSession() as session:
            yield session, f"{made.api_url}/api/v1/streams"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Of a worker that went on air a minute ago."""
    made = Journal(tmp_path / "journal" / "show", 10)
    made.mark(OnAirMark(began_unix_s=time.time() - 60.0, source_language="en", languages=("es",)))
    yield made
    made.close()


def say(journal: Journal, began_s: float, at_s: float, text: str, sequence: int) -> None:
    journal.add(entry(at_s, zero=began_s, late_s=0.0, text=text, sequence=sequence))


async def events(lines: aiohttp.StreamReader, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    ident = ""
    async for line in lines:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            ident = value
        if name == "data":
            found.append({"id": ident, **json.loads(value)})
            if len(found) == count:
                break
    return found


async def test_files_of_a_stream_on_air_and_after_a_restart(
    tmp_path: Path, workers: FakeWorkers, journal: Journal
) -> None:
    zero = time.time() - 60.0
    say(journal, zero, 3.0, "hola", 0)
    say(journal, zero, 50.0, "adiós", 1)
    for _ in range(2):  # of two orchestrators, one after the other
        async with api(tmp_path, workers) as (http, base):
            async with http.get(f"{base}/show/captions/es.vtt") as answer:
                text = await answer.text()
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.content_type == "text/vtt"
            assert text.startswith("WEBVTT") and "hola" in text and "adiós" in text
            async with http.get(f"{base}/show/captions/es.vtt?last=20") as answer:
                text = await answer.text()
            assert "hola" not in text and "adiós" in text
            async with http.get(f"{base}/show/captions/en.srt") as answer:
                assert "Hello" in await answer.text()
            async with http.get(f"{base}/show/transcript.json") as answer:
                document = await answer.json()
            assert [each["translation"] for each in document["segments"]] == ["hola", "adiós"]
            assert document["segments"][0]["dub_start_s"] == pytest.approx(3.0, abs=0.1)
            async with http.get(f"{base}/show/captions") as answer:
                (listed,) = await answer.json()
            assert (listed["languages"], listed["segments"]) == (["en", "es"], 2)


async def test_what_is_not_there_is_told(tmp_path: Path, workers: FakeWorkers, journal: Journal) -> None:
    async with api(tmp_path, workers) as (http, base):
        for path, status, told in [
            ("show/captions/fr.vtt", 404, "en, es"),
            ("show/captions/fr/live", 404, "en, es"),
            ("mute/captions/fr.vtt", 404, "de, en, es"),
            ("nobody/captions/es.vtt", 404, "nobody"),
            ("nobody/captions/es/live", 404, "nobody"),
            ("nobody/transcript.json", 404, "nobody"),
            ("show/captions/es.vtt?broadcast=1", 404, "1 broadcasts"),
            ("show/captions/es.txt", 422, ""),
            ("show/captions/..%2f..%2fx.vtt", 404, ""),
            ("show/captions/es.vtt?last=-1", 422, "last"),
        ]:
            async with http.get(f"{base}/{path}") as answer:
                document = await answer.json()
                assert (path, answer.status, answer.content_type) == (path, status, "application/problem+json")
                assert told in document["detail"]
        async with http.get(f"{base}/mute/captions/es.vtt") as answer:
            assert await answer.text() == "WEBVTT\n", "nothing said yet is no error"


async def test_each_cue_is_told_once_as_it_goes_on_air_and_a_reconnect_resumes(
    tmp_path: Path, workers: FakeWorkers, journal: Journal
) -> None:
    async with api(tmp_path, workers) as (http, base):
        zero = time.time() - 60.0
        say(journal, zero, 55.0, "before", 0)
        live = f"{base}/show/captions/es/live"
        async with http.get(live) as answer:
            assert answer.status == 200 and answer.content_type == "text/event-stream"
            soon = time.time() - zero + 0.8
            say(journal, zero, soon, "now", 1)
            (first,) = await asyncio.wait_for(events(answer.content, 1), 10)
            assert first["text"] == "now"
            assert time.time() >= zero + soon, "not before it is heard"
            say(journal, zero, time.time() - zero, "then", 2)
            (second,) = await asyncio.wait_for(events(answer.content, 1), 10)
            assert second["text"] == "then" and int(second["id"]) > int(first["id"])
        say(journal, zero, time.time() - zero, "missed", 3)
        async with http.get(live, headers={"Last-Event-ID": second["id"]}) as answer:
            (third,) = await asyncio.wait_for(events(answer.content, 1), 10)
            assert third["text"] == "missed"
        async with http.get(f"{live}?last=20") as answer:
            told = await asyncio.wait_for(events(answer.content, 4), 10)
            assert [each["text"] for each in told] == ["before", "now", "then", "missed"]


async def test_live_feeds_end_with_the_server(tmp_path: Path, workers: FakeWorkers, journal: Journal) -> None:
    async with aiohttp.ClientSession() as outside:
        async with contextlib.AsyncExitStack() as stack:
            _, base = await stack.enter_async_context(api(tmp_path, workers))
            answer = await outside.get(f"{base}/show/captions/es/live")
            assert await answer.content.readline() == b"retry: 1000\n"
            began = time.monotonic()
        assert time.monotonic() - began < 5.0
        async with asyncio.timeout(5):
            await answer.content.read()  # raises where the connection was torn instead of ended


async def test_listeners_are_bounded_and_silence_keeps_the_line_alive(
    tmp_path: Path, workers: FakeWorkers, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captions, "MAX_LISTENERS", 1)
    monkeypatch.setattr(captions, "_HEARTBEAT_S", 0.3)
    async with api(tmp_path, workers) as (http, base):
        live = f"{base}/show/captions/en/live"
        async with http.get(live) as answer:
            async with asyncio.timeout(10):
                while not (await answer.content.readline()).startswith(b": "):
                    pass
            async with http.get(live) as second:
                assert second.status == 503 and second.headers["Retry-After"] == "10"
        async with asyncio.timeout(10):  # the place is free again once the first has left
            while True:
                async with http.get(live) as third:
                    if third.status == 200:
                        break
                await asyncio.sleep(0.1)

"""Streams that ended long ago are forgotten; what the config or an operator set up stays."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from babelcast.captions.cues import OnAirMark
from babelcast.captions.journal import erase
from babelcast.clock import ManualClock
from babelcast.config import Limits
from babelcast.config_file import parse_config
from babelcast.orchestrator import retention
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.reconcile import Memory
from babelcast.orchestrator.retention import EVERY_S, Retention, outdated
from babelcast.orchestrator.service import Options, Orchestrator
from babelcast.orchestrator.store import AsyncStore, Store, StreamRow
from babelcast.worker.journal import Journal
from tests.captions.test_cues import entry
from tests.fakes.fake_egress import FakeEgress
from tests.fakes.fake_media_server import FakeMediaServer
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually

DAY_S = 86_400.0


def row(stream_id: str, ended_days_ago: float) -> StreamRow:
    return StreamRow(stream_id, 0.0, (100 - ended_days_ago) * DAY_S, 3, "off")


@pytest.mark.unit
def test_the_oldest_go_by_age_and_by_number() -> None:
    rows = [row("today", 0.1), row("last-year", 90), row("yesterday", 1), row("week", 7), row("old", 31)]
    found = outdated(rows, 100 * DAY_S, Limits(kept_streams=2, kept_days=30))
    assert list(found) == ["last-year", "old", "week"], "the one that ended first goes first"
    assert found["old"] == "off air for 30 days (limits.kept_days)"
    assert found["week"] == "2 streams ended later (limits.kept_streams)"
    assert outdated(rows[:1], 100 * DAY_S, Limits(kept_streams=0)) != {}


@pytest.mark.unit
def test_of_a_folder_the_journal_alone_is_removed(tmp_path: Path) -> None:
    for name in ("segments.es.jsonl", "segments.es.jsonl.1", "broadcasts.jsonl", "minutes.txt"):
        (tmp_path / "show" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "show" / name).touch()
    erase(tmp_path / "show")
    assert [path.name for path in (tmp_path / "show").iterdir()] == ["minutes.txt"]
    (tmp_path / "show" / "minutes.txt").unlink()
    for _ in range(2):  # also where there is nothing
        erase(tmp_path / "show")
    assert not (tmp_path / "show").exists()


class Kept:
    """Streams in a store, and a Retention whose time is a test's."""

    def __init__(self, folder: Path) -> None:
        self.store = Store("sqlite://", now=lambda: self._now_s)
        self.memory: dict[str, Memory] = {}
        self._clock = ManualClock()
        self._now_s = 0.0
        config = parse_config("limits: {kept_days: 2}\nstreams: {configured: {}}\n")
        self._retention = Retention(
            AsyncStore(self.store),
            ProcessLauncher(folder),
            config,
            folder / "journal",
            self._clock,
            now=lambda: self._now_s,
        )

    def at(self, days: float) -> Kept:
        self._now_s = days * DAY_S
        return self

    def ended(self, stream_id: str) -> None:
        self.store.save_stream(stream_id, 7, "off")
        self.memory[stream_id] = Memory(generation=7)

    async def look(self, *busy: str) -> list[str]:
        """Ten minutes later; the streams that there still are."""
        self._clock.advance(round(EVERY_S * 1e9))
        await self._retention.forget_old(self.memory, busy)
        assert {each.stream_id for each in self.store.streams()} == set(self.memory)
        return sorted(self.memory)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    with contextlib.closing(made.store):
        yield made


@pytest.mark.unit
async def test_what_is_set_up_or_on_air_stays(kept: Kept) -> None:
    for name in ("configured", "chosen", "busy", "event-1"):
        kept.ended(name)
    kept.store.choose_destination("chosen", "youtube", False)
    assert await kept.at(1.9).look("busy") == ["busy", "chosen", "configured", "event-1"]
    assert await kept.at(2.1).look("busy") == ["busy", "chosen", "configured"]
    (event,) = kept.store.events()
    assert (event.kind, event.stream_id) == ("stream_forgotten", "event-1")
    assert event.detail == "off air for 2 days (limits.kept_days); its captions and logs too"


@pytest.mark.unit
async def test_an_end_that_nobody_wrote_down_counts_from_when_it_is_noticed(kept: Kept) -> None:
    kept.ended("killed")
    kept.store.save_stream("killed", 8, "on")  # and the orchestrator was killed
    kept.memory["unsaved"] = Memory(generation=1)  # the disk was full
    assert await kept.at(10).look() == ["killed", "unsaved"]
    assert await kept.at(11).look() == ["killed", "unsaved"]
    assert await kept.at(12.5).look() == []


@pytest.mark.unit
async def test_many_go_a_few_at_a_time_and_one_that_can_not_go_holds_up_no_other(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_permission(path: Path) -> None:
        if path.name == "stuck":
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", no_permission)
    (tmp_path / "workers" / "stuck").mkdir(parents=True)
    kept.ended("stuck")
    for number in range(30):
        kept.ended(f"event-{number}")
    assert len(await kept.at(3).look()) == 12
    assert await kept.look() == ["stuck"]
    assert "a stream's old files can't be removed" in caplog.text


@pytest.mark.integration
async def test_over_the_api_a_forgotten_stream_was_never_there(
    tmp_path: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 0.1)
    config = parse_config("listen: {api: 0}\nlimits: {kept_streams: 1}\ndefaults: {backend: none}\nstreams: {show: {}}")
    launcher = ProcessLauncher(tmp_path, orphans="die", command=workers.command, policy=FAST)
    options = Options(source_grace_s=0.3, poll_s=0.1, stop_grace_s=1.0, journal_dir=tmp_path / "journal")
    server = FakeMediaServer()
    with contextlib.closing(Store.in_directory(tmp_path)) as store:
        made = Orchestrator(config, server, launcher, store, options, egress=FakeEgress())
        async with made.running(), aiohttp.ClientSession() as http:

            async def get(path: str) -> tuple[int, Any]:
                async with http.get(f"{made.api_url}/api/v1{path}") as answer:
                    return answer.status, await answer.json()

            async def listed() -> list[str]:
                return [stream["id"] for stream in (await get("/streams"))[1]]

            for name in ("show", "event-1", "event-2"):
                journal = Journal(tmp_path / "journal" / name, 10)
                journal.mark(OnAirMark(began_unix_s=1e9, source_language="en", languages=("es",)))
                journal.add(entry(1.0, zero=1e9, text="hola"))
                journal.close()
                server.publish(name)
                await eventually(lambda: len(workers.pids()) == 1, "on air")
                if name == "event-2":
                    assert "event-1" in await listed(), "the one that ended is the only one"
                server.unpublish(name)
                await eventually(lambda: workers.pids() == [], "off air")
            async with asyncio.timeout(10):
                while "event-1" in await listed():
                    await asyncio.sleep(0.05)
            assert await listed() == ["event-2", "show"]
            for path in ("", "/captions", "/captions/es.vtt", "/logs", "/controls", "/destinations"):
                assert (await get(f"/streams/event-1{path}"))[0] == 404, path
            assert [event["kind"] for event in (await get("/events?stream=event-1"))[1]][-1] == "stream_forgotten"
            assert (await get("/streams/event-2/captions"))[1][0]["segments"] == 1
            for folder in ("workers", "journal"):
                there = {path.name for path in (tmp_path / folder).iterdir() if path.is_dir()}
                assert there == {"show", "event-2"}, folder
            assert {each.stream_id for each in store.streams()} == {"show", "event-2"}
            server.publish("event-1")
            await eventually(lambda: len(workers.pids()) == 1, "on air again")
            assert (await get("/streams/event-1"))[1]["worker"]["generation"] == 1

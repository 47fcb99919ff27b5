"""A worker and an orchestrator killed while a stream is on air, seen from the destination."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from babelcast.rtmp.message import Message, MessageType
from tests.e2e.programs import Up, config_text, orchestrator, publishing, relay, until, up
from tests.fakes.rtmp_destination import FakeDestination, Session

pytestmark = pytest.mark.e2e

DELAY_S = 2.0
KEY = "kEy-0123456789-crash"


@dataclass(frozen=True)
class Gaps:
    """The longest of each, in seconds: by arrival, and by timestamp."""

    picture: float
    sound: float
    picture_time: float
    sound_time: float
    programme: float
    """Between two pictures of the programme itself, by arrival: what the slate stood for."""


def gaps_of(session: Session, since: float = 0.0, *, to_return: bool = False) -> Gaps:
    """``to_return``: up to the first picture of the programme after a slate; what follows is the new worker's."""
    found: dict[str, list[tuple[float, int]]] = {"picture": [], "sound": []}
    programme: list[float] = []
    first = next(m.payload for m in session.messages if _is_video_header(m))
    header, shown = first, False
    for message, arrived in zip(session.messages, session.arrived, strict=True):
        if _is_video_header(message):
            header = message.payload
        elif message.type in (MessageType.VIDEO, MessageType.AUDIO) and message.payload[1] != 0 and arrived >= since:
            shown = shown or header != first
            found["picture" if message.type == MessageType.VIDEO else "sound"].append((arrived, message.timestamp))
            if message.type == MessageType.VIDEO and header == first:
                programme.append(arrived)
                if shown and to_return:
                    break
    steps = {name: list(itertools.pairwise(times)) for name, times in found.items()}
    return Gaps(
        picture=max(b[0] - a[0] for a, b in steps["picture"]),
        sound=max(b[0] - a[0] for a, b in steps["sound"]),
        picture_time=max(b[1] - a[1] for a, b in steps["picture"]) / 1_000,
        sound_time=max(b[1] - a[1] for a, b in steps["sound"]) / 1_000,
        programme=max((b - a for a, b in itertools.pairwise(programme)), default=float("inf")),
    )


def _is_video_header(message: Message) -> bool:
    return message.type == MessageType.VIDEO and message.payload[1] == 0


def _pictures(session: Session) -> int:
    return sum(m.type == MessageType.VIDEO and m.payload[1] != 0 for m in session.messages)


def _slate_is_on(session: Session) -> bool:
    headers = [m.payload for m in session.messages if _is_video_header(m)]
    return headers[-1] != headers[0]


async def _flowing(platform: FakeDestination) -> Session:
    await until(lambda: platform.sessions and _pictures(platform.sessions[-1]) > 50, "pictures at the destination", 40)
    return platform.sessions[-1]


def _config(folder: Path, platform: FakeDestination) -> str:
    destination = f'destinations: [{{name: platform, url: "{platform.url}", key: "{KEY}"}}]'
    return config_text(folder, settings=f"delay: {DELAY_S}, backend: none", stream=destination)


@pytest.mark.parametrize("noticed", ["at once", "late"])
async def test_a_worker_that_is_killed(
    talk: Path, tmp_path: Path, record_property: Callable[[str, object], None], noticed: str
) -> None:
    """The one that is kept ready goes on before a slate is needed. Where nobody replaces it for long, there is one."""
    async with FakeDestination().listening() as platform:
        async with up(tmp_path, _config(tmp_path, platform)) as running, publishing(talk, running.publish_url):
            session = await _flowing(platform)
            await asyncio.sleep(3)  # the slate is made meanwhile, and so is the spare worker
            worker = int((await running.stream())["worker"]["pid"])
            killed = asyncio.get_running_loop().time()
            if noticed == "late":
                running.program.process.send_signal(signal.SIGSTOP)
            try:
                os.kill(worker, signal.SIGKILL)
                if noticed == "late":
                    await until(lambda: _slate_is_on(session), "the slate", 10, 0.05)
            finally:
                running.program.process.send_signal(signal.SIGCONT)
            await until(lambda: _second_is_live(running), "another worker", 40)
            await until(lambda: not _slate_is_on(session), "the programme again", 40, 0.05)
            await asyncio.sleep(2)
            assert (await running.stream())["worker"]["generation"] == 2
            assert await _destination(running, "reconnects") == 0
        gaps = gaps_of(session, killed - 1, to_return=True)
        whole = gaps_of(session, killed - 1)
    print(f"worker killed: {gaps}; with what the new worker sends: {whole}")
    record_property("worker_killed", str(gaps))
    assert platform.attempts == 1, "the same session"
    # the slate begins after a second; a machine that is busy may take longer to say so
    assert whole.picture < 3 and whole.sound < 3
    if noticed == "late":
        assert gaps.picture_time < 0.5 and gaps.sound_time < 0.5, "the timeline has no hole"
    assert KEY not in running.program.text


async def _second_is_live(running: Up) -> bool:
    view = await running.stream()
    return view["worker"]["generation"] == 2 and (view["status"] or {}).get("state") == "live"


async def _destination(running: Up, name: str) -> Any:
    return (await running.stream())["destinations"][0][name]


async def _stream(api: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{api}/api/v1/streams/show") as answer:
        view: dict[str, Any] = await answer.json()
        return view


async def test_an_orchestrator_that_is_killed(
    talk: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with FakeDestination().listening() as platform, relay() as (server_api, rtmp):
        (tmp_path / "babelcast.yaml").write_text(_config(tmp_path, platform))
        async with contextlib.AsyncExitStack() as stack:
            first, api = await stack.enter_async_context(orchestrator(tmp_path, server_api, rtmp))
            await stack.enter_async_context(publishing(talk, f"{rtmp}/live/show/in"))
            session = await _flowing(platform)
            before = await _stream(api)
            [egress] = first.processes("babelcast egress")
            killed = asyncio.get_running_loop().time()
            first.process.send_signal(signal.SIGKILL)
            await first.process.wait()
            seen = _pictures(session)
            await until(lambda: _pictures(session) > seen + 50, "it goes on without an orchestrator")
            second, api = await stack.enter_async_context(orchestrator(tmp_path, server_api, rtmp))

            async def adopted() -> dict[str, Any] | None:
                view = await _stream(api)
                states = [each["state"] for each in view["destinations"]]
                return view if view["state"] == "running" and states == ["live"] else None

            after = await until(adopted, "worker and egress are adopted")
            assert after["worker"]["pid"] == before["worker"]["pid"] and after["worker"]["generation"] == 1
            assert first.processes("babelcast egress") == [egress]
            seen = _pictures(session)
            await until(lambda: _pictures(session) > seen + 50, "it goes on")
            gaps = gaps_of(session, killed - 1)
            assert second.processes("babelcast worker") == []
        print(f"orchestrator killed: {gaps}")
        record_property("orchestrator_killed", str(gaps))
        assert platform.attempts == 1
        assert gaps.picture_time < 0.1 and gaps.sound_time < 0.1, "nothing is missing"
        assert gaps.picture < 2 and gaps.sound < 2

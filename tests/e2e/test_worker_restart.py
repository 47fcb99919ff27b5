"""A worker killed at a long delay: the next one goes on from what it left, so the delay is not waited for again."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from babelcast.audio.clicks import find_clicks
from babelcast.rtmp.message import MessageType
from tests.e2e.faults.measure import decoded
from tests.e2e.programs import Up, config_text, publishing, until, up
from tests.fakes.rtmp_destination import FakeDestination, Session

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

DELAY_S = 6.0


def programme_gaps(session: Session, since: float) -> list[tuple[float, float]]:
    """(begin, length) of each stretch of more than 0.3 s without a picture of the programme itself, by arrival."""
    first = next(m.payload for m in session.messages if m.type == MessageType.VIDEO and m.payload[1] == 0)
    header, times = first, []
    for message, arrived in zip(session.messages, session.arrived, strict=True):
        if message.type != MessageType.VIDEO:
            continue
        if message.payload[1] == 0:
            header = message.payload
        elif header == first and arrived >= since:
            times.append(arrived)
    return [(a - since, b - a) for a, b in itertools.pairwise(times) if b - a > 0.3]


@pytest.mark.parametrize(
    ("server", "holes_s"),
    [("relay", 1.5), pytest.param("mediamtx", 2.5, marks=pytest.mark.mediamtx)],
)
async def test_a_killed_worker_costs_less_than_its_delay(
    talk: Path, tmp_path: Path, server: str, holes_s: float, record_property: Callable[[str, object], None]
) -> None:
    async with FakeDestination().listening() as platform:
        destination = f'destinations: [{{name: platform, url: "{platform.url}", key: "a-key-of-the-test"}}]'
        settings = f"delay: {DELAY_S}, backend: tone"
        text = config_text(tmp_path, server=server, settings=settings, stream=destination)
        async with up(tmp_path, text) as running, publishing(talk, running.publish_url):
            await until(lambda: platform.sessions and len(platform.sessions[-1].messages) > 600, "the programme", 60)
            await until(lambda: _dubbed(running), "the dub", 60)
            session = platform.sessions[-1]
            killed = asyncio.get_running_loop().time()
            os.kill(int((await running.stream())["worker"]["pid"]), signal.SIGKILL)
            began = time.monotonic()
            await until(lambda: _generation(running, 2), "the next worker", 30)
            await until(lambda: _dubbed(running), "the dub again", 60)
            dub_s = time.monotonic() - began
            await asyncio.sleep(max(0.0, DELAY_S + 4 - dub_s))
        gaps = programme_gaps(session, killed - 0.5)
        print(f"{server}: killed at {DELAY_S:g} s delay: gaps of the programme {gaps}, dub again after {dub_s:.1f} s")
        record_property("gaps", str(gaps))
        assert platform.attempts == 1, "the same session"
        assert find_clicks(decoded(session, tmp_path), coded=True) == []
        assert dub_s < DELAY_S, "the end of what the worker left is dubbed again"
        at_once = [length for begin, length in gaps if begin < 3]
        later = [length for begin, length in gaps if begin >= 3]
        assert len(at_once) == 1 and at_once[0] < 3, "the next worker does not wait for its delay"
        # what was published while nobody read is not there: the relay has the latest group of pictures, MediaMTX makes
        # its reader wait for the next one
        assert sum(later) < holes_s


async def _dubbed(running: Up) -> bool:
    target = await running.target()
    on_air = target.get("published_seconds", 0) > 1  # before that no fallback is in force yet
    return bool(on_air and target["fallback"] is None and target["segments"] > 1)


async def _generation(running: Up, number: int) -> bool:
    status = (await running.stream())["status"]
    return bool(status and status["generation"] == number)

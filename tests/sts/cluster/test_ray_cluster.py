"""The service on a real Ray cluster, with sessions of the worker's own client on it while something happens to it.

Every sound that the sessions send must be answered: once, in order, none lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
from tests.sts.cluster.nodes import Nodes, Program, cluster, free_port
from tests.sts.cluster.talk import Talk, talking

from babelcast.errors import SpeechUnavailableError
from babelcast.speech.base import GoingAwayEvent, SpeechTarget
from babelcast.speech.sts_stream import StsStreamBackend

pytestmark = [pytest.mark.integration, pytest.mark.ray, pytest.mark.timeout(240)]

Start = Callable[..., Program]


@pytest.fixture(scope="module")
def one_node() -> Iterator[Nodes]:
    with cluster() as nodes:
        nodes.start(cpus=4, head=True)
        yield nodes


@pytest.fixture
def service(one_node: Nodes) -> Iterator[Start]:
    """Starts the service on the one node, always on one port."""
    port, programs = free_port(), []

    def start(*options: str) -> Program:
        programs.append(one_node.service(*options, port=port))
        return programs[-1].ready()

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.end()


async def until(program: Program, condition: Callable[[dict[str, int]], object], within_s: float = 60.0) -> None:
    """``condition`` on the number of sessions by replica."""

    def holds(health: dict[str, Any]) -> object:
        return condition({replica["replica"]: replica["sessions"] for replica in health.get("replicas", [])})

    await asyncio.to_thread(program.until, holds, within_s)


def check(talks: list[Talk]) -> None:
    for talk in talks:
        talk.check()


async def test_a_node_that_is_killed_costs_its_sessions_a_reconnect_and_nothing_else() -> None:
    with cluster() as nodes:
        nodes.start(cpus=2, head=True)
        second = nodes.start(cpus=1)
        program = nodes.service("--replicas", "2", port=free_port())
        await asyncio.to_thread(program.ready, 2)
        assert len({replica["node"] for replica in program.replicas().values()}) == 2
        async with talking(program.url, 4) as talks:
            await until(program, lambda sessions: sorted(sessions.values()) == [2, 2])
            await asyncio.sleep(3.0)
            before = set(program.replicas())
            nodes.kill(second)
            await asyncio.sleep(6.0)
            # the two that were cut off are with the replica that is left, and another one is made for the dead one
            await until(program, lambda sessions: sorted(sessions.values()) == [0, 4])
            assert len(before & set(program.replicas())) == 1
        check(talks)
        assert sorted((talk.session.reopened, talk.cut_off) for talk in talks) == [(0, 0), (0, 0), (1, 1), (1, 1)]
        assert program.end() == 0


async def test_a_redeployment_moves_the_sessions_without_a_gap(service: Start) -> None:
    first = service("--drain", "20")
    async with talking(first.url, 2) as talks:
        await until(first, lambda sessions: list(sessions.values()) == [2])
        old = set(first.replicas())
        await asyncio.sleep(2.0)
        second = service("--drain", "20")
        await until(second, lambda sessions: not old & set(sessions) and sum(sessions.values()) == 2)
        await asyncio.sleep(3.0)
    check(talks)
    assert [(talk.session.reopened, talk.cut_off) for talk in talks] == [(1, 0), (1, 0)]
    # what the first call deployed is no longer there: it leaves the second one's alone
    assert first.end() == 0
    assert "left running" in first.output and len(second.replicas()) == 1
    assert second.end() == 0


async def test_it_scales_up_with_the_sessions_and_down_through_a_drain(service: Start) -> None:
    program = service("--replicas", "1:2", "--max-sessions", "4", "--scale-down-after", "2")
    (first,) = program.replicas()
    async with contextlib.AsyncExitStack() as stack:
        talks = await stack.enter_async_context(talking(program.url, 1))
        async with talking(program.url, 2):
            await until(program, lambda sessions: len(sessions) == 2)
            talks += await stack.enter_async_context(talking(program.url, 1))
            await until(program, lambda sessions: sorted(sessions.values()) == [1, 3])
        # one on each is left: one replica would do, and Serve chooses the newer one to go
        await until(program, lambda sessions: sessions == {first: 2})
        await asyncio.sleep(2.0)
    check(talks)
    assert [(talk.session.reopened, talk.cut_off) for talk in talks] == [(0, 0), (1, 0)]
    assert program.end() == 0


async def test_a_session_beyond_the_limit_is_refused_at_once(service: Start) -> None:
    program = service("--replicas", "1", "--max-sessions", "2")
    backend = StsStreamBackend(program.url)
    async with talking(program.url, 2) as talks:
        await until(program, lambda sessions: list(sessions.values()) == [2])
        began = time.monotonic()
        with pytest.raises(SpeechUnavailableError, match="2 sessions are open") as refused:
            await backend.open(SpeechTarget("third", "en", "es"))
        assert time.monotonic() - began < 2.0
        assert refused.value.code == "overloaded" and refused.value.retry_after_s
        await asyncio.sleep(2.0)
    await backend.aclose()
    check(talks)
    assert program.end() == 0


async def test_health_and_metrics_are_of_all_replicas(service: Start) -> None:
    program = service("--replicas", "2")
    await asyncio.to_thread(program.ready, 2)
    async with talking(program.url, 2), aiohttp.ClientSession() as http:
        await until(program, lambda sessions: list(sessions.values()) == [1, 1])
        async with http.get(f"{program.url}/metrics") as answer:
            text = await answer.text()
    for name in program.replicas():
        assert f'sts_sessions{{replica="{name}"}} 1.0' in text
    assert text.count("# TYPE sts_sessions gauge") == 1
    assert program.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_tells_the_sessions_and_waits_for_them(service: Start, number: signal.Signals) -> None:
    program = service("--drain", "20")
    backend = StsStreamBackend(program.url)
    session = await backend.open(SpeechTarget("show", "en", "es"))
    try:
        ending = asyncio.create_task(asyncio.to_thread(program.end, number))
        async with asyncio.timeout(15):
            async for event in session.events():
                if isinstance(event, GoingAwayEvent):
                    await session.finish()
        assert await ending == 0
        assert "draining (sessions: 1)" in program.output
    finally:
        await session.aclose()
        await backend.aclose()

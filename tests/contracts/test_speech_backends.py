"""What every speech backend promises: the speech service's two clients against a real service (the tone mock behind the
real contract), the cloud's interpreters against servers that speak their protocols, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from tests.fakes.certificates import loopback_tls
from tests.fakes.gemini_server import gemini_server
from tests.fakes.openai_realtime_server import openai_server
from tests.fakes.speech import frames, silence, sine
from tests.fakes.virtual_time import LoopClock, run_virtual

from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.speech.base import (
    ClosedEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechBackend,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
)
from babelcast.speech.gemini_live import GeminiSettings, make_gemini
from babelcast.speech.openai_realtime import OpenAiSettings, make_openai
from babelcast.speech.shared import SharedBackend
from babelcast.speech.sts_http import StsHttpBackend
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.serve import serving
from babelcast.sts.service import Limits, Service
from babelcast.sts.tone import ToneEngine
from babelcast.units import NS_PER_MS, NS_PER_S, SpeechFrame

pytestmark = pytest.mark.integration

TARGET = SpeechTarget("show", "en", "es")


@dataclass
class Running:
    """A service that a test can stop before its end."""

    world: World
    url: str
    sessions: Callable[[], int]
    stop: Callable[[], Awaitable[None]]

    def backend(self, token: str = "secret") -> SpeechBackend:
        return self.world.make(self.url, token)


@dataclass(frozen=True)
class World:
    """One kind of backend with its service, and how time passes there."""

    make: Callable[[str, str], SpeechBackend]
    start: Callable[[World], AbstractAsyncContextManager[Running]]
    run: Callable[[Coroutine[Any, Any, None]], None]
    scheme: str = "http"
    pace_s: float = 0.1


@contextlib.asynccontextmanager
async def sts(world: World) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        service = Service(ToneEngine(), Limits(sessions=2), token="secret")
        url = await stack.enter_async_context(serving(service))
        yield Running(world, url, lambda: len(service.streams), stack.aclose)


@contextlib.asynccontextmanager
async def gemini(world: World) -> AsyncIterator[Running]:
    async with gemini_server() as server:
        server.key = "secret"
        yield Running(world, server.url, lambda: server.open, _async(server.stop))


@contextlib.asynccontextmanager
async def openai(world: World) -> AsyncIterator[Running]:
    async with openai_server() as server:
        server.key = "secret"
        yield Running(world, server.url, lambda: server.open, _async(server.stop))


def _async(stop: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def stopped() -> None:
        stop()

    return stopped


def make_fake_gemini(url: str, token: str) -> SpeechBackend:
    return make_gemini(GeminiSettings(token, base_url=url, tls=loopback_tls()[1]), clock=LoopClock())


def make_fake_openai(url: str, token: str) -> SpeechBackend:
    return make_openai(OpenAiSettings(token, base_url=url), clock=LoopClock())


WORLDS = {
    "stream": World(lambda u, t: StsStreamBackend(u, token=t), sts, asyncio.run, pace_s=0.005),
    "shared": World(
        lambda u, t: SharedBackend(StsStreamBackend(u, token=t), ("es", "de")), sts, asyncio.run, pace_s=0.005
    ),
    "http": World(lambda u, t: StsHttpBackend(u, token=t), sts, asyncio.run, pace_s=0.005),
    "gemini-live": World(make_fake_gemini, gemini, run_virtual, scheme="https"),
    "openai-realtime": World(make_fake_openai, openai, run_virtual),
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


def contract(test: Callable[[Running], Coroutine[Any, Any, None]]) -> Callable[[World], None]:
    """A promise, checked in each world on an event loop of its own."""

    @functools.wraps(test)
    def check(world: World) -> None:
        async def main() -> None:
            async with world.start(world) as running:
                await test(running)

        world.run(main())

    del check.__wrapped__  # pytest would look for `running`
    return check


async def collect(session: SpeechSession) -> list[SpeechEvent]:
    async with asyncio.timeout(60):
        return [event async for event in session.events()]


async def feed(running: Running, session: SpeechSession, pcm: bytes, start_ns: int = 0) -> None:
    for frame in frames(pcm, start_ns):
        await session.send(frame)
        await asyncio.sleep(running.world.pace_s)


async def dub(running: Running, pcm: bytes, start_ns: int = 0) -> list[SpeechEvent]:
    backend = running.backend()
    session = await backend.open(TARGET)
    collecting = asyncio.create_task(collect(session))
    await feed(running, session, pcm, start_ns)
    await session.finish()
    events = await collecting
    assert session.dropped_frames == 0
    await session.aclose()
    await backend.aclose()
    return events


@contextlib.asynccontextmanager
async def opened(running: Running) -> AsyncIterator[SpeechSession]:
    backend = running.backend()
    session = await backend.open(TARGET)
    yield session
    await session.aclose()
    await backend.aclose()


@contextlib.contextmanager
def at_most(seconds: float) -> Any:
    """By the wall's clock and by the loop's."""
    loop = asyncio.get_running_loop()
    began = time.monotonic(), loop.time()
    yield
    assert time.monotonic() - began[0] < seconds
    assert loop.time() - began[1] < seconds


def segments(events: list[SpeechEvent]) -> list[SegmentEvent]:
    return [event for event in events if isinstance(event, SegmentEvent)]


@contract
async def test_segments_come_in_order_with_lineage_inside_what_was_sent(running: Running) -> None:
    start_ns = 7 * NS_PER_S
    events = await dub(running, sine(6.0), start_ns)
    found = [event.segment for event in segments(events)]
    assert [segment.sequence for segment in found] == list(range(len(found)))
    assert len(found) >= 2
    assert abs(found[0].source_start_ns - start_ns) <= 100 * NS_PER_MS
    assert abs(found[-1].source_end_ns - (start_ns + 6 * NS_PER_S)) <= 500 * NS_PER_MS
    for before, after in itertools.pairwise(found):
        assert before.source_end_ns <= after.source_start_ns  # no overlap is left
        assert after.source_start_ns - before.source_end_ns <= 100 * NS_PER_MS  # nothing is missing
    for segment in found:
        assert start_ns <= segment.source_start_ns < segment.source_end_ns <= start_ns + 6 * NS_PER_S
        assert segment.samples.dtype.name == "float32" and abs(segment.samples).max() > 0.1
    assert any(segment.translation for segment in found)


@pytest.mark.parametrize("world", [WORLDS["stream"], WORLDS["http"]], ids=["stream", "http"])
@contract
async def test_the_tone_mock_answers_second_by_second(running: Running) -> None:
    found = [event.segment for event in segments(await dub(running, sine(6.0)))]
    assert len(found) >= 4
    for segment in found:
        assert abs(segment.duration_ns - (segment.source_end_ns - segment.source_start_ns)) <= NS_PER_MS
        assert segment.translation.startswith("[tone ")


@contract
async def test_events_end_with_finished_after_progress_to_the_end(running: Running) -> None:
    events = await dub(running, sine(2.0) + silence(1.0))
    assert events[-1] == ClosedEvent("finished", "all was dubbed", retryable=False)
    progress = [event.processed_until_ns for event in events if isinstance(event, ProgressEvent)]
    assert progress == sorted(progress)
    assert progress[-1] == 3 * NS_PER_S
    assert segments(events)


@contract
async def test_progress_never_passes_a_segment_still_to_come(running: Running) -> None:
    done = 0
    for event in await dub(running, silence(1.0) + sine(2.0) + silence(1.0) + sine(1.0)):
        if isinstance(event, ProgressEvent):
            done = event.processed_until_ns
        elif isinstance(event, SegmentEvent):
            assert event.segment.source_start_ns >= done


@contract
async def test_silence_gives_progress_and_no_segment(running: Running) -> None:
    events = await dub(running, silence(4.0))
    assert not segments(events)
    assert not [event for event in events if isinstance(event, LostEvent)]
    assert sum(isinstance(event, ProgressEvent) for event in events) >= 2


@contract
async def test_sessions_of_one_backend_are_apart(running: Running) -> None:
    one, two = await asyncio.gather(dub(running, sine(3.0)), dub(running, silence(3.0)))
    assert segments(one) and not segments(two)


@contract
async def test_aclose_is_quick_ends_events_and_frees_the_service(running: Running) -> None:
    async with opened(running) as session:
        collecting = asyncio.create_task(collect(session))
        await feed(running, session, sine(1.0))
        with at_most(1.0):
            await session.aclose()
        await session.aclose()
        assert isinstance((await collecting)[-1], ClosedEvent)
        with pytest.raises(SpeechError):
            await session.send(SpeechFrame(0, bytes(3200)))
        async with asyncio.timeout(5):
            while running.sessions():
                await asyncio.sleep(0.02)


@contract
async def test_cancelled_reader_leaves_a_session_that_closes(running: Running) -> None:
    async with opened(running) as session:
        reading = asyncio.create_task(collect(session))
        await feed(running, session, sine(1.0))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        with at_most(1.0):
            await session.aclose()


@contract
async def test_events_that_nobody_reads_stay_few(running: Running) -> None:
    async with opened(running) as session:
        for _ in range(30):
            await feed(running, session, sine(0.7) + silence(0.3))
        with at_most(1.0):
            await session.aclose()
        assert len(await collect(session)) <= 300


@contract
async def test_sound_faster_than_it_can_be_sent_is_dropped_and_counted(running: Running) -> None:
    async with opened(running) as session:
        collecting = asyncio.create_task(collect(session))
        for frame in frames(sine(60.0)):  # without a chance for the network in between
            await session.send(frame)
        await session.finish()
        events = await collecting
        assert session.dropped_frames > 100
        lost = [event for event in events if isinstance(event, LostEvent)]
        assert lost and lost[0].source_start_ns < lost[0].source_end_ns
        assert len(segments(events)) < 20


@contract
async def test_service_killed_midway_closes_retryable(running: Running) -> None:
    async with opened(running) as session:
        collecting = asyncio.create_task(collect(session))
        await feed(running, session, sine(2.0))
        await running.stop()
        with pytest.raises(SpeechError):
            async with asyncio.timeout(20):
                while True:
                    await feed(running, session, sine(0.5))
        last = (await collecting)[-1]
        assert isinstance(last, ClosedEvent)
        assert last.retryable and last.code != "finished"


def test_nobody_there_is_retryable(world: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def main() -> None:
        backend = world.make(f"{world.scheme}://127.0.0.1:{port}", "secret")
        with pytest.raises(SpeechUnavailableError) as caught:
            await backend.open(TARGET)
        assert caught.value.retryable
        await backend.aclose()

    world.run(main())


@contract
async def test_wrong_token_is_final(running: Running) -> None:
    backend = running.backend("wrong")
    with pytest.raises(SpeechError) as caught:
        await backend.open(TARGET)
    assert caught.value.code == "unauthorized"
    assert not caught.value.retryable
    assert "wrong" not in str(caught.value)
    await backend.aclose()

"""What every speech backend promises, against a real service (the tone mock behind the real contract)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from tests.fakes.speech import frames, silence, sine

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
from babelcast.speech.sts_http import StsHttpBackend
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.serve import serving
from babelcast.sts.service import Limits, Service
from babelcast.sts.tone import ToneEngine
from babelcast.units import NS_PER_MS, NS_PER_S, SpeechFrame

pytestmark = pytest.mark.integration

TARGET = SpeechTarget("show", "en", "es")
MakeBackend = Callable[..., SpeechBackend]


@pytest.fixture(params=[StsStreamBackend, StsHttpBackend], ids=["stream", "http"])
def make(request: pytest.FixtureRequest) -> MakeBackend:
    kind: MakeBackend = request.param
    return kind


class Running:
    """A service that a test can stop before its end."""

    def __init__(self, stack: AsyncExitStack, url: str, service: Service) -> None:
        self._stack, self.url, self.service = stack, url, service

    async def stop(self) -> None:
        await self._stack.aclose()


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        service = Service(ToneEngine(), Limits(sessions=2), token="secret")
        yield Running(stack, await stack.enter_async_context(serving(service)), service)


@pytest_asyncio.fixture
async def backend(make: MakeBackend, running: Running) -> AsyncIterator[SpeechBackend]:
    backend = make(running.url, token="secret")
    yield backend
    await backend.aclose()


async def collect(session: SpeechSession) -> list[SpeechEvent]:
    async with asyncio.timeout(20):
        return [event async for event in session.events()]


async def feed(session: SpeechSession, pcm: bytes, start_ns: int = 0, pace_s: float = 0.005) -> None:
    for frame in frames(pcm, start_ns):
        await session.send(frame)
        await asyncio.sleep(pace_s)


async def dub(backend: SpeechBackend, pcm: bytes, start_ns: int = 0) -> list[SpeechEvent]:
    session = await backend.open(TARGET)
    collecting = asyncio.create_task(collect(session))
    await feed(session, pcm, start_ns)
    await session.finish()
    events = await collecting
    assert session.dropped_frames == 0
    await session.aclose()
    return events


def segments(events: list[SpeechEvent]) -> list[SegmentEvent]:
    return [event for event in events if isinstance(event, SegmentEvent)]


async def test_segments_come_in_order_with_lineage_inside_what_was_sent(backend: SpeechBackend) -> None:
    start_ns = 7 * NS_PER_S
    events = await dub(backend, sine(6.0), start_ns)
    found = [event.segment for event in segments(events)]
    assert [segment.sequence for segment in found] == list(range(len(found)))
    assert len(found) >= 4
    assert found[0].source_start_ns == start_ns
    assert abs(found[-1].source_end_ns - (start_ns + 6 * NS_PER_S)) <= 100 * NS_PER_MS
    for before, after in itertools.pairwise(found):
        assert before.source_end_ns == after.source_start_ns  # no overlap is left, nothing is missing
    for segment in found:
        assert abs(segment.duration_ns - (segment.source_end_ns - segment.source_start_ns)) <= NS_PER_MS
        assert segment.samples.dtype.name == "float32" and abs(segment.samples).max() > 0.1
        assert segment.translation.startswith("[tone ")


async def test_events_end_with_finished_after_progress_to_the_end(backend: SpeechBackend) -> None:
    events = await dub(backend, sine(2.0) + silence(1.0))
    assert events[-1] == ClosedEvent("finished", "all was dubbed", retryable=False)
    progress = [event.processed_until_ns for event in events if isinstance(event, ProgressEvent)]
    assert progress == sorted(progress)
    assert progress[-1] == 3 * NS_PER_S


async def test_progress_never_passes_a_segment_still_to_come(backend: SpeechBackend) -> None:
    done = 0
    for event in await dub(backend, silence(1.0) + sine(2.0) + silence(1.0) + sine(1.0)):
        if isinstance(event, ProgressEvent):
            done = event.processed_until_ns
        elif isinstance(event, SegmentEvent):
            assert event.segment.source_start_ns >= done


async def test_silence_gives_progress_and_no_segment(backend: SpeechBackend) -> None:
    events = await dub(backend, silence(4.0))
    assert not segments(events)
    assert sum(isinstance(event, ProgressEvent) for event in events) >= 2


async def test_sessions_of_one_backend_are_apart(backend: SpeechBackend) -> None:
    one, two = await asyncio.gather(dub(backend, sine(3.0)), dub(backend, silence(3.0)))
    assert segments(one) and not segments(two)


async def test_aclose_is_quick_ends_events_and_frees_the_service(backend: SpeechBackend, running: Running) -> None:
    session = await backend.open(TARGET)
    collecting = asyncio.create_task(collect(session))
    await feed(session, sine(1.0))
    async with asyncio.timeout(1.0):
        await session.aclose()
    await session.aclose()
    assert isinstance((await collecting)[-1], ClosedEvent)
    with pytest.raises(SpeechError):
        await session.send(SpeechFrame(0, bytes(3200)))
    async with asyncio.timeout(5):
        while running.service.streams:
            await asyncio.sleep(0.02)


async def test_cancelled_reader_leaves_a_session_that_closes(backend: SpeechBackend) -> None:
    session = await backend.open(TARGET)
    reading = asyncio.create_task(collect(session))
    await feed(session, sine(1.0))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(1.0):
        await session.aclose()


async def test_sound_faster_than_it_can_be_sent_is_dropped_and_counted(backend: SpeechBackend) -> None:
    session = await backend.open(TARGET)
    collecting = asyncio.create_task(collect(session))
    for frame in frames(sine(60.0)):  # without a chance for the network in between
        await session.send(frame)
    await session.finish()
    events = await collecting
    assert session.dropped_frames > 100
    lost = [event for event in events if isinstance(event, LostEvent)]
    assert lost and lost[0].source_start_ns < lost[0].source_end_ns
    assert len(segments(events)) < 20
    await session.aclose()


async def test_service_killed_midway_closes_retryable(backend: SpeechBackend, running: Running) -> None:
    session = await backend.open(TARGET)
    collecting = asyncio.create_task(collect(session))
    await feed(session, sine(2.0))
    await running.stop()
    with pytest.raises(SpeechError):
        async with asyncio.timeout(20):
            while True:
                await feed(session, sine(0.5))
    last = (await collecting)[-1]
    assert isinstance(last, ClosedEvent)
    assert last.retryable and last.code != "finished"
    await session.aclose()


async def test_nobody_there_is_retryable(make: MakeBackend, free_port: Callable[[], int]) -> None:
    backend = make(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SpeechUnavailableError) as caught:
        await backend.open(TARGET)
    assert caught.value.retryable
    await backend.aclose()


async def test_wrong_token_is_final(make: MakeBackend, running: Running) -> None:
    backend = make(running.url, token="wrong")
    with pytest.raises(SpeechError) as caught:
        await backend.open(TARGET)
    assert caught.value.code == "unauthorized"
    assert not caught.value.retryable
    await backend.aclose()

"""The WebSocket client against a service that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from tests.fakes.speech import frames, silence
from tests.fakes.virtual_time import run_virtual
from tests.fakes.web import serving as web_service

from babelcast.errors import ConfigError, SpeechError, SpeechProtocolError
from babelcast.spec import BackendSpec
from babelcast.speech.base import ClosedEvent, SpeechTarget
from babelcast.speech.factory import make_backend
from babelcast.speech.sts_http import StsHttpBackend
from babelcast.speech.sts_stream import FrameQueue, StsStreamBackend, StsStreamSession
from babelcast.units import NS_PER_S, SpeechFrame
from babelcast.wire import DUB_FRAME, LAST_FRAME, STREAM_PATH, ErrorMessage, Finished, Ready, Segment, Stats

TARGET = SpeechTarget("show", "en", "es")
Script = Callable[[web.WebSocketResponse], Awaitable[None]]
READY = Ready(session_id="s", voice="v", asr="a", mt="m", tts="t").model_dump_json()
FINISHED = Finished().model_dump_json()
SEGMENT = Segment(
    segment_id="s-0",
    sequence=0,
    source_start_ns=0,
    source_end_ns=1,
    transcript="a",
    translation="b",
    voice="v",
    sample_rate=16_000,
    samples=100,
).model_dump_json()


class FakeService:
    def __init__(self) -> None:
        self.script: Script
        self.url = ""

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        await socket.receive()
        await self.script(socket)
        return socket


@pytest_asyncio.fixture
async def service() -> AsyncIterator[FakeService]:
    fake = FakeService()
    app = web.Application()
    app.router.add_get(STREAM_PATH, fake.handle)
    async with web_service(app) as url:
        fake.url = url
        yield fake


async def closed_by(service: FakeService, script: Script, silent_s: float = 6.0) -> ClosedEvent:
    """How a session ends that meets ``script`` after its ready."""

    async def whole(socket: web.WebSocketResponse) -> None:
        await socket.send_str(READY)
        await script(socket)

    service.script = whole
    backend = StsStreamBackend(service.url, silent_s=silent_s)
    session = await backend.open(TARGET)

    async def feed() -> None:
        try:
            while True:
                for frame in frames(silence(0.1)):
                    await session.send(frame)
                await asyncio.sleep(0.01)
        except SpeechError:
            pass

    async with asyncio.timeout(10):
        _, events = await asyncio.gather(feed(), _collect(session.events()))
    await session.aclose()
    await backend.aclose()
    last = events[-1]
    assert isinstance(last, ClosedEvent)
    return last


async def _collect(events: AsyncIterator[object]) -> list[object]:
    return [event async for event in events]


@pytest.mark.integration
@pytest.mark.parametrize(
    "sends",
    [
        ["no json"],
        ['{"type": "unheard of"}'],
        [DUB_FRAME.pack(0, 0, 0) + bytes(200)],
        [SEGMENT, SEGMENT],
        [SEGMENT, b"x"],
        [SEGMENT, DUB_FRAME.pack(1, 0, LAST_FRAME) + bytes(200)],
        [SEGMENT, DUB_FRAME.pack(0, 0, LAST_FRAME) + bytes(100)],
        [SEGMENT, DUB_FRAME.pack(0, 0, 0) + bytes(400)],
        [SEGMENT.replace('"source_end_ns":1', f'"source_end_ns":{30 * NS_PER_S}')],
        [SEGMENT.replace('"source_start_ns":0', '"source_start_ns":2')],
        [SEGMENT.replace('"sample_rate":16000', '"sample_rate":1000000000')],
    ],
)
async def test_a_broken_protocol_ends_the_session_retryable(service: FakeService, sends: list[str | bytes]) -> None:
    async def script(socket: web.WebSocketResponse) -> None:
        for message in sends:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        await asyncio.sleep(5)

    closed = await closed_by(service, script)
    assert closed.code == "internal" and closed.retryable
    assert "was lost" not in closed.reason, "that was the script's end"


@pytest.mark.integration
@pytest.mark.parametrize("retryable", [True, False])
async def test_an_error_says_itself_whether_it_passes(service: FakeService, retryable: bool) -> None:
    async def script(socket: web.WebSocketResponse) -> None:
        message = ErrorMessage(code="engine_failed", message="oh", retryable=retryable)
        await socket.send_str(message.model_dump_json())

    assert await closed_by(service, script) == ClosedEvent("engine_failed", "oh", retryable)


@pytest.mark.integration
async def test_a_connection_that_ends_is_retryable(service: FakeService) -> None:
    async def script(socket: web.WebSocketResponse) -> None:
        await socket.close()

    assert (await closed_by(service, script)).retryable


@pytest.mark.integration
async def test_a_service_that_hears_and_says_nothing_is_hung(service: FakeService) -> None:
    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(Stats(received_until_ns=0, queued_ms=0, realtime_factor=0, segments=0).model_dump_json())
        async for _ in socket:
            pass

    closed = await closed_by(service, script, silent_s=0.3)
    assert closed.code == "deadline" and closed.retryable


@pytest.mark.integration
async def test_an_open_that_is_answered_by_nonsense(service: FakeService) -> None:
    async def script(socket: web.WebSocketResponse) -> None:
        await socket.send_str(SEGMENT)
        await asyncio.sleep(1)

    service.script = script
    backend = StsStreamBackend(service.url)
    with pytest.raises(SpeechProtocolError):
        await backend.open(TARGET)
    await backend.aclose()


@pytest.mark.unit
async def test_full_frame_queue_drops_the_oldest() -> None:
    queue = FrameQueue(1.0)
    gone = [frame for frame in frames(silence(1.5)) for frame in queue.put(frame)]
    assert [frame.start_ns for frame in gone] == [place * 100_000_000 for place in range(5)]
    assert queue.dropped == 5
    queue.end()
    left: list[SpeechFrame] = []
    while frame := await queue.take():
        left.append(frame)
    assert len(left) == 10 and left[0].start_ns == 500_000_000


@pytest.mark.unit
def test_factory() -> None:
    assert make_backend(BackendSpec(kind="none")) is None
    assert isinstance(make_backend(BackendSpec(kind="tone", url="http://h")), StsHttpBackend)
    assert isinstance(make_backend(BackendSpec(kind="sts", url="https://h")), StsStreamBackend)
    for url in (None, "ftp://h"):
        with pytest.raises(ConfigError):
            make_backend(BackendSpec(kind="sts", url=url))


class FakeSocket:
    """In the place of the client's WebSocket, without a network: time may be virtual."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    async def send_bytes(self, data: bytes) -> None: ...

    async def send_str(self, data: str) -> None: ...

    async def receive(self) -> aiohttp.WSMessage:
        return await self.messages.get()

    async def close(self) -> None: ...


@pytest.mark.unit
@pytest.mark.parametrize(("answers_s", "code"), [(1.0, "finished"), (None, "deadline")])
def test_the_time_to_answer_begins_with_the_sound_and_not_before(answers_s: float | None, code: str) -> None:
    """The source's sound comes late: when it has come, the service has its time."""

    async def main() -> tuple[ClosedEvent, float]:
        loop = asyncio.get_running_loop()
        socket, ready = FakeSocket(), Ready.model_validate_json(READY)
        session = StsStreamSession(cast(aiohttp.ClientWebSocketResponse, socket), ready, 5.0, 6.0)
        session.start()
        await asyncio.sleep(5.9)
        began = loop.time()
        await session.send(next(frames(silence(0.1))))
        if answers_s is not None:
            await asyncio.sleep(answers_s)
            socket.messages.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, FINISHED, None))
        closed = [event async for event in session.events()][-1]
        assert isinstance(closed, ClosedEvent)
        await session.aclose()
        return closed, loop.time() - began

    closed, after_s = run_virtual(main())
    assert closed.code == code and after_s == pytest.approx(answers_s or 6.0, abs=0.1)

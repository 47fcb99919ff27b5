"""The service's edge with the tone mock: tokens' limits, draining, resumption, clients that misbehave, TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from tests.fakes.certificates import loopback_pem
from tests.fakes.speech import frames, silence, sine

from babelcast.speech.base import SegmentEvent, SpeechTarget
from babelcast.speech.retry import RetryBackend, RetrySettings
from babelcast.speech.sts_stream import StsStreamBackend, StsStreamSession
from babelcast.sts.auth import Client, ClientLimits, Clients, digest
from babelcast.sts.engine import Output
from babelcast.sts.resume import Resumption
from babelcast.sts.serve import Tls, serving
from babelcast.sts.service import Limits, Service
from babelcast.sts.tone import ToneEngine, ToneSession
from babelcast.units import NS_PER_S
from babelcast.wire import PROCESS_PATH, SOURCE_FRAME, STREAM_PATH, Start

pytestmark = pytest.mark.integration

BODY = {
    "fragment_id": "f",
    "stream_id": "s",
    "sequence_number": 3,
    "duration_ms": 1_000,
    "sample_rate": 16_000,
    "channels": 1,
    "audio": base64.b64encode(sine(1.0)).decode(),
    "source_language": "en",
    "target_language": "es",
}


def start(**changes: Any) -> str:
    first = {"type": "start", "version": 2, "stream_id": "s", "source_language": "en", "target_language": "es"}
    return json.dumps({key: value for key, value in (first | changes).items() if value is not None})


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def until(condition: Callable[[], object], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def talk(ws: aiohttp.ClientWebSocketResponse, pcm: bytes, start_ns: int = 0) -> None:
    for frame in frames(pcm, start_ns):
        await ws.send_bytes(SOURCE_FRAME.pack(frame.start_ns) + frame.pcm)


async def messages(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [json.loads(message.data) async for message in ws if message.type is aiohttp.WSMsgType.TEXT]


def limited(**limits: Any) -> Service:
    return Service(ToneEngine(), clients=Clients([(digest("secret-1"), Client("studio", ClientLimits(**limits)))]))


HEADERS = {"Authorization": "Bearer secret-1"}


async def test_a_token_s_sessions_are_limited_at_the_upgrade(http: aiohttp.ClientSession) -> None:
    async with serving(limited(sessions=1)) as url:
        async with http.ws_connect(url + STREAM_PATH, headers=HEADERS) as first:
            await first.send_str(start())
            assert (await first.receive_json())["type"] == "ready"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(url + STREAM_PATH, headers=HEADERS)
        assert caught.value.status == 429 and caught.value.headers and int(caught.value.headers["Retry-After"]) >= 1


async def test_a_token_s_requests_and_sound_are_limited(http: aiohttp.ClientSession) -> None:
    service = limited(requests_per_s=1, audio_s_per_min=2)
    async with serving(service) as url:
        statuses = []
        # a region is the caller's own word: it makes no series of its own
        for language in ("es-AR", "es-XYZ", "es"):
            body = BODY | {"target_language": language}
            async with http.post(url + PROCESS_PATH, json=body, headers=HEADERS) as answer:
                statuses.append(answer.status)
                found = await answer.json()
        assert statuses == [200, 200, 429] and int(answer.headers["Retry-After"]) >= 1
        assert (found["code"], found["retryable"]) == ("rate_limited", True)
        value = service.metrics.registry.get_sample_value
        assert value("sts_limited_total", {"client": "studio"}) == 1
        assert value("sts_source_seconds_total", {"client": "studio"}) == 2
        assert value("sts_speech_seconds_total", {"client": "studio", "language": "es"}) == 2


async def test_a_session_that_sends_more_sound_than_its_token_may_ends_with_the_reason(
    http: aiohttp.ClientSession,
) -> None:
    async with serving(limited(audio_s_per_min=3)) as url, http.ws_connect(url + STREAM_PATH, headers=HEADERS) as ws:
        await ws.send_str(start())
        await talk(ws, silence(5.0))
        last = (await messages(ws))[-1]
        assert (last["type"], last["code"]) == ("error", "rate_limited") and last["retry_after_s"] > 0
        assert ws.close_code == 1013


async def test_draining_tells_sessions_refuses_new_ones_and_ends_when_empty(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine())
    async with serving(service) as url:
        async with http.ws_connect(url + STREAM_PATH) as ws:
            await ws.send_str(start())
            assert (await ws.receive_json())["type"] == "ready"
            async with http.post(url + "/admin/drain?deadline_s=20") as answer:
                assert answer.status == 202 and (await answer.json())["sessions"] == 1
            assert await ws.receive_json() == {"type": "going_away", "deadline_s": 20.0}
            async with http.get(url + "/healthz") as answer:
                assert answer.status == 503 and (await answer.json())["status"] == "draining"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(url + STREAM_PATH)
            assert caught.value.status == 503 and caught.value.headers and caught.value.headers["Retry-After"]
            async with http.post(url + PROCESS_PATH, json=BODY) as answer:
                assert answer.status == 503
            assert not service.drained.is_set()
            await talk(ws, sine(0.5) + silence(0.5))
            await ws.send_str('{"type":"finish"}')
            assert "segment" in {message["type"] for message in await messages(ws)}  # it is served to its end
        await asyncio.wait_for(service.drained.wait(), 5)


async def test_who_may_drain(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine(), admin_token="admin-secret")) as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with http.post(url + "/admin/drain", headers=headers) as answer:
                assert answer.status == 401
        async with http.post(url + "/admin/drain?deadline_s=soon") as answer:
            assert answer.status == 422 and answer.content_type == "application/problem+json"
    async with serving(Service(ToneEngine())) as url:
        async with http.post(url + "/admin/drain", headers={"X-Forwarded-For": "192.0.2.1"}) as answer:
            assert answer.status == 401


async def test_a_session_cut_off_keeps_its_place_and_goes_on_under_its_name(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine(), Limits(sessions=1))
    async with serving(service) as url:
        ws = await http.ws_connect(url + STREAM_PATH)
        await ws.send_str(start())
        ready = await ws.receive_json()
        pcm = sine(0.5) + silence(0.6) + sine(0.5) + silence(0.6)
        await talk(ws, pcm[: 2 * 16_000])
        while (found := await ws.receive_json())["type"] != "segment":
            pass
        assert ws._writer.transport
        ws._writer.transport.abort()
        await until(lambda: not service.streams)
        async with http.ws_connect(url + STREAM_PATH) as other:
            await other.send_str(start())
            assert (await other.receive_json())["code"] == "overloaded"
        resume = {"token": ready["resume_token"], "answered_until_ns": found["source_end_ns"], "next_sequence": 1}
        async with http.ws_connect(url + STREAM_PATH) as again:
            await again.send_str(start(resume=resume))
            assert (await again.receive_json())["session_id"] == ready["session_id"]
            await talk(again, pcm)  # all of it again
            await again.send_str('{"type":"finish"}')
            said = [message for message in await messages(again) if message["type"] == "segment"]
    assert [message["segment_id"] for message in said] == [f"{ready['session_id']}-1"]
    assert said[0]["source_start_ns"] >= found["source_end_ns"]


async def test_a_client_that_leaves_of_its_own_will_leaves_its_place(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine(), Limits(sessions=1))
    async with serving(service) as url:
        for _ in range(3):
            async with http.ws_connect(url + STREAM_PATH) as ws:
                await ws.send_str(start())
                assert (await ws.receive_json())["type"] == "ready"
            await until(lambda: not service.streams)


async def test_a_client_that_is_back_before_it_was_missed_replaces_itself(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine(), Limits(sessions=1))
    async with serving(service) as url, http.ws_connect(url + STREAM_PATH) as first:
        await first.send_str(start())
        ready = await first.receive_json()
        resume = {"token": ready["resume_token"], "answered_until_ns": 0, "next_sequence": 0}
        async with http.ws_connect(url + STREAM_PATH) as second:
            await second.send_str(start(resume=resume))
            assert (await second.receive_json())["session_id"] == ready["session_id"]
            assert (await messages(first))[-1]["message"] == "the session goes on on another connection"
            assert len(service.streams) == 1


async def test_the_worker_s_client_goes_on_at_another_replica_and_nothing_is_said_twice() -> None:
    """Two replicas with one key behind one address; the first one is killed in the middle of a stretch of speech."""
    services = [Service(ToneEngine(), resumption=Resumption("key")) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(service)) for service in services]
        backend = StsStreamBackend(urls[0])
        session = await RetryBackend(backend, RetrySettings(first_pause_s=0.01)).open(SpeechTarget("show", "en", "es"))
        heard: list[SegmentEvent] = []

        async def collect() -> None:
            heard.extend([event async for event in session.events() if isinstance(event, SegmentEvent)])

        collecting = asyncio.create_task(collect())
        pcm = b"".join(sine(0.4) + silence(0.5) for _ in range(6))
        for number, frame in enumerate(frames(pcm)):
            await session.send(frame)
            await asyncio.sleep(0.01)
            if number == 30:
                inner = session._inner
                assert isinstance(inner, StsStreamSession)
                name = inner.ready.session_id
                backend._url = urls[1]
                transport = inner._socket._writer.transport
                assert transport
                transport.abort()
        await until(lambda: services[1].streams)
        assert {stream.session_id for stream in services[1].streams} == {name}
        await session.finish()
        await asyncio.wait_for(collecting, 10)
        await session.aclose()
        await backend.aclose()
    starts = [event.segment.source_start_ns for event in heard]
    assert len(starts) == 6 and starts == sorted(set(starts))
    assert len({event.segment.segment_id for event in heard}) == 6
    assert services[1].metrics.registry.get_sample_value("sts_resumed_total") == 1


async def test_the_worker_s_client_leaves_a_replica_that_drains_without_a_gap() -> None:
    services = [Service(ToneEngine()) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(service)) for service in services]
        backend = StsStreamBackend(urls[0])
        session = await RetryBackend(backend, RetrySettings(first_pause_s=0.01)).open(SpeechTarget("show", "en", "es"))
        heard: list[SegmentEvent] = []

        async def collect() -> None:
            heard.extend([event async for event in session.events() if isinstance(event, SegmentEvent)])

        collecting = asyncio.create_task(collect())
        for number, frame in enumerate(frames(b"".join(sine(0.4) + silence(0.5) for _ in range(6)))):
            await session.send(frame)
            await asyncio.sleep(0.01)
            if number == 20:
                await until(lambda: services[0].streams)
                services[0].drain_soon(10.0)
                backend._url = urls[1]
        await asyncio.wait_for(services[0].drained.wait(), 5)
        await session.finish()
        await asyncio.wait_for(collecting, 10)
        await session.aclose()
        await backend.aclose()
    starts = [event.segment.source_start_ns for event in heard]
    assert len(starts) == 6 and starts == sorted(set(starts))
    assert [event.segment.sequence for event in heard] == list(range(6))


class SlowSession(ToneSession):
    def push(self, source_ns: int, pcm: bytes) -> list[Output]:
        time.sleep(0.02)
        return super().push(source_ns, pcm)


class SlowEngine(ToneEngine):
    def open(self, start: Start, session_id: str) -> ToneSession:
        return SlowSession(start, session_id)


async def test_a_session_that_could_not_be_dubbed_in_time_is_refused_at_once(http: aiohttp.ClientSession) -> None:
    service = Service(SlowEngine(), Limits(capacity=0.3))
    async with serving(service) as url, http.ws_connect(url + STREAM_PATH) as ws:
        await ws.send_str(start())
        await talk(ws, silence(6.0))
        while (found := await ws.receive_json())["type"] != "progress" or found["processed_until_ns"] < 5.9 * NS_PER_S:
            pass
        async with http.ws_connect(url + STREAM_PATH) as other:
            await other.send_str(start())
            found = await other.receive_json()
        assert (found["code"], found["retryable"]) == ("overloaded", True) and found["retry_after_s"] > 0
        assert "could not be dubbed in time" in found["message"]


async def test_a_client_that_never_reads_is_closed_and_others_do_not_notice(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine(), Limits(send_s=0.3))
    async with serving(service) as url:
        live = await http.ws_connect(url + STREAM_PATH)
        await live.send_str(start(stream_id="live"))
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        deaf.setblocking(False)
        await shout(deaf)
        await until(lambda: len(service.streams) == 1)
        # also the connection is gone, not only the session
        assert await gone(deaf)
        deaf.close()
        await talk(live, sine(0.5) + silence(0.5))
        await live.send_str('{"type":"finish"}')
        assert "segment" in {message["type"] for message in await messages(live)}
        assert service.metrics.registry.get_sample_value("sts_closed_total", {"reason": "finished"}) == 1
        await live.close()


async def shout(deaf: socket.socket) -> None:
    """A handshake, a start and sound until nothing more is taken, without one byte read."""
    loop = asyncio.get_running_loop()
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET {STREAM_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    await loop.sock_sendall(deaf, f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    await loop.sock_sendall(deaf, ws_frame(1, start(stream_id="deaf").encode()))
    with contextlib.suppress(TimeoutError, OSError):
        for number in range(2_000):
            sound = SOURCE_FRAME.pack(number * 2 * NS_PER_S) + sine(2.0)
            await asyncio.wait_for(loop.sock_sendall(deaf, ws_frame(2, sound)), 5.0)


def ws_frame(opcode: int, data: bytes) -> bytes:
    """A masked frame; the mask is zero."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    if size > 65_535:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + data


async def gone(deaf: socket.socket) -> bool:
    """Whether the other end has cut the connection: writing fails."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            deaf.send(b"x")
        except BlockingIOError:
            pass
        except OSError:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_client_that_vanishes_frees_its_session(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine(), Limits(sessions=1))
    async with serving(service) as url:
        ws = await http.ws_connect(url + STREAM_PATH)
        await ws.send_str(start())
        await ws.receive_json()
        await talk(ws, sine(0.3))
        assert ws._writer.transport
        ws._writer.transport.abort()
        await until(lambda: not service.streams)
        value = service.metrics.registry.get_sample_value
        await until(lambda: value("sts_closed_total", {"reason": "client_left"}) == 1)


async def test_a_session_from_which_nothing_comes_is_ended_and_can_go_on(http: aiohttp.ClientSession) -> None:
    service = Service(ToneEngine(), Limits(sessions=1, idle_s=0.4))
    async with serving(service) as url:
        async with http.ws_connect(url + STREAM_PATH, heartbeat=0.1) as ws:
            await ws.send_str(start())
            ready = await ws.receive_json()
            assert ready["idle_s"] == 0.4
            error = (await messages(ws))[-1]
        assert (error["type"], error["code"], error["retryable"]) == ("error", "deadline", True)
        assert error["message"] == "nothing came for 0.4 s; where there is no sound, send keep_alive"
        assert ws.close_code == 1011
        await until(lambda: not service.streams)
        async with http.ws_connect(url + STREAM_PATH) as ws:
            resume = {"token": ready["resume_token"], "answered_until_ns": 0, "next_sequence": 0}
            await ws.send_str(start(resume=resume))
            assert (await ws.receive_json())["session_id"] == ready["session_id"]
            for _ in range(8):
                await asyncio.sleep(0.1)
                await ws.send_json({"type": "keep_alive"})
            await talk(ws, sine(0.3) + silence(0.5))
            await ws.send_str('{"type":"finish"}')
            assert [each["type"] for each in await messages(ws)][-1] == "finished"


async def test_the_worker_s_client_keeps_its_session_while_its_source_is_away() -> None:
    service = Service(ToneEngine(), Limits(sessions=1, idle_s=0.6))
    async with serving(service) as url, contextlib.aclosing(StsStreamBackend(url)) as backend:
        session = await backend.open(SpeechTarget("s", "en", "es"))
        async with contextlib.aclosing(session):
            (member,) = service.streams
            await asyncio.sleep(1.5)
            for frame in frames(sine(0.3) + silence(0.5), 0):
                await session.send(frame)
            await session.finish()
            spoken = [event async for event in session.events() if isinstance(event, SegmentEvent)]
            assert len(spoken) == 1 and member.session_id == session.ready.session_id


async def test_sockets_that_say_nothing_are_few(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine(), Limits(handshakes=1))) as url, http.ws_connect(url + STREAM_PATH):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(url + STREAM_PATH)
        assert caught.value.status == 503


async def test_one_session_in_several_languages(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine())) as url, http.ws_connect(url + STREAM_PATH) as ws:
        await ws.send_str(start(target_language=None, target_languages=["es", "fr"]))
        ready = await ws.receive_json()
        assert [target["language"] for target in ready["targets"]] == ["es", "fr"]
        await talk(ws, sine(0.5) + silence(0.5))
        await ws.send_str('{"type":"finish"}')
        said = [message for message in await messages(ws) if message["type"] == "segment"]
        assert [(message["language"], message["sequence"]) for message in said] == [("es", 0), ("fr", 1)]


async def test_a_client_of_version_1_gets_nothing_that_it_does_not_know(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine())) as url, http.ws_connect(url + STREAM_PATH) as ws:
        await ws.send_str(start(version=1))
        await talk(ws, sine(0.5) + silence(0.5))
        await ws.send_str('{"type":"finish"}')
        found = {message["type"]: set(message) for message in await messages(ws)}
    assert found["ready"] == {"type", "version", "session_id", "voice", "asr", "mt", "tts"}
    assert not found["segment"] & {"language", "speaker"}


@pytest.mark.parametrize(
    "changes",
    [
        {"target_languages": ["fr"]},
        {"target_language": None},
        {"target_language": None, "target_languages": ["es", "es"]},
        {"target_language": None, "target_languages": ["es"] * 99},
        {"target_language": "../x"},
        {"sample_rate": 0},
        {"sample_rate": 10**9},
        {"stream_id": ""},
        {"stream_id": "x" * 1_000},
        {"glossary": [{"source": "x", "targets": {"es": ""}}]},
    ],
)
async def test_starts_that_are_wrong(http: aiohttp.ClientSession, changes: dict[str, Any]) -> None:
    async with serving(Service(ToneEngine())) as url, http.ws_connect(url + STREAM_PATH) as ws:
        await ws.send_str(start(**changes))
        found = await ws.receive_json()
        assert (found["type"], found["code"]) == ("error", "bad_request")
        await ws.receive()
        assert ws.close_code == 1008


async def test_a_session_may_not_last_for_ever(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine(), Limits(session_s=0.2))) as url, http.ws_connect(url + STREAM_PATH) as ws:
        await ws.send_str(start())
        assert (await ws.receive_json())["type"] == "ready"
        assert (await ws.receive_json())["type"] == "going_away"


async def test_what_the_framework_refuses_is_a_problem_too(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine())) as url:
        async with http.delete(url + PROCESS_PATH) as answer:
            assert answer.status == 405 and answer.content_type == "application/problem+json"
            assert answer.headers["Allow"] == "POST"
        async with http.get(url + STREAM_PATH) as answer:
            assert answer.status == 404 and answer.content_type == "application/problem+json"


async def test_over_tls(tmp_path: Path) -> None:
    cert, key, context = loopback_pem(tmp_path)
    async with serving(Service(ToneEngine(), token="secret"), tls=Tls(cert, key)) as url:
        assert url.startswith("https://")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            async with http.post(url + PROCESS_PATH, json=BODY, headers={"Authorization": "Bearer secret"}) as answer:
                assert answer.status == 200
            async with http.ws_connect(url + STREAM_PATH, headers={"Authorization": "Bearer secret"}) as ws:
                await ws.send_str(start())
                assert (await ws.receive_json())["type"] == "ready"

"""The service's edges, with the tone mock: bad requests, limits, refusals, shutdown."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from click.testing import CliRunner
from tests.fakes.speech import sine

from babelcast.cli.sts import command
from babelcast.errors import MissingDependencyError, SpeechUnavailableError
from babelcast.sts.auth import Client, ClientLimits, Clients, digest
from babelcast.sts.engine import FragmentResult, Output
from babelcast.sts.serve import serve, serving
from babelcast.sts.service import Limits, Service
from babelcast.sts.tone import ToneEngine, ToneSession
from babelcast.units import Pcm
from babelcast.wire import PROCESS_PATH, SOURCE_FRAME, SPEAK_PATH, STREAM_PATH, ProcessResponse, SpeakResponse, Start

pytestmark = pytest.mark.integration


class SlowSession(ToneSession):
    def push(self, source_ns: int, pcm: bytes) -> list[Output]:
        import time

        time.sleep(0.5)
        return super().push(source_ns, pcm)


class SlowEngine(ToneEngine):
    def open(self, start: Start, session_id: str) -> ToneSession:
        return SlowSession(start, session_id)

    def process(
        self, samples: Pcm, rate: int, source: str, target: str, voice: str | None, sequence: int
    ) -> FragmentResult:
        import time

        time.sleep(0.4)
        return super().process(samples, rate, source, target, voice, sequence)


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    async with serving(Service(ToneEngine(), Limits(sessions=1, queue_s=1.0))) as url:
        yield url


def request(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
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
    return body | changes


def start(**changes: Any) -> str:
    return json.dumps({"type": "start", "stream_id": "s", "source_language": "en", "target_language": "es"} | changes)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 2), (22_050, 1)])
async def test_process_answers_as_long_as_it_was_asked(
    url: str, http: aiohttp.ClientSession, rate: int, channels: int
) -> None:
    pcm = (8_000 * np.ones(rate * channels)).astype("<i2").tobytes()
    audio = base64.b64encode(pcm).decode()
    async with http.post(url + PROCESS_PATH, json=request(sample_rate=rate, channels=channels, audio=audio)) as answer:
        assert answer.status == 200
        found = ProcessResponse.model_validate_json(await answer.text())
    assert len(base64.b64decode(found.audio)) == len(pcm)
    assert found.sequence_number == 3 and found.translation == "[tone 587 Hz]"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"audio": "***"}, "base64"),
        ({"audio": "é"}, "base64"),
        ({"audio": ""}, "duration_ms"),
        ({"duration_ms": 0}, "duration_ms"),
        ({"duration_ms": 3_600_000}, "duration_ms"),
        ({"target_language": "e s"}, "target_language"),
        ({"duration_ms": 900}, "duration_ms"),
        ({"duration_ms": 31_000}, "duration_ms"),
        ({"sample_rate": 1}, "sample_rate"),
        ({"channels": 6}, "channels"),
        ({"audio": base64.b64encode(b"abc").decode()}, "S16LE"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_bad_requests_say_what_is_wrong(
    url: str, http: aiohttp.ClientSession, changes: dict[str, Any], word: str
) -> None:
    async with http.post(url + PROCESS_PATH, json=request(**changes)) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        found = await answer.json()
    assert found["code"] == "bad_request" and found["retryable"] is False
    assert word in found["detail"]


async def test_what_is_no_json_and_what_is_not_there(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(url + PROCESS_PATH, data=b"\xff{") as answer:
        assert answer.status == 400
    async with http.get(url + "/nothing") as answer:
        assert answer.status == 404 and answer.content_type == "application/problem+json"


async def test_too_large_a_body_is_refused_unread(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine(), Limits(body_bytes=1_000))) as url:
        async with http.post(url + PROCESS_PATH, json=request()) as answer:
            assert answer.status == 413


async def test_more_fragments_than_it_can_take_are_refused_retryable(http: aiohttp.ClientSession) -> None:
    async with serving(Service(SlowEngine(), Limits(requests=1, waiting_requests=1))) as url:

        async def one() -> tuple[int, str | None]:
            async with http.post(url + PROCESS_PATH, json=request()) as answer:
                return answer.status, answer.headers.get("Retry-After")

        found = await asyncio.gather(*(one() for _ in range(6)))
    statuses = [status for status, _ in found]
    assert statuses.count(503) >= 3 and statuses.count(200) >= 1
    assert (503, "1") in found


async def test_a_fragment_past_its_deadline(http: aiohttp.ClientSession) -> None:
    async with serving(Service(SlowEngine(), Limits(deadline_s=0.05))) as url:
        async with http.post(url + PROCESS_PATH, json=request()) as answer:
            assert answer.status == 504
            assert (await answer.json())["retryable"] is True


async def test_a_fragment_behind_one_that_hangs_has_its_deadline_too() -> None:
    release = threading.Event()
    service = Service(ToneEngine(), Limits(requests=1, deadline_s=0.1))
    hanging = asyncio.create_task(service.turn(release.wait, 30.0))
    try:
        async with asyncio.timeout(5):
            for turn in (hanging, asyncio.create_task(service.turn(release.wait, 30.0))):
                with pytest.raises(SpeechUnavailableError, match="too long"):
                    await turn
    finally:
        release.set()
        await service.aclose()


async def test_a_service_whose_engine_hangs_says_so_to_whoever_looks_after_it(http: aiohttp.ClientSession) -> None:
    release = threading.Event()
    service = Service(ToneEngine(), Limits(hung_s=0.2, deadline_s=0.1))
    async with serving(service) as url:

        async def status() -> tuple[int, str]:
            async with http.get(url + "/healthz") as answer:
                return answer.status, (await answer.json())["status"]

        assert await status() == (200, "ok")
        with pytest.raises(SpeechUnavailableError):
            await service.turn(release.wait, 30.0)
        await asyncio.sleep(0.2)
        assert await status() == (503, "hung")
        release.set()
        async with asyncio.timeout(5):
            while await status() != (200, "ok"):
                await asyncio.sleep(0.01)


async def test_a_model_that_does_not_load_is_the_reason_not_the_port(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ToneEngine):
        def preload(self) -> None:
            raise MissingDependencyError("the model is half", hint="babelcast models verify it")

    with pytest.raises(MissingDependencyError, match="models verify it"):
        await serve(Service(Broken()), "127.0.0.1", 0, print)
    assert "Traceback" not in caplog.text


async def test_a_bug_while_the_next_session_is_made_ready_is_said(
    http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(ToneEngine):
        loads = 0

        def preload(self) -> None:
            self.loads += 1
            if self.loads > 2:  # not the service's own
                raise ZeroDivisionError("oops")

    async with serving(Service(Buggy())) as url, http.ws_connect(url + STREAM_PATH) as ws:
        await ws.send_json({"type": "start", "stream_id": "s", "source_language": "en", "target_language": "es"})
        assert (await ws.receive_json())["type"] == "ready"
        async with asyncio.timeout(5):
            while "oops" not in caplog.text:
                await asyncio.sleep(0.02)
    assert "preloading failed" in caplog.text


async def test_openapi_metrics_health_and_docs_without_a_cdn(url: str, http: aiohttp.ClientSession) -> None:
    async with http.get(url + "/openapi.json") as answer:
        api = await answer.json()
    assert api["paths"][PROCESS_PATH]["post"]["requestBody"]["content"]["application/json"]["example"]
    async with http.post(url + PROCESS_PATH, json=request()):
        pass
    async with http.get(url + "/metrics") as answer:
        assert 'sts_requests_total{status="200"} 1.0' in await answer.text()
    async with http.get(url + "/healthz") as answer:
        assert (await answer.json())["status"] == "ok"
    async with http.get(url + "/docs") as answer:
        page = await answer.text()
    assert "openapi.json" in page and "http://" not in page and "https://" not in page


async def test_the_openapi_page_is_whole(url: str, http: aiohttp.ClientSession) -> None:
    async with http.get(url + "/openapi.json") as answer:
        text = await answer.text()
    api = json.loads(text)
    assert {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]} <= set(
        api["components"]["schemas"]
    )
    for path, method in ((PROCESS_PATH, "post"), ("/admin/drain", "post")):
        for status, described in api["paths"][path][method]["responses"].items():
            if int(status) >= 400:
                (problem,) = described["content"].items()
                assert problem[0] == "application/problem+json" and problem[1]["example"]["status"] == int(status)


async def test_session_over_the_limit_is_refused_retryable(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(url + STREAM_PATH) as first:
        await first.send_str(start())
        assert (await first.receive_json())["type"] == "ready"
        async with http.ws_connect(url + STREAM_PATH) as second:
            await second.send_str(start())
            found = await second.receive_json()
            assert (found["type"], found["code"], found["retryable"]) == ("error", "overloaded", True)


@pytest.mark.parametrize(
    "first", ["{}", "no json", '{"type":"finish"}', start(version=99), start(max_segment_ms=1), start(extra=1)]
)
async def test_a_wrong_start_is_a_bad_request(url: str, http: aiohttp.ClientSession, first: str) -> None:
    async with http.ws_connect(url + STREAM_PATH) as socket:
        await socket.send_str(first)
        found = await socket.receive_json()
        assert (found["code"], found["retryable"]) == ("bad_request", False)
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("data", [b"", b"1234567", SOURCE_FRAME.pack(0), SOURCE_FRAME.pack(0) + b"odd"])
async def test_wrong_frames_are_bad_requests(url: str, http: aiohttp.ClientSession, data: bytes) -> None:
    async with http.ws_connect(url + STREAM_PATH) as socket:
        await socket.send_str(start())
        await socket.receive_json()
        await socket.send_bytes(data)
        assert (await socket.receive_json())["code"] == "bad_request"


async def test_a_session_that_can_not_keep_up_ends_overloaded(http: aiohttp.ClientSession) -> None:
    async with serving(Service(SlowEngine(), Limits(queue_s=1.0))) as url, http.ws_connect(url + STREAM_PATH) as socket:
        await socket.send_str(start())
        await socket.receive_json()
        for place in range(40):
            await socket.send_bytes(SOURCE_FRAME.pack(place * 100_000_000) + bytes(3_200))
        async with asyncio.timeout(10):
            while (found := await socket.receive_json())["type"] != "error":
                pass
        assert (found["code"], found["retryable"]) == ("overloaded", True)


async def test_a_stop_says_going_away_and_closes_sessions(http: aiohttp.ClientSession) -> None:
    async with serving(Service(ToneEngine())) as url:
        socket = await http.ws_connect(url + STREAM_PATH)
        await socket.send_str(start())
        await socket.receive_json()
    types = []
    async with asyncio.timeout(5):
        async for message in socket:
            types.append(json.loads(message.data)["type"])
    assert types == ["going_away"]


def test_the_command_says_ready_and_ends_on_ctrl_c() -> None:
    command = [sys.executable, "-m", "babelcast", "sts", "--port", "0", "--engine", "tone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert line.startswith("sts ready at http://127.0.0.1:")
    assert process.returncode == 0 and "Traceback" not in errors


@pytest.mark.parametrize(("host", "token", "warned"), [("0.0.0.0", "", True), ("0.0.0.0", "t", False), ("", "", False)])
def test_the_command_warns_where_anybody_may_come_in(
    host: str, token: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def served(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr("babelcast.sts.serve.serve", served)
    options = ["--engine", "tone", *(["--host", host] if host else [])]
    result = CliRunner().invoke(command, options, env={"BABELCAST_STS_TOKEN": token})
    assert result.exit_code == 0 and ("no token is set" in result.stderr) is warned


async def test_a_text_is_said(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(url + SPEAK_PATH, json={"text": "Good evening", "language": "en"}) as answer:
        assert answer.status == 200
        said = SpeakResponse.model_validate_json(await answer.text())
    samples = np.frombuffer(base64.b64decode(said.audio), "<i2")
    assert len(samples) / said.sample_rate * 1e3 == pytest.approx(said.duration_ms, abs=0.1)
    assert said.duration_ms == pytest.approx(len("Good evening") / 15 * 1e3, abs=1) and np.abs(samples).max() > 5_000


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"text": ""}, "text"), ({"text": "x" * 1_001}, "text"), ({"language": "e n"}, "language"), ({"rate": 2}, "rate")],
)
async def test_what_can_not_be_said_is_named(
    url: str, http: aiohttp.ClientSession, changes: dict[str, Any], word: str
) -> None:
    async with http.post(url + SPEAK_PATH, json={"text": "Good evening", "language": "en"} | changes) as answer:
        assert answer.status == 400 and word in (await answer.json())["detail"]


async def test_saying_is_limited_like_dubbing(http: aiohttp.ClientSession) -> None:
    client = Client("studio", ClientLimits(requests_per_s=0.5))
    async with serving(Service(ToneEngine(), clients=Clients([(digest("t0ken-of-studio"), client)]))) as url:
        body = {"text": "Good evening", "language": "en"}
        async with http.post(url + SPEAK_PATH, json=body) as answer:
            assert answer.status == 401
        bearer = {"Authorization": "Bearer t0ken-of-studio"}
        async with http.post(url + SPEAK_PATH, json=body, headers=bearer) as answer:
            assert answer.status == 200
        async with http.post(url + SPEAK_PATH, json=body, headers=bearer) as answer:
            assert answer.status == 429 and "Retry-After" in answer.headers

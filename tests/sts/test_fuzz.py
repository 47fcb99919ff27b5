"""Malformed requests by the thousand against the real command: a 4xx or a closed socket each time, flat memory, and a
session that runs beside them and notices nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.fakes.speech import frames, silence, sine

from babelcast.wire import LANGUAGES_PATH, PROCESS_PATH, SOURCE_FRAME, STREAM_PATH, VOICES_PATH

pytestmark = pytest.mark.integration

PCM = base64.b64encode(sine(0.1)).decode()
BODY: dict[str, Any] = {
    "fragment_id": "f",
    "stream_id": "s",
    "sequence_number": 3,
    "duration_ms": 100,
    "sample_rate": 16_000,
    "channels": 1,
    "audio": PCM,
    "source_language": "en",
    "target_language": "es",
    "voice": None,
}
START: dict[str, Any] = {
    "type": "start",
    "version": 2,
    "stream_id": "s",
    "source_language": "en",
    "target_language": "es",
}
NASTY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**70, 1e308, float("nan"), float("inf"), "", "a", "\x00", "é" * 300, "../..",
    "x" * 20_000, [], [[]] * 50, {}, {"a": {"b": []}}, "=" * 7, "AAA=", "AQID", base64.b64encode(bytes(64)).decode(),
    3_600_000, 96_001, 7_999, "en-", "-", "zz", "en\n",
]  # fmt: skip
GROWTH = 24 << 20
"""Bytes that the process may grow by: allocator and caches, not requests."""


def mangled(rng: random.Random, whole: dict[str, Any]) -> bytes:
    """``whole`` with something wrong with it."""
    body = dict(whole)
    for _ in range(rng.randint(1, 3)):
        key = rng.choice([*whole, "surprise"])
        if rng.random() < 0.2:
            body.pop(key, None)
        else:
            body[key] = rng.choice(NASTY)
    text = json.dumps(body).encode()
    kind = rng.random()
    if kind < 0.1:
        return text[: rng.randrange(len(text))]
    if kind < 0.2:
        place = rng.randrange(len(text))
        return text[:place] + rng.randbytes(rng.randint(1, 9)) + text[place:]
    if kind < 0.25:
        return rng.randbytes(rng.randint(0, 2_000))
    if kind < 0.27:
        return b"[" * 20_000
    return text


def resident(pid: int) -> int:
    """Bytes of memory that the process holds."""
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[tuple[str, int]]:
    command = [sys.executable, "-m", "babelcast", "sts", "--port", "0", "--engine", "tone", "--drain", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout
        line = (await process.stdout.readline()).decode()
        yield line.split()[3], process.pid
        assert process.returncode is None, "the service died"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


class Beside:
    """A session that goes on while others misbehave."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._place_ns = 0
        self.segments = 0

    async def speak(self) -> None:
        """One word; returns when its dub has come."""
        for frame in frames(sine(0.3) + silence(0.5), self._place_ns):
            await self._socket.send_bytes(SOURCE_FRAME.pack(frame.start_ns) + frame.pcm)
            self._place_ns = frame.end_ns
        async with asyncio.timeout(20):
            while True:
                message = await self._socket.receive()
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
                if message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] == "segment":
                    self.segments += 1
                    return


async def rest(http: aiohttp.ClientSession, url: str, rng: random.Random) -> None:
    async with http.post(url + PROCESS_PATH, data=mangled(rng, BODY)) as answer:
        text = await answer.text()
    if answer.status != 200:  # what was mangled may still be right
        assert 400 <= answer.status < 500, (answer.status, text)
        assert json.loads(text)["status"] == answer.status and answer.content_type == "application/problem+json"


async def socket(http: aiohttp.ClientSession, url: str, rng: random.Random) -> None:
    """A session with something wrong in its first messages: an error with a reason, or it is no worse than odd."""
    async with http.ws_connect(url + STREAM_PATH) as ws:
        good = json.dumps(START)
        with contextlib.suppress(ConnectionError):
            if rng.random() < 0.6:
                await ws.send_str(mangled(rng, START).decode(errors="replace"))
            else:
                await ws.send_str(good)
                for _ in range(3):
                    sound = SOURCE_FRAME.pack(rng.choice([0, -(2**63), 2**63 - 1])) + rng.randbytes(rng.randint(0, 900))
                    await ws.send_bytes(rng.choice([b"", rng.randbytes(5), sound]))
                await ws.send_str(rng.choice(["", "{}", good, '{"type":"finish"}']))
            await ws.send_str('{"type":"finish"}')
        async with asyncio.timeout(10):
            types = [json.loads(m.data)["type"] async for m in ws if m.type is aiohttp.WSMsgType.TEXT]
        assert types and types[-1] in ("error", "finished"), types
        assert ws.close_code in (1000, 1008, 1013)


async def junk(url: str, rng: random.Random) -> None:
    """Bytes that are hardly HTTP."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = rng.choice(
        [b"", f"POST {PROCESS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".encode(), b"GET /"]
    )
    with contextlib.suppress(ConnectionError):
        writer.write(head + rng.randbytes(200) + b"\r\n\r\n")
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read(4_096)
        assert not answer or b" 4" in answer.split(b"\r\n")[0], answer
    writer.close()


async def fuzz(count: int, seed: int) -> None:
    async with service() as (url, pid), aiohttp.ClientSession() as http:
        async with http.ws_connect(url + STREAM_PATH) as ws:
            await ws.send_str(json.dumps(START))
            beside = Beside(ws)
            await beside.speak()
            rng = random.Random(seed)

            async def some(number: int) -> None:
                for _ in range(number):
                    await rest(http, url, rng)
                    if rng.random() < 0.1:
                        await socket(http, url, rng)
                    if rng.random() < 0.02:
                        await junk(url, rng)

            await some(min(count // 4, 500))  # what is loaded and cached by the first of them
            before = resident(pid)
            rounds = 10
            for _ in range(rounds):
                await some(count // rounds)
                await beside.speak()
            assert beside.segments == rounds + 1
            grown = resident(pid) - before
            assert grown < GROWTH, f"{grown >> 20} MiB more after {count} requests"
            async with http.get(url + "/healthz") as answer:
                assert (await answer.json())["sessions"] == 1


async def test_some_hundreds_of_malformed_requests() -> None:
    await fuzz(600, seed=1)


@pytest.mark.slow
async def test_ten_thousand_malformed_requests() -> None:
    await fuzz(10_000, seed=2)


async def by_schemathesis(examples: int) -> None:
    """What the OpenAPI page allows and what it forbids: answers are those that it describes, and no 5xx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from schemathesis.specs.openapi import checks
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode

    def check(url: str) -> None:
        schema = schemathesis.openapi.from_url(url + "/openapi.json")
        for path in (PROCESS_PATH, LANGUAGES_PATH, VOICES_PATH, "/healthz"):
            operation = schema[path]["POST" if path == PROCESS_PATH else "GET"]
            # a GET has nothing that could be wrong
            for mode in GenerationMode if path == PROCESS_PATH else (GenerationMode.POSITIVE,):

                @given(case=operation.as_strategy(generation_mode=mode))
                @settings(
                    max_examples=examples if path == PROCESS_PATH else 5,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def one(case: Any) -> None:
                    response = case.call(timeout=20)
                    assert response.status_code < 500, response.text
                    case.validate_response(
                        response,
                        checks=[
                            schemathesis.checks.not_a_server_error,
                            checks.content_type_conformance,
                            checks.response_schema_conformance,
                        ],
                    )

                one()

    async with service() as (url, pid), aiohttp.ClientSession() as http:
        before = resident(pid)
        async with http.ws_connect(url + STREAM_PATH) as ws:
            await ws.send_str(json.dumps(START))
            beside = Beside(ws)
            await beside.speak()
            checking = asyncio.create_task(asyncio.to_thread(check, url))
            while not checking.done():
                await beside.speak()
                await asyncio.wait({checking}, timeout=1.0)
            await checking
        assert resident(pid) - before < GROWTH


async def test_what_the_openapi_page_says_holds() -> None:
    await by_schemathesis(40)


@pytest.mark.slow
async def test_what_the_openapi_page_says_holds_two_thousand_times() -> None:
    await by_schemathesis(1_000)

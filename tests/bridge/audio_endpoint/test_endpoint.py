"""The endpoint over HTTP, with ffmpeg's encoders and decoder: what is pushed in is heard by those who listen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from tests.bridge.audio_endpoint.rig import (
    PCM,
    Listener,
    Rig,
    audio,
    encoded,
    frequencies,
    listening,
    live,
    order,
    runs,
    seconds_of,
    sine,
)
from tests.bridge.rig import arguments_of_children

from babelcast.bridge.audio_endpoint.settings import AudioSettings

pytestmark = pytest.mark.integration

_TOKEN = "aud10-t0ken"
_LAME = 0.95
"""That encoder turns everything down a little."""


async def _asked(rig: Rig, method: str, path: str, **request: Any) -> tuple[int, Any]:
    async with rig.http.request(method, path, **request) as answer:
        return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())


def _live(frequency: float) -> dict[str, Any]:
    return {"data": live(frequency), "headers": {"Content-Type": PCM}}


def _push(rig: Rig, frequency: float) -> asyncio.Task[tuple[int, Any]]:
    return asyncio.create_task(_asked(rig, "POST", "/ingest", **_live(frequency)))


def _bodies(seconds: float) -> list[tuple[str, int, bytes]]:
    return [
        ("audio/aac", 400, encoded(400, seconds, "-c:a", "aac", "-f", "adts")),
        ("audio/mpeg", 600, encoded(600, seconds, "-f", "mp3")),
        ("audio/ogg; codecs=opus", 800, encoded(800, seconds, "-c:a", "libopus", "-f", "ogg")),
        ("audio/ogg; codecs=vorbis", 1_000, encoded(1_000, seconds, "-c:a", "libvorbis", "-ac", "2", "-f", "ogg")),
        ("audio/wav", 1_200, encoded(1_200, seconds, "-f", "wav")),
        (
            "audio/L16; rate=44100; channels=2",
            1_400,
            encoded(1_400, seconds, "-ar", "44100", "-ac", "2", "-f", "s16be"),
        ),
        (PCM, 1_600, sine(1_600, seconds)),
    ]


async def _chunked(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 4_096):
        yield body[at : at + 4_096]


async def _pushed(bodies: list[tuple[str, int, bytes]], *, chunked: bool) -> Listener:
    async with audio() as rig, listening(rig) as listener:
        begun = time.monotonic()
        for content_type, _, body in bodies:
            data = _chunked(body) if chunked else body
            status, answer = await _asked(rig, "POST", "/ingest", data=data, headers={"Content-Type": content_type})
            assert status == 200 and answer["received_bytes"] == len(body), (content_type, answer)
            assert rig.endpoint.status().bed.state == "silence", "the answer comes when it has been heard"
        await asyncio.sleep(0.3)
        shown = rig.endpoint.status()
        assert (shown.producer, shown.bed.trimmed_s, shown.listeners) == (None, 0, 1)
        assert shown.late_steps or listener.seconds > time.monotonic() - begun - 0.6, "the listener never stalled"
    return listener


async def test_every_format_is_heard_whole_however_short_and_a_listener_never_stalls() -> None:
    """Half a second of each MP3 and AAC, and 20 to 40 ms of the others, was thrown away while ffmpeg looked at it."""
    lengths = ((0.2, False), (0.5, False), (0.7, False), (1.3, True))
    made = [_bodies(seconds) for seconds, _ in lengths]
    listeners = await asyncio.gather(
        *(_pushed(bodies, chunked=chunked) for (seconds, chunked), bodies in zip(lengths, made, strict=True))
    )
    for (seconds, _), bodies, listener in zip(lengths, made, listeners, strict=True):
        heard = listener.samples()
        assert order(frequencies(heard)) == [frequency for _, frequency, _ in bodies]
        for content_type, frequency, _ in bodies:
            level = _LAME if content_type == "audio/mpeg" else 1.0
            assert seconds_of(frequency, heard) == pytest.approx(seconds * level**2, rel=0.03), (content_type, seconds)


async def test_the_newest_producer_wins_without_a_hole() -> None:
    async with audio() as rig, listening(rig) as listener:
        first = _push(rig, 400)
        await rig.until(lambda: rig.endpoint.status().bed.state == "live")
        await asyncio.sleep(0.6)
        second = _push(rig, 800)
        status, problem = await first
        assert status == 409 and "another producer" in problem["detail"]
        await asyncio.sleep(0.6)
        assert not second.done() and rig.endpoint.status().replaced == 1
        second.cancel()
        await rig.until(lambda: rig.endpoint.status().producer is None)
    heard = listener.heard()
    assert order(heard) == [400, 800]
    assert 0 not in heard[heard.index(800) - 2 : heard.index(800) + 1], "no hole where it changes"


async def test_a_file_is_heard_in_the_place_of_a_live_producer_which_then_goes_on() -> None:
    """It was ended by it, so that a jingle cost the show its music."""
    async with audio() as rig, listening(rig) as listener:
        music = _push(rig, 400)
        await rig.bed_is(lambda db: db > -19)
        headers = {"Content-Type": PCM}
        for _ in range(2):
            status, _ = await _asked(rig, "POST", "/ingest", data=sine(800, 0.6), headers=headers)
            assert status == 200 and not music.done()
            await rig.bed_is(lambda db: db > -19)
        shown = rig.endpoint.status()
        assert shown.replaced == 0 and shown.producer is not None and shown.producer.kind == "live"
        assert shown.bed.queued_s < 0.8, "it has not piled up"
        another = asyncio.create_task(_asked(rig, "POST", "/ingest", data=sine(800, 8.0), headers=headers))
        await rig.until(lambda: (found := rig.endpoint.status().producer) is not None and found.kind == "file")
        newest = _push(rig, 1_200)
        assert [(await each)[0] for each in (another, music)] == [409, 409], "a newer live one ends both"
        newest.cancel()
        await rig.until(lambda: rig.endpoint.status().producers == 0)
    assert order(listener.heard())[:5] == [400, 800, 400, 800, 400]


async def test_a_short_body_is_heard_whose_sender_goes_at_once() -> None:
    """As ffmpeg does, which sends chunks and does not wait for an answer."""
    body = encoded(600, 0.5, "-f", "mp3")
    head = b"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with audio() as rig, listening(rig) as listener:
        for apart in (True, False):
            _, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rpartition(":")[2]))
            writer.write(head)
            if apart:
                await writer.drain()
                await asyncio.sleep(0.05)
            writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            await rig.until(lambda: rig.endpoint.status().bed.state == "live")
            await rig.until(lambda: rig.endpoint.status().producers == 0)
        await asyncio.sleep(0.3)
    heard = await asyncio.to_thread(listener.samples)
    assert seconds_of(600, heard) == pytest.approx(2 * 0.5 * _LAME**2, rel=0.03)


async def test_garbage_and_wrong_types_disturb_nobody() -> None:
    async with audio() as rig, listening(rig) as listener:
        good = _push(rig, 400)
        await rig.until(lambda: rig.endpoint.status().bed.state == "live")
        for content_type in ("audio/mpeg", "audio/ogg", "audio/wav", "audio/aac"):
            noise = os.urandom(20_000) if content_type != "audio/aac" else b"nothing of AAC in it " * 1_000
            status, problem = await _asked(rig, "POST", "/ingest", data=noise, headers={"Content-Type": content_type})
            assert status == 422 and content_type in problem["detail"], (content_type, problem)
        status, problem = await _asked(rig, "POST", "/ingest", data=b"", headers={"Content-Type": PCM})
        assert status == 422
        for headers in ({"Content-Type": "text/html"}, {"Content-Type": "audio/L16"}, {"Content-Type": ""}):
            status, problem = await _asked(rig, "POST", "/ingest", data=b"x" * 100_000, headers=headers)
            assert status == 415 and "audio/aac (ADTS)" in problem["accepted"]
        assert not good.done() and rig.endpoint.status().undecodable >= 4
        good.cancel()
    assert order(listener.heard()) == [400], "nothing else was heard"


async def test_a_producer_that_vanishes_leaves_silence_and_another_one_is_heard() -> None:
    async with audio() as rig, listening(rig) as listener:
        for frequency in (400, 800):
            async with aiohttp.ClientSession(rig.url) as theirs:
                task = _push(Rig(rig.endpoint, rig.url, theirs), frequency)
                await rig.until(lambda: rig.endpoint.status().bed.state == "live")
                await asyncio.sleep(0.5)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await rig.until(lambda: rig.endpoint.status().producers == 0 and rig.endpoint.status().producer is None)
            await asyncio.sleep(0.4)
        assert "s16le -ar 48000 -ac 1" not in arguments_of_children(), "no decoder is left"
    heard = listener.heard()
    assert order(heard) == [400, 800] and runs(heard)[-1][0] == 0
    assert (0, 2) <= min(each for each in runs(heard[heard.index(400) : heard.index(800)]) if each[0] == 0)


async def test_one_that_sends_nothing_is_let_go_and_there_are_not_too_many() -> None:
    async with audio(AudioSettings(producer_timeout_s=0.3, max_producers=1)) as rig:

        async def silent() -> Any:
            yield b"\0" * 100
            await asyncio.sleep(5)

        headers = {"Content-Type": PCM}
        task = asyncio.create_task(_asked(rig, "POST", "/ingest", data=silent(), headers=headers))
        await rig.until(lambda: rig.endpoint.status().producers == 1)
        status, problem = await _asked(rig, "POST", "/ingest", data=b"\0", headers=headers)
        assert status == 503 and "already" in problem["detail"]
        status, problem = await task
        assert status == 408 and "nothing came" in problem["detail"]


async def test_a_burst_of_a_live_producer_does_not_become_delay() -> None:
    async with audio() as rig:

        async def bursts() -> Any:
            yield sine(400, 3.0)
            async for chunk in live(400):
                yield chunk

        task = asyncio.create_task(_asked(rig, "POST", "/ingest", data=bursts(), headers={"Content-Type": PCM}))
        await rig.until(lambda: rig.endpoint.status().bed.trimmed_s > 1)
        await asyncio.sleep(0.5)
        assert rig.endpoint.status().bed.queued_s < 0.8
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_hundred_listen_and_the_next_one_is_refused() -> None:
    async with audio() as rig:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(rig.url, connector=connector) as many:
            counts = [0] * 200

            async def listen(number: int) -> None:
                async with many.get("/stream") as answer:
                    assert answer.status == 200
                    async for chunk in answer.content.iter_any():
                        counts[number] += len(chunk)

            tasks = [asyncio.create_task(listen(number)) for number in range(200)]
            try:
                await rig.until(lambda: rig.endpoint.listeners.count == 200 and min(counts) > 0, 30)
                status, problem = await _asked(rig, "GET", "/stream")
                assert status == 503 and "200 listen already" in problem["detail"]
                before = min(counts)
                await rig.until(lambda: min(counts) > before + 200, 10)
                shown = rig.endpoint.status()
                assert (shown.listeners, shown.listeners_refused, shown.listeners_dropped) == (200, 1, 0)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await rig.until(lambda: rig.endpoint.listeners.count == 0)


async def test_a_listener_that_never_reads_is_dropped_and_the_others_hear_on() -> None:
    async with audio(AudioSettings(stuck_s=0.3, bitrate=320_000)) as rig, listening(rig) as listener:
        producer = asyncio.create_task(
            _asked(rig, "POST", "/ingest", data=_noise(), headers={"Content-Type": "audio/pcm;channels=2"})
        )
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            await asyncio.to_thread(deaf.connect, ("127.0.0.1", int(rig.url.rpartition(":")[2])))
            deaf.sendall(b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await rig.until(lambda: rig.endpoint.listeners.count == 2)
            await rig.until(lambda: rig.endpoint.listeners.dropped == 1, 20)
            assert rig.endpoint.listeners.count == 1
        before = len(listener.data)
        await rig.until(lambda: len(listener.data) > before + 20_000)
        producer.cancel()
        await asyncio.gather(producer, return_exceptions=True)
    assert max(after - before for before, after in itertools.pairwise(listener.arrived)) < 2


async def _noise() -> Any:
    while True:
        yield os.urandom(48_000 // 50 * 4)
        await asyncio.sleep(0.019)


async def test_the_mix_is_set_and_wrong_values_are_named() -> None:
    async with audio() as rig:
        status, mix = await _asked(rig, "PATCH", "/mix", json={"bed_gain": 0.5, "ducking": {"range_db": 20}})
        assert status == 200 and (mix["bed_gain"], mix["ducking"]["range_db"]) == (0.5, 20)
        assert mix["ducking"]["enabled"] and (await _asked(rig, "GET", "/mix"))[1] == mix
        status, mix = await _asked(rig, "PATCH", "/mix", json={"bed_gain": None})
        assert mix["bed_gain"] == 1.0
        for body in ({"bed_gain": 9}, {"gain": 1}, {"ducking": {"ratio": "x"}}, [1], {"mute": "maybe"}):
            status, problem = await _asked(rig, "PATCH", "/mix", json=body)
            assert status == 422 and problem["detail"], body
        assert (await _asked(rig, "PATCH", "/mix", data=b"{"))[0] == 422
        assert (await _asked(rig, "PATCH", "/mix", data=b"x" * 100_000))[0] == 413


async def test_who_may_push_and_who_may_listen() -> None:
    settings = AudioSettings(token=SecretStr(_TOKEN), stream_token=SecretStr("l1sten"))
    async with audio(settings) as rig:
        body = {"data": sine(400, 0.1), "headers": {"Content-Type": PCM}}
        for path in ("/ingest", "/ingest?token=wrong", "/say", "/status?token=l1sten"):
            status, _ = await _asked(rig, "POST" if "status" not in path else "GET", path, **body)
            assert status == 401, path
        bearer = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": PCM}
        assert (await _asked(rig, "POST", "/ingest", data=sine(400, 0.1), headers=bearer))[0] == 200
        assert (await _asked(rig, "POST", f"/ingest?token={_TOKEN}", **body))[0] == 200
        assert (await _asked(rig, "GET", "/stream"))[0] == 401
        assert (await _asked(rig, "GET", "/healthz"))[0] == 200
        async with listening(rig, params={"token": "l1sten"}) as listener:
            await rig.until(lambda: len(listener.data) > 0)
    async with audio() as rig:
        assert (await _asked(rig, "GET", "/status", headers={"Host": "elsewhere.example"}))[0] == 403
        headers = {"Origin": "http://elsewhere.example"}
        assert (await _asked(rig, "POST", "/ingest", data=b"", headers=headers))[0] == 403
        assert (await _asked(rig, "GET", "/nothing"))[0] == 404
        async with rig.http.delete("/stream") as answer:
            assert answer.status == 405 and answer.headers["Allow"] == "GET"


async def test_a_listener_that_goes_away_at_once_costs_nothing() -> None:
    async with audio() as rig:
        for _ in range(20):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with rig.http.get("/stream", timeout=aiohttp.ClientTimeout(total=0.02)) as answer:
                    await answer.content.read(1)
        await rig.until(lambda: rig.endpoint.listeners.count == 0)

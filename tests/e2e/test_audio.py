"""The audio endpoint as a program of its own, with the bridge behind it and real producers before it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator

import pytest

from tests.bridge.rig import (
    FPS,
    bridging,
    free_udp_port,
    hears,
    largest_gap_ms,
    pictures,
    publisher,
    sounds,
    to,
    until,
)
from tests.e2e.programs import STOPPED_S, Program, babelcast, program
from tests.fakes.rtmp_destination import FakeDestination

pytestmark = [pytest.mark.e2e]

_TOKEN = "aud10-t0ken"


@contextlib.asynccontextmanager
async def _endpoint(port: int = 0) -> AsyncIterator[tuple[Program, str]]:
    async with program(*babelcast("audio", "--port", str(port)), env={"AUDIO_TOKEN": _TOKEN}) as running:
        line = await running.says(r"ready: push to (http://\S+)/ingest")
        yield running, line[1]


def _ffmpeg(url: str) -> subprocess.Popen[bytes]:
    """A live producer of MP3, as a broadcaster's encoder would push it."""
    words = "ffmpeg -v error -nostdin -re -f lavfi -i sine=frequency=660:sample_rate=44100 -b:a 128k -f mp3"
    words += " -method POST -content_type audio/mpeg -headers"
    return subprocess.Popen([*words.split(), f"Authorization: Bearer {_TOKEN}\r\n", f"{url}/ingest"])


async def test_a_producer_dies_and_comes_back_and_it_is_heard_at_the_destination() -> None:
    srt = f"srt://127.0.0.1:{free_udp_port()}"
    primary = FakeDestination()
    async with _endpoint() as (running, url), primary.listening():
        settings = {"SRT_URL": f"{srt}?mode=listener", "AUDIO_SOURCE": f"{url}/stream"}
        async with bridging(settings | to(primary)) as bridge:
            with publisher(srt, sound=False):
                await until(lambda: bridge.status().state == "live" and bool(primary.sessions))
                await until(lambda: bridge.status().sound.state == "live")
                session = primary.sessions[0]
                for _ in range(2):
                    producer = _ffmpeg(url)
                    try:
                        await hears(session, tone=True)
                    finally:
                        producer.kill()
                        producer.wait()
                    await hears(session, tone=False)
                assert bridge.status().sound.reconnects == 0, "the bridge never lost its source of sound"
        status, seconds = await running.interrupt()
        assert status == 0 and seconds < STOPPED_S
        await running.all_gone()
    assert _TOKEN not in running.text
    assert len(primary.sessions) == 1
    assert largest_gap_ms(pictures(session)[FPS * 2 :]) <= 1_000 // FPS + 1
    assert largest_gap_ms(sounds(session)[100:]) <= 23, "the sound never stops"


async def test_the_tone_command() -> None:
    async with _endpoint() as (running, url):
        tone = [*babelcast("audio", "tone", url, "--seconds", "0.5")]
        async with program(*tone, "--token", _TOKEN) as good:
            assert await good.ends() == 0
        async with program(*tone, "--token", "wrong") as bad:
            assert await bad.ends() == 1
        assert "answered 401" in bad.text and "AUDIO_TOKEN" in bad.text and "wrong" not in bad.text.replace(url, "")
        async with program(*babelcast("audio", "tone", url), env={"AUDIO_TOKEN": _TOKEN}) as endless:
            await running.says("a producer is heard.*\n(.*\n)*.*a producer is heard")
            status, seconds = await endless.interrupt()
            assert status == 0 and seconds < STOPPED_S
    async with program(*babelcast("audio", "tone", "http://127.0.0.1:1")) as nobody:
        assert await nobody.ends() == 1
    assert "gone or does not answer" in nobody.text


async def test_what_is_wrong_with_the_settings_is_said() -> None:
    for argv, said in (
        (["--host", "0.0.0.0"], "AUDIO_TOKEN: beyond this machine"),
        (["--speech-url", "ftp://x"], "AUDIO_STS_URL: "),
    ):
        async with program(*babelcast("audio", *argv)) as refused:
            assert await refused.ends() == 2
        assert said in refused.text
    async with _endpoint() as (_, url):
        async with program(*babelcast("audio", "--port", url.rpartition(":")[2])) as second:
            assert await second.ends() == 2
        assert "AUDIO_PORT: can't listen on 127.0.0.1:" in second.text

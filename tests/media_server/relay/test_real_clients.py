"""The relay between real encoders and players: ffmpeg and GStreamer, each as publisher and as reader."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from tests.media_server.relay.peers import settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("ffmpeg") is None or shutil.which("gst-launch-1.0") is None, reason="needs ffmpeg and GStreamer"
    ),
]

PATH = "live/show/in"
SECONDS = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of H.264 with B-frames, a key frame a second, and AAC."""
    path = tmp_path_factory.mktemp("clip") / "clip.flv"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440"]
    video = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "25", "-sc_threshold", "0"]
    audio = ["-c:a", "aac", "-ar", "48000", "-ac", "2"]
    command = ["ffmpeg", "-v", "error", "-y", *inputs, *video, *audio, "-t", str(SECONDS), str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def packets(path: Path | str, kind: str) -> list[tuple[str, str]]:
    """(md5, flags) of every packet of the ``v`` or ``a`` track, in decoding order."""
    command = ["ffprobe", "-v", "error", "-select_streams", kind, "-show_entries", "packet=flags,data_hash"]
    command += ["-show_data_hash", "md5", "-of", "csv=p=0", str(path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return [(line.split(",")[1], line.split(",")[0]) for line in lines]


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that is gone when the block ends."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def publisher(program: str, clip: Path, url: str) -> list[str]:
    if program == "ffmpeg":
        return ["ffmpeg", "-v", "error", "-re", "-i", str(clip), "-c", "copy", "-f", "flv", url]
    pipeline = f"filesrc location={clip} ! flvdemux name=d flvmux name=m streamable=true ! rtmp2sink location={url} "
    pipeline += "d.video ! queue ! h264parse ! m.video d.audio ! queue ! aacparse ! m.audio"
    return ["gst-launch-1.0", "-q", *pipeline.split()]


def reader(program: str, url: str, file: Path) -> list[str]:
    if program == "ffmpeg":
        return ["ffmpeg", "-v", "error", "-y", "-i", url, "-map", "0", "-c", "copy", "-f", "flv", str(file)]
    return ["gst-launch-1.0", "-q", "rtmp2src", f"location={url}", "!", "filesink", f"location={file}"]


async def until_online(relay: Relay, *, sent: int = 0) -> None:
    """And so many bytes have gone to readers."""
    client = RelayClient(relay.api_url, relay.rtmp_url)
    try:
        async with asyncio.timeout(10):
            while (path := await client.get_path(PATH)) is None or path.bytes_out < sent:
                await asyncio.sleep(0.02)
    finally:
        await client.aclose()


def is_run_of(part: list[tuple[str, str]], whole: list[tuple[str, str]]) -> bool:
    hashes, all_hashes = [digest for digest, _ in part], [digest for digest, _ in whole]
    return any(all_hashes[at : at + len(hashes)] == hashes for at in range(len(all_hashes)))


@pytest.mark.parametrize("program", ["ffmpeg", "gstreamer"])
async def test_one_publisher_and_several_readers(program: str, clip: Path, tmp_path: Path) -> None:
    early = {name: tmp_path / f"{name}.flv" for name in ("ffmpeg", "gstreamer")}
    late = {name: tmp_path / f"late-{name}.flv" for name in ("ffmpeg", "gstreamer")}
    async with Relay(settings()) as relay:
        url = f"{relay.rtmp_url}/{PATH}"
        async with running(*publisher(program, clip, url)) as source:
            await until_online(relay)
            readers = [await _start(*reader(name, url, file)) for name, file in early.items()]
            await asyncio.sleep(1.7)
            readers += [await _start(*reader(name, url, file)) for name, file in late.items()]
            async with asyncio.timeout(20):
                await source.wait()
                # the readers end by themselves, once the publisher has left
                await asyncio.gather(*(process.wait() for process in readers))
            assert source.returncode == 0
    video, audio = packets(clip, "v"), packets(clip, "a")
    for file in early.values():
        got = packets(file, "v")
        # all of them, where the reader was there within the first group: on a busy machine it is not
        assert len(got) >= len(video) - 25 and got == video[-len(got) :], f"{file.name}: every picture, byte for byte"
        assert is_run_of(packets(file, "a"), audio)
    for file in late.values():
        got = packets(file, "v")
        assert 25 <= len(got) < len(video)
        assert got[0][1].startswith("K"), f"{file.name} starts with a key frame"
        assert got == video[-len(got) :]
        assert is_run_of(packets(file, "a"), audio)


async def _start(*command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def test_publisher_that_is_killed_ends_its_readers_and_another_takes_over(clip: Path, tmp_path: Path) -> None:
    async with Relay(settings()) as relay:
        url = f"{relay.rtmp_url}/{PATH}"
        for attempt in range(2):
            async with running(*publisher("ffmpeg", clip, url)) as source:
                await until_online(relay)
                async with running(*reader("ffmpeg", url, tmp_path / f"{attempt}.flv")) as player:
                    await until_online(relay, sent=clip.stat().st_size // 3)
                    source.send_signal(signal.SIGKILL)
                    async with asyncio.timeout(5):
                        await player.wait()
            assert len(packets(tmp_path / f"{attempt}.flv", "v")) >= 25


async def test_publisher_that_is_stopped_is_reaped(clip: Path) -> None:
    async with Relay(settings(timeout_s=1.0)) as relay:
        url = f"{relay.rtmp_url}/{PATH}"
        async with running(*publisher("ffmpeg", clip, url)) as stopped:
            await until_online(relay)
            stopped.send_signal(signal.SIGSTOP)
            client = RelayClient(relay.api_url, relay.rtmp_url)
            async with asyncio.timeout(10):
                while await client.get_path(PATH) is not None:
                    await asyncio.sleep(0.05)
            await client.aclose()


async def test_second_encoder_fails_and_the_first_goes_on(clip: Path, tmp_path: Path) -> None:
    async with Relay(settings()) as relay:
        url = f"{relay.rtmp_url}/{PATH}"
        async with running(*publisher("ffmpeg", clip, url)) as first:
            await until_online(relay)
            for program in ("ffmpeg", "gstreamer"):
                async with running(*publisher(program, clip, url)) as second, asyncio.timeout(10):
                    assert await second.wait() != 0
            assert first.returncode is None
            async with asyncio.timeout(20):
                assert await first.wait() == 0

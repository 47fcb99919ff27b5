"""One contract, two media servers: what the rest of the program relies on, with real encoders and players."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from tests.conftest import mediamtx_binary

from babelcast.errors import MediaServerError, RtmpError
from babelcast.media_server.base import MediaServer, PathInfo
from babelcast.media_server.mediamtx import Ports, run_mediamtx
from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp.client import RtmpClient

pytestmark = pytest.mark.integration

PATH = "live/contract/in"
SERVERS = ["relay", pytest.param("mediamtx", marks=pytest.mark.mediamtx)]


@dataclass
class Events:
    """An orchestrator's ear."""

    url: str = ""
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def wait_for(self, kind: str, path: str = PATH) -> dict[str, str]:
        async with asyncio.timeout(10):
            while True:
                for seen_kind, body in self.seen:
                    if seen_kind == kind and body["path"] == path:
                        return body
                await asyncio.sleep(0.02)


@pytest.fixture
async def events() -> AsyncIterator[Events]:
    ear = Events()

    async def receive(request: web.Request) -> web.Response:
        assert request.headers["X-Request-Id"]
        ear.seen.append((request.match_info["kind"], await request.json()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/v1/media/events/{kind}", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield ear
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(kind: str, events_url: str | None = None) -> AsyncIterator[MediaServer]:
    if kind == "relay":
        async with Relay(RelaySettings(rtmp_port=0, api_port=0, events_url=events_url)) as relay:
            async with RelayClient(relay.api_url, relay.rtmp_url) as client:
                yield client
        return
    binary = mediamtx_binary()
    assert binary is not None
    async with run_mediamtx(Path(binary), Ports(rtsp=None), events_url=events_url) as server:
        yield server


@pytest.fixture(params=SERVERS)
async def server(request: pytest.FixtureRequest, events: Events) -> AsyncIterator[MediaServer]:
    async with running(request.param, events.url) as media_server:
        yield media_server


@asynccontextmanager
async def program(*arguments: str | Path) -> AsyncIterator[Process]:
    """A child that is ended with the block, however the block ends."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of H.264 with B-frames and stereo AAC, a key frame every second."""
    path = tmp_path_factory.mktemp("contract") / "clip.flv"
    picture, sound = "testsrc2=size=320x180:rate=25", "sine=frequency=440:sample_rate=48000"
    encode = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p -c:a aac -ac 2 -b:a 96k".split()
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-t", "10"]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *encode, str(path)], check=True)
    return path


def video_bytes(clip: Path) -> bytes:
    """All access units of the clip, one after the other."""
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-map", "0:v", "-c", "copy", "-f", "rawvideo", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def coded_pictures(access_units: bytes) -> bytes:
    """The NAL units (4-byte lengths, H.264) without parameter sets and delimiters; one that is cut off is left out.

    MediaMTX repeats SPS and PPS in front of each IDR picture, for readers of protocols that have no header. It
    touches nothing else.
    """
    kept, at = bytearray(), 0
    while at < len(access_units):
        end = at + 4 + int.from_bytes(access_units[at : at + 4], "big")
        if end > len(access_units):
            break
        if access_units[at + 4] & 31 not in (7, 8, 9):
            kept += access_units[at:end]
        at = end
    return bytes(kept)


def ffmpeg_publisher(clip: Path, url: str) -> list[str | Path]:
    return ["ffmpeg", "-v", "error", "-re", "-i", clip, "-c", "copy", "-f", "flv", url]


def gstreamer_publisher(clip: Path, url: str) -> list[str | Path]:
    mux = f"flvmux name=m streamable=true ! rtmp2sink sync=true location={url}"
    video = "d.video ! queue ! h264parse ! video/x-h264,stream-format=avc ! m."
    audio = "d.audio ! queue ! aacparse ! m."
    pipeline = f"filesrc location={clip} ! flvdemux name=d {video} {audio} {mux}"
    return ["gst-launch-1.0", "-q", *pipeline.split()]


def ffmpeg_reader(url: str, out: Path) -> list[str | Path]:
    return [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        url,
        "-map",
        "0:v",
        "-c",
        "copy",
        "-flush_packets",
        "1",
        "-f",
        "rawvideo",
        out,
    ]


def gstreamer_reader(url: str, out: Path) -> list[str | Path]:
    video = f"d.video ! filesink async=false sync=false buffer-mode=unbuffered location={out}"
    pipeline = f"rtmp2src location={url} ! flvdemux name=d {video} d.audio ! fakesink async=false sync=false"
    return ["gst-launch-1.0", "-q", *pipeline.split()]


async def until(server: MediaServer, path: str, good: Callable[[PathInfo | None], bool]) -> PathInfo | None:
    async with asyncio.timeout(15):
        while not good(found := await server.get_path(path)):
            await asyncio.sleep(0.05)
    return found


async def online(server: MediaServer, path: str = PATH) -> PathInfo:
    found = await until(server, path, lambda info: info is not None and info.online)
    assert found is not None
    return found


async def offline(server: MediaServer, path: str = PATH) -> None:
    await until(server, path, lambda info: info is None or not info.online)


async def grown(path: Path, size: int) -> None:
    async with asyncio.timeout(15):
        while not path.exists() or path.stat().st_size < size:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("publisher", [ffmpeg_publisher, gstreamer_publisher])
async def test_a_broadcast(
    server: MediaServer,
    events: Events,
    clip: Path,
    tmp_path: Path,
    publisher: Callable[[Path, str], list[str | Path]],
) -> None:
    """Published by a real encoder, announced, listed, read by two real players bit by bit, and mourned."""
    async with program(*publisher(clip, f"{server.publish_url(PATH)}?title=a%20b")) as source:
        info = await online(server)
        assert info.source_type == "rtmpConn"
        assert info.tracks == ("H264", "MPEG-4 Audio")
        assert [path.name for path in await server.list_paths()] == [PATH]

        ready = await events.wait_for("ready")
        assert ready == {"path": PATH, "query": "title=a%20b", "sourceType": "rtmpConn", "sourceId": info.source_id}

        readers = {"ffmpeg": ffmpeg_reader, "gstreamer": gstreamer_reader}
        async with contextlib.AsyncExitStack() as stack:
            for name, reader in readers.items():
                await stack.enter_async_context(program(*reader(server.read_url(PATH), tmp_path / name)))
            await until(server, PATH, lambda seen: seen is not None and seen.readers == 2)
            for name in readers:
                await grown(tmp_path / name, 100_000)
        sent = await asyncio.to_thread(video_bytes, clip)
        for name in readers:
            got = (tmp_path / name).read_bytes()
            assert len(coded_pictures(got)) > 90_000
            # bool(): a failure must not print megabytes
            assert bool(coded_pictures(got) in coded_pictures(sent)), f"{name} did not get the pictures as they were"
            if server.name == "relay":
                assert bool(got in sent), f"{name} did not get the access units byte for byte"

        counted = await online(server)
        assert counted.bytes_in > len(got)
        assert counted.bytes_out > len(got)

        os.kill(source.pid, signal.SIGKILL)  # no goodbye
        await offline(server)
    mourned = await events.wait_for("not-ready")
    assert mourned["sourceId"] == info.source_id
    assert [kind for kind, body in events.seen if body["path"] == PATH] == ["ready", "not-ready"]


async def test_the_second_publisher_is_refused_and_the_first_goes_on(server: MediaServer, clip: Path) -> None:
    async with program(*ffmpeg_publisher(clip, server.publish_url(PATH))):
        first = await online(server)
        async with program(*ffmpeg_publisher(clip, server.publish_url(PATH))) as second:
            assert await asyncio.wait_for(second.wait(), 15) != 0
        still = await online(server)
        assert still.source_id == first.source_id
        await until(server, PATH, lambda info: info is not None and info.bytes_in > still.bytes_in)


async def test_a_path_is_free_again_after_its_publisher(server: MediaServer, events: Events, clip: Path) -> None:
    ids = []
    for _ in range(2):
        async with program(*ffmpeg_publisher(clip, server.publish_url(PATH))):
            ids.append((await online(server)).source_id)
            await events.wait_for("ready")
        await offline(server)
        assert (await events.wait_for("not-ready"))["sourceId"] == ids[-1]
        events.seen.clear()
    assert len(set(ids)) == 2


@pytest.mark.parametrize("path", ["other/thing", "live/BAD/in", "live/contract/in/more", "live/-x/in"])
async def test_a_name_that_is_not_ours_never_becomes_a_stream(server: MediaServer, events: Events, path: str) -> None:
    with contextlib.suppress(RtmpError):
        async with RtmpClient.connect(server.publish_url(path), timeout_s=3) as client:
            await client.publish()
            await asyncio.sleep(0.2)
    assert await server.list_paths() == []
    assert events.seen == []


async def test_reading_what_nobody_publishes_is_refused_and_leaves_nothing(server: MediaServer) -> None:
    with pytest.raises(RtmpError):
        async with RtmpClient.connect(server.read_url(PATH), timeout_s=5) as client:
            await client.play()
            async for _ in client.messages():
                pytest.fail("a message from nowhere")
            raise RtmpError("closed")  # a server may also accept, say that there is nothing, and close
    assert await server.get_path(PATH) is None
    assert await server.list_paths() == []


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_that_is_gone_is_an_error_and_not_an_empty_list(kind: str) -> None:
    async with running(kind) as server:
        assert await server.list_paths() == []
        assert server.name == kind
    with pytest.raises(MediaServerError) as caught:
        await server.list_paths()
    assert caught.value.retryable
    with pytest.raises(MediaServerError):
        await server.get_path(PATH)
    await server.aclose()

"""A session that begins before its first picture says at once which tracks it will have."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from babelcast.gst.ingest import IngestPipeline
from babelcast.gst.publish import PublishPipeline
from babelcast.gst.runtime import system_clock
from babelcast.media_server.base import MediaServer
from babelcast.media_server.mediamtx import run_mediamtx
from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.units import NS_PER_MS, NS_PER_S
from tests.worker.media import make_clip

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

PATH = "live/lead-in/out"
BLOCK_MS = 100


@contextlib.asynccontextmanager
async def relay() -> AsyncIterator[MediaServer]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        client = RelayClient(server.api_url, server.rtmp_url)
        async with contextlib.aclosing(client):
            yield client


@contextlib.asynccontextmanager
async def mediamtx() -> AsyncIterator[MediaServer]:
    binary = shutil.which("mediamtx")
    assert binary is not None
    async with run_mediamtx(Path(binary)) as server:
        yield server


async def caps_of(clip: Path) -> str:
    source = IngestPipeline(str(clip))
    await source.start()
    try:
        async with asyncio.timeout(10):
            while True:
                for unit in source.pull_video():
                    return unit.caps
                await asyncio.sleep(0.01)
    finally:
        await source.stop()


@pytest.mark.parametrize("server", [relay, pytest.param(mediamtx, marks=pytest.mark.mediamtx)])
async def test_the_tracks_are_known_before_the_first_picture(
    server: type[contextlib.AbstractAsyncContextManager[MediaServer]], tmp_path: Path
) -> None:
    caps = await caps_of(make_clip(tmp_path / "clip.flv", 0.5))
    async with server() as media_server:
        began = system_clock().get_time()
        output = PublishPipeline(
            media_server.publish_url(PATH), with_video=True, audio_bitrate=64_000, base_time_ns=began
        )
        output.start()
        output.announce_video(caps)
        tracks: tuple[str, ...] = ()
        try:
            for block in range(8 * 1_000 // BLOCK_MS):
                while system_clock().get_time() - began < block * BLOCK_MS * NS_PER_MS:
                    await asyncio.sleep(0.01)
                output.push_audio(bytes(4 * 48 * BLOCK_MS), block * BLOCK_MS * NS_PER_MS + NS_PER_S // 2, 48 * BLOCK_MS)
                path = await media_server.get_path(PATH)
                if path is not None and path.online:
                    tracks = path.tracks
                    break
        finally:
            await output.stop()
        assert set(tracks) == {"H264", "MPEG-4 Audio"}

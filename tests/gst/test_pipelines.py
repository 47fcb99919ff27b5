"""Pipelines come and go without leaving anything behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from babelcast.errors import IngestError, PublishError
from babelcast.gst.ingest import IngestPipeline, describe_video, is_live
from babelcast.gst.publish import PublishPipeline, is_live_output
from babelcast.gst.runtime import Gst, missing_elements, system_clock, version
from tests.worker.media import make_clip

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def read_through(clip: Path) -> tuple[int, int]:
    pipeline = IngestPipeline(str(clip))
    await pipeline.start()
    video = audio = 0
    try:
        while True:
            new_video, new_audio = pipeline.pull_video(), pipeline.pull_audio()
            video += len(new_video)
            audio += sum(len(packet.data) for packet in new_audio)
            end = pipeline.poll_end() if not new_video and not new_audio else None
            if end is not None:
                assert end.error is None
                return video, audio
            await asyncio.sleep(0.005)
    finally:
        await pipeline.stop()


async def test_a_file_is_read_whole(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.flv", 3, audio="-ac 1 -ar 22050 -c:a aac")
    video, audio = await read_through(clip)
    assert video == 75
    assert audio / 4 / 48_000 == pytest.approx(3.0, abs=0.1)


async def test_connections_leave_no_file_open(tmp_path: Path, free_port: Callable[[], int]) -> None:
    clip = make_clip(tmp_path / "clip.flv", 0.5)
    nowhere = f"rtmp://127.0.0.1:{free_port()}/live/x/in"

    async def a_few() -> None:
        for _ in range(8):
            await read_through(clip)
            refused = IngestPipeline(nowhere)
            await refused.start()
            async with asyncio.timeout(5):
                while refused.poll_end() is None:
                    await asyncio.sleep(0.01)
            await refused.stop()
            output = PublishPipeline(nowhere, with_video=False, audio_bitrate=64_000, base_time_ns=0)
            output.start()
            output.push_audio(bytes(19_200), 0, 4_800)
            await output.stop()
        gc.collect()

    await a_few()
    before = open_files()
    await a_few()
    assert open_files() <= before + 2


@pytest.mark.unit
def test_schemes() -> None:
    assert is_live("rtmp://h/a/b")
    assert is_live("srt://h:1?mode=caller")
    assert not is_live("/a/file.mp4")
    assert not is_live("https://h/file.mp4")
    with pytest.raises(IngestError) as ingest_error:
        is_live("gopher://h/file")
    assert not ingest_error.value.retryable
    assert is_live_output("rtmps://h/a/b")
    assert not is_live_output("out.mkv")
    with pytest.raises(PublishError):
        is_live_output("out.txt")


@pytest.mark.unit
def test_runtime() -> None:
    assert missing_elements() == {}
    assert version().split(".")[0] == "1"
    assert system_clock().get_time() > 0
    caps = "video/x-h264, profile=(string)high, width=(int)1280, height=(int)720, framerate=(fraction)30/1"
    assert describe_video(caps) == "H.264 high 1280x720 30/1"


@contextlib.asynccontextmanager
async def taken_and_never_answered() -> AsyncIterator[str]:
    """The address of an RTMP server that takes the connection and says nothing."""

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        yield f"rtmp://127.0.0.1:{server.sockets[0].getsockname()[1]}/live/x/out"
    finally:
        for writer in connections:
            writer.close()
        server.close()


@pytest.mark.parametrize("how", ["finish", "stop"])
async def test_an_output_that_is_given_up_as_it_ends_is_closed_all_the_same(how: str) -> None:
    """One that is dropped while it plays aborts the process: see bridge.change_state."""
    async with taken_and_never_answered() as url:
        output = PublishPipeline(url, with_video=False, audio_bitrate=64_000, base_time_ns=system_clock().get_time())
        output.start()
        pipeline = output._pipeline
        if how == "finish":
            ending: asyncio.Task[Any] = asyncio.create_task(output.finish(30))
            await asyncio.sleep(0.1)  # it waits for the last byte to be out
        else:  # while every thread that could close it is busy
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.3)
            ending = asyncio.create_task(output.stop())
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        assert ending.cancelled()
        assert pipeline.get_state(0).state == Gst.State.NULL

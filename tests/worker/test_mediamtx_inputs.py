"""The worker behind a real MediaMTX: every protocol it can pull, and codecs that RTMP has never heard of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from babelcast.gst.ingest import IngestPipeline
from babelcast.media_server.base import ReadProtocol
from babelcast.media_server.mediamtx import MediaMtx, Ports, run_mediamtx
from babelcast.orchestrator.desired import ingest_url
from babelcast.spec import BackendSpec, TargetSpec, WorkerSpec, ingest_path, output_path
from babelcast.worker.session import WorkerSession
from tests.conftest import mediamtx_binary
from tests.worker.media import av_offsets_ms, beeps, make_clip, record, running, streams
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.mediamtx, pytest.mark.timeout(90)]

NO_B_FRAMES = "-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -b:v 400k"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=none -g 25 -b:v 300k"
OUTPUTS = {"rtmp": "-f flv", "rtsp": "-f rtsp -rtsp_transport tcp", "srt": "-f mpegts"}


@pytest.fixture
async def server() -> AsyncIterator[MediaMtx]:
    binary = mediamtx_binary()
    assert binary is not None
    async with run_mediamtx(Path(binary), Ports(srt=0)) as server:
        yield server


def spec_for(name: str, source: str, server: MediaMtx) -> WorkerSpec:
    return WorkerSpec(
        stream_id=name,
        ingest_url=source,
        targets=(TargetSpec(language="es", output_url=server.publish_url(output_path(name))),),
        backend=BackendSpec(kind="none"),
        delay_s=2.0,
    )


@contextlib.asynccontextmanager
async def publishing(clip: Path, name: str, server: MediaMtx, protocol: ReadProtocol) -> AsyncIterator[None]:
    """Publishes ``clip`` over and over until the block ends, and then is killed."""
    path = ingest_path(name)
    url = (
        server.publish_url(path) if protocol == "rtmp" else server.read_url(path, protocol).replace("read:", "publish:")
    )
    command = ["ffmpeg", "-v", "fatal", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"]
    async with running(*command, *OUTPUTS[protocol].split(), url):
        async with asyncio.timeout(20):
            while (info := await server.get_path(path)) is None or not info.online:
                await asyncio.sleep(0.05)
        yield


def pictures(path: Path) -> list[str]:
    """A hash of each access unit without parameter sets and delimiters, which MediaMTX moves about."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy"]
    command += ["-bsf:v", "h264_mp4toannexb,filter_units=remove_types=7|8|9", "-f", "framemd5", "-"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [line.rsplit(",", 1)[-1].strip() for line in listing.splitlines() if line and not line.startswith("#")]


def is_cut_of(part: list[str], whole: list[str]) -> bool:
    """``part`` is one piece of ``whole`` repeated, nothing missing and nothing changed."""
    if not part or part[0] not in whole:
        return False
    start = whole.index(part[0])
    return part == [whole[(start + i) % len(whole)] for i in range(len(part))]


async def test_every_protocol_passes_pictures_on_and_outlives_its_source(server: MediaMtx, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.flv", 20)  # with B-frames, and no loop within the test: it would step the sound
    protocols: tuple[ReadProtocol, ...] = ("rtmp", "srt", "rtsp")
    recordings = {protocol: tmp_path / f"{protocol}.flv" for protocol in protocols}
    specs = [spec_for(protocol, server.read_url(ingest_path("show"), protocol), server) for protocol in protocols]
    recorders = [asyncio.create_task(record(spec.targets[0].output_url, recordings[spec.stream_id])) for spec in specs]  # type: ignore[index]
    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(worker(spec)) for spec in specs]
        for visit in (1, 2):
            async with publishing(clip, "show", server, "rtmp"):
                await until(lambda: {session.status().state for session in sessions} == {"live"})
                await asyncio.sleep(4.5)
                assert [session.output_sessions for session in sessions] == [[1]] * 3, visit
            await until(lambda: {session.status().state for session in sessions} == {"reconnecting"})
        await asyncio.sleep(2.5)
        assert [session.status().targets[0].output_state for session in sessions] == ["live"] * 3
    await asyncio.wait_for(asyncio.gather(*recorders), 10)
    source = pictures(clip)
    for protocol, recording in recordings.items():
        published = [picture for picture in pictures(recording) if picture in source]  # a slate may stand between
        first = source.index(published[0])
        # the second visit begins at a key frame again
        second = next(i for i in range(1, len(published)) if published[i] != source[first + i])
        assert is_cut_of(published[:second], source) and is_cut_of(published[second:], source), protocol
        assert min(second, len(published) - second) > 50, protocol
        flashes = av_offsets_ms(recording)
        offsets = [offset for offset in flashes if abs(offset) < 1_000]
        assert len(offsets) >= 2, protocol
        assert len(flashes) - len(offsets) <= 2, "a visit may end between a flash and its beep, no more"
        # MediaMTX tells RTSP readers when a track's first packet came, not when it was meant: see desired.py
        late = 400 if protocol == "rtsp" else 45
        assert all(-15 < offset < late for offset in offsets), (protocol, offsets)


async def restart(url: str, times: int) -> int:
    """Connect, read a bit and let go, ``times`` times over; gives the access units seen."""
    seen = 0
    for _ in range(times):
        pipeline = IngestPipeline(url)
        await pipeline.start()
        async with asyncio.timeout(10):
            while not (units := len(pipeline.pull_video())):
                await asyncio.sleep(0.02)
        seen += units
        await pipeline.stop()
    return seen


async def test_connections_leave_nothing_open(server: MediaMtx, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.flv", 10, video=NO_B_FRAMES)
    urls = [server.read_url(ingest_path("show"), protocol) for protocol in ("rtsp", "srt")]
    async with publishing(clip, "show", server, "rtsp"):
        await asyncio.gather(*(restart(url, 1) for url in urls))
        before = len(os.listdir("/proc/self/fd"))
        await asyncio.gather(*(restart(url, 4) for url in urls))
        await asyncio.sleep(1)
        assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_an_srt_source_that_goes_takes_no_worker_with_it(server: MediaMtx, tmp_path: Path) -> None:
    """libsrt throws a C++ exception then, which used to end the process (see gst.runtime)."""
    clip = make_clip(tmp_path / "in.flv", 10, video=NO_B_FRAMES)
    url = server.read_url(ingest_path("show"), "srt")
    pipelines = [IngestPipeline(url) for _ in range(4)]
    async with publishing(clip, "show", server, "rtsp"):
        for pipeline in pipelines:
            await pipeline.start()
        await asyncio.sleep(1)
    await until(lambda: None not in [pipeline.poll_end() for pipeline in pipelines], 10)
    for pipeline in pipelines:
        await pipeline.stop()
    absent = IngestPipeline(url)
    await absent.start()
    await until(lambda: absent.poll_end() is not None, 10)
    end = absent.poll_end()
    assert end is not None and end.error is not None and "reject" in end.error.lower()
    await absent.stop()


CODECS: dict[str, tuple[ReadProtocol, str | None, str | None]] = {
    "opus": ("rtsp", NO_B_FRAMES, "-ac 2 -c:a libopus"),
    "g711": ("rtsp", NO_B_FRAMES, "-ac 1 -ar 8000 -c:a pcm_alaw"),
    "ac3": ("srt", NO_B_FRAMES, "-ac 6 -c:a ac3"),
    "hevc": ("rtsp", HEVC, "-ac 1 -ar 22050 -c:a aac"),
    "nothing": ("rtsp", HEVC, None),
}
PULLED_BY = {"opus": "srt", "g711": "rtmp", "ac3": "srt", "hevc": "srt", "nothing": "srt"}


async def through(name: str, server: MediaMtx, folder: Path) -> tuple[WorkerSession, Path]:
    protocol, video, audio = CODECS[name]
    clip = await asyncio.to_thread(make_clip, folder / f"{name}.mkv", 12, video=video, audio=audio)
    recording = folder / f"{name}.flv"
    async with publishing(clip, name, server, protocol):
        info = await server.get_path(ingest_path(name))
        assert info is not None
        source = ingest_url(info, server)
        assert source.startswith(PULLED_BY[name]), info.tracks
        spec = spec_for(name, source, server)
        recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
        async with worker(spec) as session:
            await asyncio.sleep(9)
        if name == "nothing":
            recorder.cancel()
        else:
            await asyncio.wait_for(recorder, 8)
    return session, recording


async def test_unusual_codecs_pass_or_are_named(
    server: MediaMtx, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = dict(zip(CODECS, await asyncio.gather(*(through(name, server, tmp_path) for name in CODECS)), strict=True))
    for name in ("opus", "g711", "ac3"):
        session, recording = done[name]
        assert (streams(recording), session.status().last_error) == (["aac", "h264"], None), name
        offsets = av_offsets_ms(recording)
        assert len(offsets) >= 1 and all(-15 < offset < 60 for offset in offsets), (name, offsets)
    session, recording = done["hevc"]
    assert streams(recording) == ["aac"] and len(beeps(recording)) >= 1
    for name in ("hevc", "nothing"):
        status = done[name][0].status()
        assert status.last_error is not None and "H.265 (HEVC)" in status.last_error, name
        assert any("H.265 (HEVC)" in warning for warning in status.warnings), name
    said = [record.message for record in caplog.records if "H.265" in record.message]
    assert len(said) == 2, "once for each stream, not at every attempt"

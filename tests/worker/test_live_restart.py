"""A worker that vanishes, and the one after it with what it left: what a recorder of the published stream has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from babelcast.clock import MonotonicClock
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.spec import BackendSpec, TargetSpec, WorkerSpec
from babelcast.units import NS_PER_S
from babelcast.worker.session import WorkerSession
from babelcast.worker.spool import Spool
from tests.worker.fake_speech import FakeBackend
from tests.worker.media import access_units, av_offsets_ms, make_clip, publish, record
from tests.worker.rig import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DELAY_S = 3.0


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


async def test_the_next_worker_goes_on_at_once_and_to_the_picture(relay: Relay, tmp_path: Path) -> None:
    # a long group of pictures: the server still has all of it when the next worker comes
    clip = make_clip(tmp_path / "clip.flv", 16, video="-c:v libx264 -preset ultrafast -bf 2 -g 200 -b:v 400k")
    spec = WorkerSpec(
        stream_id="show",
        ingest_url=f"{relay.rtmp_url}/live/show/in",
        targets=(TargetSpec(language="es", output_url=f"{relay.rtmp_url}/live/show/out"),),
        backend=BackendSpec(kind="none"),
        delay_s=DELAY_S,
    )
    publishing = asyncio.create_task(publish(clip, spec.ingest_url))
    try:
        first = WorkerSession(spec, None, spool=Spool(tmp_path / "spool"))
        running = asyncio.create_task(first.run())
        await until(lambda: first.status().targets[0].published_seconds > 6, 30)
        running.cancel()  # not asked to end: nothing is tidied up
        await asyncio.gather(running, return_exceptions=True)
        died_at_s = first.status().source_seconds
        recorder = asyncio.create_task(record(spec.targets[0].output_url, tmp_path / "out.flv"))
        second = WorkerSession(spec, None, spool=Spool(tmp_path / "spool"))
        running = asyncio.create_task(second.run())
        await until(lambda: second.status().targets[0].published_seconds > 0.5, DELAY_S - 1)
        assert second.status().source_seconds >= died_at_s - 0.2
        await publishing
        await asyncio.sleep(DELAY_S + 0.5)
        second.request_stop()
        await asyncio.wait_for(running, 5)
        await asyncio.wait_for(recorder, 8)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    source, published = access_units(clip), access_units(tmp_path / "out.flv")
    assert published == source[-len(published) :], "from a key frame to the end, not one picture lost between"
    assert len(published) > len(source) // 3
    assert all(-15 < offset < 45 for offset in av_offsets_ms(tmp_path / "out.flv"))
    assert not (tmp_path / "spool").exists()


async def test_what_can_still_be_in_time_is_dubbed_again(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """The next worker listens to the last of what the one before has heard; older sound is on air too soon."""
    left_s, block = 6, bytes(4_800 * 4)
    spool = Spool(tmp_path / "spool")
    for number in range(left_s * 10):
        spool.audio(number * 4_800, block)
    spool.flush(MonotonicClock().now_ns() - left_s * NS_PER_S, left_s * NS_PER_S)
    nowhere = f"rtmp://127.0.0.1:{free_port()}/live/show"
    spec = WorkerSpec(
        stream_id="show",
        ingest_url=f"{nowhere}/in",
        targets=(TargetSpec(language="es", output_url=f"{nowhere}/out"),),
        backend=BackendSpec(kind="sts", url="http://127.0.0.1:1"),
        delay_s=float(left_s),
        separation="off",
    )
    backend = FakeBackend()
    session = WorkerSession(spec, backend, spool=Spool(tmp_path / "spool"))
    running = asyncio.create_task(session.run())
    await until(lambda: session.status().targets[0].segments >= 3, 5)
    await until(lambda: session.status().targets[0].fallback_cause == "lost", 3)  # nobody dubs what comes before
    session.request_stop()
    await asyncio.wait_for(running, 5)
    assert left_s - 3.6 < backend.frames[0].start_ns / NS_PER_S < left_s - 3.3
    assert backend.frames[-1].end_ns / NS_PER_S == pytest.approx(left_s, abs=0.1)

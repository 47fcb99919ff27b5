"""A process that was kept from the processor sends what it has late, but in order and with its timestamps."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from pathlib import Path

import pytest

from babelcast.gst.ingest import IngestPipeline
from babelcast.gst.publish import PublishPipeline
from babelcast.gst.runtime import system_clock
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit
from tests.worker.media import make_clip, record

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

BLOCK_NS = 100 * NS_PER_MS
SAMPLES = 4_800


async def units_of(clip: Path) -> list[AccessUnit]:
    source = IngestPipeline(str(clip))
    await source.start()
    found: list[AccessUnit] = []
    try:
        async with asyncio.timeout(10):
            while source.poll_end() is None or not found:
                for unit in source.pull_video():
                    assert unit.pts_ns is not None and unit.dts_ns is not None
                    found.append(AccessUnit(unit.pts_ns, unit.dts_ns, not unit.delta, unit.data, unit.caps))
                await asyncio.sleep(0.01)
    finally:
        await source.stop()
    return found


async def test_media_that_is_a_second_late_keeps_its_timestamps(tmp_path: Path) -> None:
    units = await units_of(make_clip(tmp_path / "clip.flv", 4, audio=None))
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay:
        url, recording = f"{relay.rtmp_url}/live/late/out", tmp_path / "late.flv"
        recorder = asyncio.create_task(record(url, recording))
        began = system_clock().get_time()
        output = PublishPipeline(url, with_video=True, audio_bitrate=64_000, base_time_ns=began)
        output.start()
        waiting = list(units)
        for at in range(0, 4 * NS_PER_S, BLOCK_NS):
            if at == 2 * NS_PER_S:
                await asyncio.sleep(1.2)  # the stall; from here on everything is late
            while system_clock().get_time() - began < at - BLOCK_NS:
                await asyncio.sleep(0.01)
            while waiting and waiting[0].dts_ns <= at:
                unit = waiting.pop(0)
                output.push_video(unit, unit.pts_ns, unit.dts_ns)
            await asyncio.sleep(0.03)  # the encoder comes after the pictures
            output.push_audio(bytes(4 * SAMPLES), at + NS_PER_S // 20, SAMPLES)
        await output.finish(3)
        await asyncio.wait_for(recorder, 10)
    command = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]
    listing = await asyncio.to_thread(
        subprocess.run, [*command, str(recording)], check=True, capture_output=True, text=True
    )
    times = [float(line.strip(",")) for line in listing.stdout.split()]
    assert len(times) > 100
    uneven = [(after, round(after - before, 3)) for before, after in itertools.pairwise(times)]
    assert [step for step in uneven if not 0.019 < step[1] < 0.024] == []

"""A source that goes, and comes back as another encoder would: the destination sees one broadcast."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.spec import BackendSpec, SourceLossSpec, TargetSpec, WorkerSpec
from tests.worker.media import make_clip, publish, record
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

HIGH = "-vf scale=640:360 -c:v libx264 -preset veryfast -profile:v high -bf 2 -g 25 -b:v 400k"
BASELINE = "-c:v libx264 -preset ultrafast -profile:v baseline -g 25 -b:v 400k"


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


def pictures(path: Path) -> list[tuple[float, int]]:
    """(time, width) of every picture, decoded; fails on any error that the decoder reports.

    noparse: libavformat's parser, unlike the decoder, knows nothing of new headers, and complains about what is none
    of its business.
    """
    command = ["ffprobe", "-v", "error", "-fflags", "+noparse", "-select_streams", "v"]
    command += ["-show_entries", "frame=pts_time,width", "-of", "csv=p=0", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(",") for line in done.stdout.splitlines() if line]
    return [(float(time), int(width)) for time, width, *_ in rows]


def sound_gaps(path: Path) -> float:
    """The longest distance of two packets of sound, in seconds. Without the first moments, in which a session makes
    itself known by silence with a gap in it, which a quick reader hears."""
    command = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]
    listing = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True, timeout=60).stdout
    times = [float(line.strip(",")) for line in listing.split()]
    times = [time for time in times if time > times[0] + 2.5]
    return max(after - before for before, after in itertools.pairwise(times))


async def test_hold_slate_return_in_another_format_and_end(relay: Relay, tmp_path: Path) -> None:
    small, large = make_clip(tmp_path / "a.flv", 3, video=BASELINE), make_clip(tmp_path / "b.flv", 3, video=HIGH)
    spec = WorkerSpec(
        stream_id="loss",
        ingest_url=f"{relay.rtmp_url}/live/loss/in",
        targets=(TargetSpec(language="es", output_url=f"{relay.rtmp_url}/live/loss/out"),),
        backend=BackendSpec(kind="none"),
        delay_s=2.0,
        source_loss=SourceLossSpec(hold_s=0.5, slate_text="Back at 5 o'clock", end_after_s=6),
    )
    recording = tmp_path / "loss.flv"
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        await publish(small, spec.ingest_url)
        await until(lambda: session.status().source_loss == "slate")
        await asyncio.sleep(0.5)
        await publish(large, spec.ingest_url)
        await until(lambda: session.status().source_loss is None)
        assert session.status().targets[0].output_state == "live"
        await until(lambda: session.status().targets[0].output_state == "idle")
        assert session.output_sessions == [1]
        assert any("has ended" in warning for warning in session.status().warnings)
        await asyncio.wait_for(recorder, 8)  # by the end of the session, not by the worker's
    seen = pictures(recording)
    widths = [width for width, _ in itertools.groupby(width for _, width in seen)]
    assert widths == [320, 640], "each source, with a slate of its size behind it"
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(seen)]
    assert max(gaps) < 1.5, "the hold, and a little for a busy machine"
    assert len(seen) * 0.04 > seen[-1][0] - seen[0][0] - 3
    assert sound_gaps(recording) < 0.15

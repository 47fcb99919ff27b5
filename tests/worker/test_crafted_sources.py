"""What no encoder here would send: timestamps that jump within a connection, and HEVC by enhanced RTMP."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType
from babelcast.spec import BackendSpec, TargetSpec, WorkerSpec
from tests.worker.media import access_units, av_offsets_ms, beeps, flashes, flv_tags, make_clip, record, streams
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

CLIP_S = 3


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


def spec_for(name: str, relay: Relay) -> WorkerSpec:
    return WorkerSpec(
        stream_id=name,
        ingest_url=f"{relay.rtmp_url}/live/{name}/in",
        targets=(TargetSpec(language="es", output_url=f"{relay.rtmp_url}/live/{name}/out"),),
        backend=BackendSpec(kind="none"),
        delay_s=2.0,
    )


async def send(url: str, messages: Iterable[tuple[float, Message]]) -> None:
    """Publish each message at its time, in seconds from the first."""
    async with RtmpClient.connect(url) as client:
        await client.publish()
        began = time.monotonic()
        for due, message in messages:
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            await client.send(message)


def packet_times(path: Path, track: str) -> list[float]:
    command = ["ffprobe", "-v", "error", "-select_streams", track, "-show_entries", "packet=dts_time"]
    listing = subprocess.run([*command, "-of", "csv=p=0", str(path)], check=True, capture_output=True, text=True)
    return [float(line.strip(",")) for line in listing.stdout.split()]


def times_on_air(recording: Path, track: str) -> list[float]:
    """From the first picture on: before it lies the silence by which a session makes itself known, with a gap, if the
    reader was quick."""
    began = packet_times(recording, "v")[0]
    return [time for time in packet_times(recording, track) if time >= began]


async def test_timestamps_jump_back_and_ahead_within_a_connection(relay: Relay, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.flv", CLIP_S)
    tags = flv_tags(clip)
    starts_ms = (0, 0, 3_600_000)
    plan = [
        (turn * CLIP_S + tag.timestamp / 1000, tag._replace(timestamp=start + tag.timestamp))
        for turn, start in enumerate(starts_ms)
        for tag in tags
    ]
    spec, recording = spec_for("jumps", relay), tmp_path / "jumps.flv"
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        await send(spec.ingest_url, plan)
        await asyncio.sleep(2.6)
        assert session.output_sessions == [1]
        assert any("re-based" in warning for warning in session.status().warnings)
    await asyncio.wait_for(recorder, 8)
    source, published = access_units(clip), access_units(recording)
    assert published[-2 * len(source) :] == 2 * source
    for track in ("v", "a"):
        times = times_on_air(recording, track)
        steps = [after - before for before, after in itertools.pairwise(times)]
        assert min(steps) >= 0 and max(steps) < 0.3, track
        assert times[-1] - times[0] > 2.5 * CLIP_S, track
    # flvdemux takes a jump back out of each track by that track's own last tag: a picture and an AAC frame, at most,
    # they are apart until another connection has taken over. At a jump ahead the sound's place is known after half a
    # second. So the flashes at the jumps themselves, a second behind the one before, may show it; no others.
    shown, offsets = flashes(recording), av_offsets_ms(recording)
    at_jump = [False] + [after - before < 1.5 for before, after in itertools.pairwise(shown)]
    assert at_jump.count(True) == 2 and len(shown) >= 4
    assert all(abs(offset) < 100 for offset in offsets), offsets
    assert all(-15 < offset < 45 for offset, at in zip(offsets, at_jump, strict=True) if not at), offsets


async def test_clocks_of_every_kind(relay: Relay, tmp_path: Path) -> None:
    """Two sources at once, to save time: one whose timestamps wrap (32 bits of milliseconds are over after 49.7
    days) while an operator sets another delay; and one whose sound's timestamps step 40 ms ahead, later 120 ms back,
    and run 1000 ppm fast all the time."""
    wrap, steps = make_clip(tmp_path / "wrap.in.flv", 9), make_clip(tmp_path / "steps.in.flv", 11)
    async with asyncio.TaskGroup() as group:
        group.create_task(_wrap(relay, wrap, tmp_path / "wrap.flv"))
        group.create_task(_steps(relay, steps, tmp_path / "steps.flv"))
    # looked at after both, for looking stops this loop
    assert access_units(tmp_path / "wrap.flv") == access_units(wrap)
    heard = beeps(tmp_path / "wrap.flv")
    assert [round(b - a) for a, b in itertools.pairwise(heard)][-2:] == [2, 2], "sound, behind the wrap too"
    assert all(-15 < offset < 45 for offset in av_offsets_ms(tmp_path / "wrap.flv"))
    offsets = av_offsets_ms(tmp_path / "steps.flv")[-4:]  # the flashes at 4, 6, 8 and 10 s
    wanted = [_shift_ms(at) for at in (4, 6, 8, 10)]
    assert all(-15 < offset - shift < 45 for offset, shift in zip(offsets, wanted, strict=True)), (offsets, wanted)


async def _wrap(relay: Relay, clip: Path, recording: Path) -> None:
    plan = [(tag.timestamp / 1000, tag._replace(timestamp=(tag.timestamp - 3_500) % 2**32)) for tag in flv_tags(clip)]
    spec = spec_for("wrap", relay)
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        sending = asyncio.create_task(send(spec.ingest_url, plan))
        await until(lambda: session.status().targets[0].published_seconds > 1)
        session.set_delay(2.2)
        await sending
        await asyncio.sleep(2.8)
        assert session.output_sessions == [1]
        assert 2.1 < session.status().delay_s <= 2.2
    await asyncio.wait_for(recorder, 8)


def _shift_ms(at_s: float) -> float:
    return at_s + (40 if at_s > 3 else 0) - (120 if at_s > 7 else 0)


async def _steps(relay: Relay, clip: Path, recording: Path) -> None:
    def crafted(tag: Message) -> Message:
        shift = _shift_ms(tag.timestamp / 1000) if tag.type == MessageType.AUDIO else 0
        return tag._replace(timestamp=round(tag.timestamp + shift + 200))

    spec = spec_for("steps", relay)
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        await send(spec.ingest_url, [(tag.timestamp / 1000, crafted(tag)) for tag in flv_tags(clip)])
        await asyncio.sleep(2.6)
        assert session.output_sessions == [1]
        assert abs(session.av_sync_delta_ms) < 12
    await asyncio.wait_for(recorder, 8)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("ppm", [5_000, -5_000])
async def test_a_clock_that_runs_away_is_followed_without_a_jump(relay: Relay, tmp_path: Path, ppm: int) -> None:
    clip = make_clip(tmp_path / "in.flv", 80)
    plan = [(tag.timestamp / 1000 / (1 + ppm / 1e6), tag) for tag in flv_tags(clip)]
    spec, recording = spec_for("drift", relay), tmp_path / "drift.flv"
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        await send(spec.ingest_url, plan)
        assert session.source_drift_ms * ppm < 0 and abs(session.source_drift_ms) > 100
        await asyncio.sleep(2.6)
        assert session.output_sessions == [1]
        assert not any("re-based" in warning for warning in session.status().warnings)
    await asyncio.wait_for(recorder, 8)
    assert access_units(recording) == access_units(clip)
    for track in ("v", "a"):
        times = times_on_air(recording, track)
        steps = [after - before for before, after in itertools.pairwise(times)]
        assert min(steps) > 0 and max(steps) < 0.06, track
    assert all(-15 < offset < 45 for offset in av_offsets_ms(recording))


async def test_hevc_by_enhanced_rtmp_is_named_and_its_sound_goes_on(
    relay: Relay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = make_clip(tmp_path / "in.flv", 5)
    first = True

    def as_hevc(tag: Message) -> Message:
        """The same tag with enhanced RTMP's header: key or inter frame, packet type, and the codec's four letters."""
        nonlocal first
        kind, packet, first = (0x90, 0 if first else 1, False) if tag.payload[0] >> 4 == 1 else (0xA0, 1, first)
        return tag._replace(payload=bytes([kind | packet]) + b"hvc1" + tag.payload[2:])

    plan = [(tag.timestamp / 1000, as_hevc(tag) if tag.type == MessageType.VIDEO else tag) for tag in flv_tags(clip)]
    spec, recording = spec_for("hevc", relay), tmp_path / "hevc.flv"
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        sending = asyncio.create_task(send(spec.ingest_url, plan))
        await until(lambda: "H.265 (HEVC)" in (session.status().last_error or ""))
        await until(lambda: session.status().state == "live")
        await sending
        await asyncio.sleep(2.6)
        assert session.output_sessions == [1]
    await asyncio.wait_for(recorder, 8)
    assert streams(recording) == ["aac"]
    assert len(beeps(recording)) >= 2
    assert len([entry for entry in caplog.records if "H.265" in entry.message]) == 1

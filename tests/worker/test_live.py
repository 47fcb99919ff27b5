"""The worker between a real RTMP server, a real publisher and a real reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.spec import BackendSpec, TargetSpec, WorkerSpec
from babelcast.worker.session import WorkerSession
from tests.worker.fake_speech import FakeBackend
from tests.worker.media import (
    access_units,
    av_offsets_ms,
    beeps,
    make_clip,
    publish,
    record,
    sound,
    streams,
)
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DELAY_S = 2.0


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.flv", 7)


def spec_for(name: str, relay: Relay, **more: Any) -> WorkerSpec:
    output = more.pop("output_url", f"{relay.rtmp_url}/live/{name}/out")
    settings: dict[str, Any] = {
        "stream_id": name,
        "ingest_url": f"{relay.rtmp_url}/live/{name}/in",
        "targets": (TargetSpec(language="es", output_url=output),),
        "backend": BackendSpec(kind="none"),
        "delay_s": DELAY_S,
    }
    return WorkerSpec(**(settings | more))


async def through(
    relay: Relay, clip: Path, recording: Path, backend: FakeBackend | None = None, **more: Any
) -> WorkerSession:
    """Publish ``clip`` through a worker into ``recording``."""
    spec = spec_for(recording.stem, relay, **more)
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    try:
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(publish(clip, spec.ingest_url))
            await asyncio.sleep(0.5)
            async with worker(spec, backend) as session:
                await publishing
                await asyncio.sleep(DELAY_S + 0.6)
        await asyncio.wait_for(recorder, 8)
    finally:
        recorder.cancel()
    return session


async def test_pictures_are_untouched_and_sound_stays_with_them(relay: Relay, clip: Path, tmp_path: Path) -> None:
    bypass, dubbed = tmp_path / "bypass.flv", tmp_path / "dubbed.flv"
    await asyncio.gather(
        through(relay, clip, bypass),
        through(relay, clip, dubbed, FakeBackend(speaks=False), separation="spectral"),
    )
    source = access_units(clip)
    for recording in (bypass, dubbed):
        published = access_units(recording)
        assert published == source[-len(published) :]
        assert len(published) > len(source) // 2
        offsets = av_offsets_ms(recording)
        assert len(offsets) >= 2
        assert all(-15 < offset < 45 for offset in offsets)


FORMATS = {
    "mono": {"audio": "-ac 1 -ar 44100 -c:a aac"},
    "low": {"audio": "-ac 2 -ar 22050 -c:a aac"},
    "surround": {"audio": "-ac 6 -ar 48000 -c:a aac"},
    "mp3": {"audio": "-ac 2 -ar 44100 -c:a libmp3lame"},
    "mute": {"audio": None},
    "blind": {"video": None},
}


async def test_every_audio_format_and_missing_tracks(relay: Relay, tmp_path: Path) -> None:
    clips = {name: make_clip(tmp_path / f"{name}.in.flv", 5, **options) for name, options in FORMATS.items()}  # type: ignore[arg-type]
    recordings = {name: tmp_path / f"{name}.flv" for name in FORMATS}
    await asyncio.gather(*(through(relay, clips[name], recordings[name]) for name in FORMATS))
    for name, recording in recordings.items():
        assert streams(recording) == (["aac"] if name == "blind" else ["aac", "h264"]), name
        assert len(beeps(recording)) == 0 if name == "mute" else len(beeps(recording)) >= 2, name
        if name not in ("mute", "blind"):
            assert all(-15 < offset < 45 for offset in av_offsets_ms(recording)), name


async def test_source_stops_and_returns_with_new_timestamps(relay: Relay, clip: Path, tmp_path: Path) -> None:
    spec = spec_for("returns", relay)
    recording = tmp_path / "returns.flv"
    short = make_clip(tmp_path / "short.flv", 4)
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    async with worker(spec) as session:
        await publish(short, spec.ingest_url)
        await until(lambda: session.status().state == "reconnecting")
        await asyncio.sleep(4)
        assert session.status().targets[0].output_state == "live"
        await publish(short, spec.ingest_url)
        await asyncio.sleep(DELAY_S + 0.6)
        assert session.output_sessions == [1]
    await asyncio.wait_for(recorder, 8)
    source, published = access_units(short), access_units(recording)
    # both visits are there, each from a key frame to its end
    assert published.count(source[-1]) == 2
    own = [unit for unit in published if unit in set(source)]
    assert len(source) < len(own) < len(published), "and a slate between"
    assert all(-15 < offset < 45 for offset in av_offsets_ms(recording))


async def test_destination_refuses_then_accepts(
    relay: Relay, clip: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    spec = spec_for("refused", relay, output_url=f"rtmp://127.0.0.1:{port}/live/refused/out")
    publishing = asyncio.create_task(publish(clip, spec.ingest_url))
    async with worker(spec) as session:
        await until(lambda: session.status().targets[0].output_state == "retrying")
        assert session.status().targets[0].last_error
        async with Relay(RelaySettings(rtmp_port=port, api_port=0)):
            await until(lambda: session.status().targets[0].output_state == "live")
            assert session.status().targets[0].last_error is None
            session.request_stop()
            await asyncio.sleep(0.5)
        await publishing


async def test_speech_service_comes_late(relay: Relay, tmp_path: Path) -> None:
    long = make_clip(tmp_path / "long.flv", 12)
    backend = FakeBackend(there=False)
    spec = spec_for("late", relay, backend=BackendSpec(kind="sts"), separation="off")
    recording = tmp_path / "late.flv"
    recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
    publishing = asyncio.create_task(publish(long, spec.ingest_url))
    async with worker(spec, backend) as session:
        await until(lambda: session.status().targets[0].fallback == "original")
        backend.there = True
        await until(lambda: session.status().targets[0].segments > 2)
        await until(lambda: session.status().targets[0].fallback is None)
        await publishing
        await asyncio.sleep(DELAY_S)
        assert session.status().targets[0].fallback_seconds > 0
        assert [entry.sequence for entry in session.segments(-1)] == list(range(len(session.segments(-1))))
    await asyncio.wait_for(recorder, 8)
    pcm = sound(recording)
    level = np.sqrt(np.mean(np.square(pcm[: len(pcm) // 4800 * 4800].reshape(-1, 4800)), axis=1))
    first_sound, first_dub = (int(np.flatnonzero(level > least)[0]) for least in (0.005, 0.05))
    # the session's opening, silence of 2.5 s of its time, is heard by a quick reader
    assert first_sound <= (DELAY_S + 2.5) * 10, "the silence before the first picture is no longer than the delay"
    # from then on the original is heard without a hole, before and between the dub
    assert level[first_sound + 1 : max(first_dub, first_sound + 5)].min() > 0.005

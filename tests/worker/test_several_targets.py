"""One source, two languages: each with its own dub, and neither disturbed by the other's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.spec import BackendSpec, SegmentEntry, TargetSpec, WorkerSpec
from babelcast.sts.serve import serving
from babelcast.sts.service import Service
from babelcast.sts.tone import ToneEngine
from babelcast.worker.main import shared_backend_of
from tests.worker.media import access_units, av_offsets_ms, make_clip, publish, record, sound
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

LANGUAGES = ("es", "de")


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


def spec_for(name: str, relay: Relay, outputs: list[str], backend: BackendSpec, journal: Path) -> WorkerSpec:
    return WorkerSpec(
        stream_id=name,
        ingest_url=f"{relay.rtmp_url}/live/{name}/in",
        targets=tuple(TargetSpec(language=lang, output_url=url) for lang, url in zip(LANGUAGES, outputs, strict=True)),
        backend=backend,
        delay_s=4.0,
        separation="off",
        journal_dir=journal,
    )


async def test_two_languages_share_the_pictures_and_have_a_dub_each(relay: Relay, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.flv", 7)
    outputs = [f"{relay.rtmp_url}/live/two/out/{language}" for language in LANGUAGES]
    recordings = [tmp_path / f"{language}.flv" for language in LANGUAGES]
    service = Service(ToneEngine())
    async with serving(service) as url:
        spec = spec_for("two", relay, outputs, BackendSpec(kind="sts", url=url), tmp_path)
        recorders = [asyncio.create_task(record(*pair)) for pair in zip(outputs, recordings, strict=True)]
        async with worker(spec, shared_backend_of(spec, spec.backend)) as session:
            await publish(clip, spec.ingest_url)
            await asyncio.sleep(spec.delay_s + 0.6)
            targets = session.status().targets
        await asyncio.wait_for(asyncio.gather(*recorders), 8)
    # both languages were heard once
    assert (service.metrics.registry.get_sample_value("sts_audio_seconds_total") or 0) < 1.3 * 7
    assert [(target.language, target.output_state, target.backend_state) for target in targets] == [
        (language, "live", "open") for language in LANGUAGES
    ]
    assert all(target.segments >= 2 and target.last_error is None for target in targets)
    source, units = access_units(clip), [access_units(recording) for recording in recordings]
    for language, published, recording in zip(LANGUAGES, units, recordings, strict=True):
        assert published == source[-len(published) :] and len(published) > len(source) // 2
        lines = (tmp_path / f"segments.{language}.jsonl").read_text().splitlines()
        entries = [SegmentEntry.model_validate_json(line) for line in lines]
        assert {entry.language for entry in entries} == {language} and len(entries) >= 2
        pcm = sound(recording)
        pcm = pcm[np.argmax(np.abs(pcm) > 0.01) :]  # a recorder that was quick has the silence before the programme too
        spectrum = np.abs(np.fft.rfft(pcm[: 5 * 48_000]))
        assert spectrum[5 * 430 : 5 * 900].max() > 3 * spectrum[5 * 320 : 5 * 420].max(), "the dub's tones are heard"


async def test_a_destination_that_refuses_leaves_the_other_alone(
    relay: Relay, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    clip = make_clip(tmp_path / "in.flv", 6)
    good = f"{relay.rtmp_url}/live/half/out/es"
    dead = f"rtmp://127.0.0.1:{free_port()}/live/half/out/de"
    spec = spec_for("half", relay, [good, dead], BackendSpec(kind="none"), tmp_path)
    recording = tmp_path / "es.flv"
    recorder = asyncio.create_task(record(good, recording))
    async with worker(spec) as session:
        publishing = asyncio.create_task(publish(clip, spec.ingest_url))
        await until(lambda: session.status().targets[1].output_state == "retrying")
        await publishing
        await asyncio.sleep(spec.delay_s + 0.6)
        live, failing = session.status().targets
        assert (live.output_state, live.last_error, session.output_sessions[0]) == ("live", None, 1)
        assert failing.output_state in ("retrying", "connecting") and failing.last_error
    await asyncio.wait_for(recorder, 8)
    source, published = access_units(clip), access_units(recording)
    assert published == source[-len(published) :] and len(published) > len(source) // 2
    assert all(-15 < offset < 45 for offset in av_offsets_ms(recording))

"""A worker between a real RTMP server, publisher and reader: captions in the pictures and in the journal."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from babelcast.captions.journal import read_broadcasts
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.spec import BackendSpec, CaptionsSpec, TargetSpec, WorkerSpec
from babelcast.speech.base import SpeechSession, SpeechTarget
from babelcast.units import NS_PER_S, DubSegment
from tests.captions.test_cea608 import read_captions
from tests.worker.fake_speech import FakeBackend, FakeSession
from tests.worker.media import make_clip, publish, record, sound
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DELAY_S = 2.0


class CountingSession(FakeSession):
    def _segment(self, start_ns: int) -> DubSegment:
        made = super()._segment(start_ns)
        return replace(made, transcript=f"word {made.sequence}", translation=f"¿palabra {made.sequence}?")


class CountingBackend(FakeBackend):
    """A tone of half a second for every second, each with words of its own."""

    async def open(self, target: SpeechTarget) -> SpeechSession:
        return CountingSession(self)


async def test_captions_are_where_the_dub_is_heard(tmp_path: Path) -> None:
    clip, recording = make_clip(tmp_path / "clip.flv", 8), tmp_path / "out.flv"
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay:
        spec = WorkerSpec(
            stream_id="words",
            ingest_url=f"{relay.rtmp_url}/live/words/in",
            targets=(TargetSpec(language="es", output_url=f"{relay.rtmp_url}/live/words/out"),),
            backend=BackendSpec(kind="sts"),
            delay_s=DELAY_S,
            separation="off",
            captions=CaptionsSpec(embed="cea608"),
            journal_dir=tmp_path / "journal",
        )
        recorder = asyncio.create_task(record(spec.targets[0].output_url, recording))
        try:
            publishing = asyncio.create_task(publish(clip, spec.ingest_url))
            await asyncio.sleep(0.5)
            async with worker(spec, CountingBackend()) as session:
                video = session._programmes[0].video
                await until(lambda: len(video) > 0)
                first_picture_s = video.upcoming(1)[0].pts_ns / NS_PER_S
                await publishing
                await asyncio.sleep(DELAY_S + 0.6)
            await asyncio.wait_for(recorder, 8)
        finally:
            recorder.cancel()
    (broadcast,) = read_broadcasts(tmp_path / "journal")
    cues = broadcast.cues("es")
    assert len(cues) >= 4
    entries = {entry.translation: entry for entry in broadcast.entries["es"]}
    for cue in cues:  # the broadcast's clock begins when source time 0 is on air
        assert cue.start_s == pytest.approx((entries[cue.text].placed_ns or 0) / NS_PER_S, abs=0.01)

    onsets = tones(recording)
    # a recording begins with a key frame, and there is one every second: so source time is known up to seconds
    zero_s = first_picture_at_s(recording) - first_picture_s
    shown = {lines[-1]: start for start, _, lines in read_captions(recording)}
    matched = [(cue, shown[cue.text]) for cue in cues if cue.text in shown]
    assert len(matched) >= 4, (shown, cues)
    for cue, shown_s in matched:
        heard_s = min(onsets, key=lambda onset: abs(onset - shown_s))
        assert abs(shown_s - heard_s) < 0.5, "in the pictures when it is heard"
        off_s = (zero_s + cue.start_s - heard_s + 0.5) % 1 - 0.5
        assert abs(off_s) < 0.1, "and in the files"


def first_picture_at_s(path: Path) -> float:
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    listing = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    return float(listing.split()[0].strip(","))


def tones(path: Path) -> list[float]:
    """Times at which the dub's 440 Hz begins."""
    pcm, step = sound(path), 480
    blocks = pcm[: len(pcm) // step * step].reshape(-1, step)
    time = np.arange(step) / 48_000
    level = np.abs(blocks @ np.exp(-2j * np.pi * 440 * time)) / step
    loud = np.flatnonzero(level > 0.05)
    starts = loud[np.insert(np.diff(loud) > 20, 0, True)] if len(loud) else loud
    return [float(start) * step / 48_000 for start in starts]

"""What the sound encoder, as we set it, makes of speech."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest

from babelcast.audio.clicks import find_clicks
from babelcast.audio.pcm import to_s16le
from babelcast.gst.publish import PublishPipeline
from babelcast.units import RATE, Pcm, samples_to_ns
from tests.audio.voices import spoken

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

BLOCK = RATE // 10


async def encoded(sound: Pcm, path: Path) -> Pcm:
    """Through the output's encoder and ffmpeg's decoder; float32, shape (n, 2)."""
    output = PublishPipeline(str(path), with_video=False, audio_bitrate=160_000, base_time_ns=None)
    output.start()
    for at in range(0, len(sound), BLOCK):
        block = sound[at : at + BLOCK]
        output.push_audio(to_s16le(block), samples_to_ns(at), len(block))
    assert await output.finish(30)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "2", "-ar", str(RATE), "-"]
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, 2)


async def test_it_does_not_click(tmp_path: Path) -> None:
    """Its noise shaping did, wherever its frames lay badly: about once in half a minute."""
    voice = np.concatenate([spoken("slt", 3), spoken("rms", 3), spoken("kal", 3)])
    for offset in range(0, 1_024, 256):
        sound = np.zeros((offset + len(voice), 2), np.float32)
        sound[offset:] = voice[:, None]
        heard = await encoded(sound, tmp_path / "speech.flv")
        assert np.abs(heard).max() > 0.1
        assert find_clicks(heard, coded=True) == [], offset

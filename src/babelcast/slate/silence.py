"""Silence as AAC, for a sender that has no encoder of its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from babelcast.errors import PublishError
from babelcast.slate.ffmpeg import flv_tags, run_ffmpeg

FRAME_SAMPLES = 1_024
RATE = 48_000
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class SilenceAac:
    """AAC-LC, 48 kHz, stereo. ``config`` is the AudioSpecificConfig, ``frame`` a raw frame of 1024 samples that may
    be sent over and over."""

    config: bytes
    frame: bytes

    @staticmethod
    def time_ms(index: int) -> int:
        """When the frame at ``index`` of the repetition begins, from the first one, rounded; no error adds up."""
        return (index * FRAME_SAMPLES * 1_000 + RATE // 2) // RATE


async def silence_aac() -> SilenceAac:
    """Made by ffmpeg's own encoder. Raises MissingDependencyError or PublishError."""
    source = ["-f", "lavfi", "-i", f"anullsrc=r={RATE}:cl=stereo", "-t", "0.3"]
    encode = ["-c:a", "aac", "-aac_tns", "0", "-aac_is", "0", "-b:a", "64k", "-f", "flv", "pipe:1"]
    try:
        with tempfile.TemporaryDirectory(prefix="babelcast-silence-") as folder:
            flv = await run_ffmpeg([*source, *encode], Path(folder), timeout_s=_TIMEOUT_S)
    except OSError as error:
        raise PublishError(f"silence could not be made: {error}") from error
    bodies = [tag.body for tag in flv_tags(flv) if tag.type == 8 and len(tag.body) > 2]
    configs = [body[2:] for body in bodies if body[1] == 0]
    frames = [body[2:] for body in bodies if body[1] == 1]
    if not configs or len(frames) < 4:
        raise PublishError("ffmpeg gave no sound")
    return SilenceAac(configs[0], frames[len(frames) // 2])  # the first ones hold the encoder's start

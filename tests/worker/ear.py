"""What a reader of a published stream hears, and when."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import MessageType

_FRAME = 1_024
RATE = 48_000


class Ear:
    """Reads a stream; keeps each AAC frame and when it came."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, bytes]] = []

    async def listen(self, url: str) -> None:
        async with RtmpClient.connect(url) as client:
            await client.play()
            async for message in client.messages():
                if message.type == MessageType.AUDIO and message.payload[1] == 1:
                    self.frames.append((time.monotonic(), bytes(message.payload[2:])))

    def levels(self, folder: Path) -> list[tuple[float, float]]:
        """(arrival, RMS) of each frame that can be decoded with the one that follows it."""
        return [(arrival, float(np.sqrt(np.mean(np.square(block))))) for arrival, block in self.blocks(folder)]

    def blocks(self, folder: Path) -> list[tuple[float, npt.NDArray[np.float32]]]:
        """(arrival, 1024 samples of mono at 48 kHz) of each frame that can be decoded with the one that follows it."""
        file = folder / "heard.aac"
        file.write_bytes(b"".join(_adts(frame) + frame for _, frame in self.frames))
        command = ["ffmpeg", "-v", "error", "-i", str(file), "-f", "f32le", "-ac", "1", "-"]
        pcm = np.frombuffer(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout, np.float32)
        blocks = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME)
        return [(arrival, block) for (arrival, _), block in zip(self.frames, blocks, strict=False)]


def _adts(frame: bytes) -> bytes:
    """The header of an AAC-LC frame, 48 kHz stereo (ISO 13818-7)."""
    length = len(frame) + 7
    return bytes((0xFF, 0xF1, 0x4C, 0x80 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC))

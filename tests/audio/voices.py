"""Real speech (flite, through ffmpeg) and a real codec, for the tests of sound."""

from __future__ import annotations

import functools
import subprocess

import numpy as np
from tests.audio.signals import bump

from babelcast.units import RATE, Pcm

LINES = (
    "Hello everyone and welcome to the stadium",
    "it is a beautiful night and every seat in the house is taken",
    "the home team has won the last three games",
)


@functools.cache
def spoken(voice: str = "rms", lines: int = 2, pause_s: float = 0.4) -> Pcm:
    """Lines of talk, shape (n,), RMS while it lasts about −21 dBFS, its ends faded."""
    parts = []
    for text in LINES[:lines]:
        raw = _ffmpeg("-f", "lavfi", "-i", f"flite=text={text}:voice={voice}", *_OUT, "-ac", "1", "-")
        line = np.frombuffer(raw, np.float32)
        line = line * (0.09 / np.sqrt(np.mean(line**2))) * bump(len(line), 480)
        parts += [line.astype(np.float32), np.zeros(round(pause_s * RATE), np.float32)]
    return np.concatenate(parts)


def through_aac(samples: Pcm, bitrate: str = "160k") -> Pcm:
    """Encoded and decoded again, shape (m, 2); a priming of 1,024 samples comes first."""
    coded = _ffmpeg(*_IN, "-i", "-", "-c:a", "aac", "-b:a", bitrate, "-f", "adts", "-", data=samples.tobytes())
    raw = _ffmpeg("-f", "aac", "-i", "-", *_OUT, "-ac", "2", "-", data=coded)
    return np.frombuffer(raw, np.float32).reshape(-1, 2)


_IN = ("-f", "f32le", "-ar", str(RATE), "-ac", "2")
_OUT = ("-f", "f32le", "-ar", str(RATE))


def _ffmpeg(*options: str, data: bytes = b"") -> bytes:
    return subprocess.run(("ffmpeg", "-v", "error", *options), input=data, capture_output=True, check=True).stdout

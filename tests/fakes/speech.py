"""Sound for speech tests: flite's sentences, tones, noise; and frames of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache

import numpy as np

from babelcast.units import SPEECH_RATE, SpeechFrame, samples_to_ns

FRAME = SPEECH_RATE // 10


@cache
def flite(text: str, voice: str = "slt") -> bytes:
    """A sentence as S16LE mono at 16 kHz, with flite's own silence round it."""
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", f"flite=voice={voice}:text='{text}'"]
    command += ["-ar", str(SPEECH_RATE), "-ac", "1", "-f", "s16le", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def silence(seconds: float) -> bytes:
    return bytes(2 * int(seconds * SPEECH_RATE))


def sine(seconds: float, hz: float = 300.0, level: float = 0.3) -> bytes:
    time = np.arange(int(seconds * SPEECH_RATE)) / SPEECH_RATE
    return (level * 32767 * np.sin(2 * np.pi * hz * time)).astype("<i2").tobytes()


def noise(seconds: float, level: float = 0.1) -> bytes:
    samples = np.random.default_rng(7).normal(size=int(seconds * SPEECH_RATE))
    return (level * 32767 * samples).clip(-32768, 32767).astype("<i2").tobytes()


def music(seconds: float, level: float = 0.2) -> bytes:
    """Decaying chords, two a second."""
    time = np.arange(int(seconds * SPEECH_RATE)) / SPEECH_RATE
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (220.0, 277.2, 329.6)) / 3
    return (level * 32767 * chord * np.exp(-4 * (time % 0.5))).astype("<i2").tobytes()


def frames(pcm: bytes, start_ns: int = 0) -> Iterator[SpeechFrame]:
    """``pcm`` in frames of 100 ms; the last may be shorter."""
    for place in range(0, len(pcm), 2 * FRAME):
        yield SpeechFrame(start_ns + samples_to_ns(place // 2, SPEECH_RATE), pcm[place : place + 2 * FRAME])

"""Six programmes made by code, each known in its parts: what is said, and what is behind it."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from babelcast.audio.fade import linear_in
from babelcast.demo.bed import make_bed
from babelcast.units import RATE, Pcm

_LINES = (
    ("slt", "Hello everyone, and welcome to the stadium."),
    ("rms", "The home team has won the last three games."),
    ("slt", "The rain has stopped, but the grass is still very wet."),
    ("rms", "The trainer told us that the team has worked very hard this week."),
    ("slt", "The second half begins in a few minutes."),
)
_LEAD_S, _PAUSE_S, _END_S = 2.0, 0.6, 1.5
_RMS = 0.1
_FADE = RATE // 200


@dataclass(frozen=True)
class Programme:
    """``voice`` and ``bed``: float32, shape (n, 2); their sum is the source."""

    name: str
    title: str
    about: str
    voice: Pcm
    bed: Pcm

    @property
    def source(self) -> Pcm:
        return self.voice + self.bed


@functools.cache
def _spoken(voice: str, text: str) -> Pcm:
    """By flite, at an RMS of −20 dBFS, without its DC offset, the ends faded: a mouth makes no steps; shape (n,)."""
    command = ("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"flite=voice={voice}:text='{text}'")
    raw = subprocess.run((*command, "-ar", str(RATE), "-f", "f32le", "-"), capture_output=True, check=True).stdout
    samples = np.frombuffer(raw, np.float32)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    samples = samples[loud[0] : loud[-1]] - samples.mean()
    ramp = linear_in(_FADE)
    samples[:_FADE] *= ramp
    samples[-_FADE:] *= ramp[::-1]
    level = np.float32(_RMS / np.sqrt(np.mean(samples**2)))
    result: Pcm = samples * level
    return result


def _talk(pan: Callable[[str], tuple[float, float]], pause_s: float = _PAUSE_S) -> Pcm:
    """All lines, each placed in the stereo image by its speaker; shape (n, 2). A negative pause lets them overlap."""
    at, placed = round(_LEAD_S * RATE), []
    for voice, text in _LINES:
        line = _spoken(voice, text)[:, None] * np.array(pan(voice), np.float32)
        placed.append((at, line))
        at += len(line) + round(pause_s * RATE)
    out = np.zeros((max(start + len(line) for start, line in placed) + round(_END_S * RATE), 2), np.float32)
    for start, line in placed:
        out[start : start + len(line)] += line
    return out


def _centred(_voice: str) -> tuple[float, float]:
    return 1.0, 1.0


def _below(bed: Pcm, db: float) -> Pcm:
    """``bed`` at an RMS so many dB below a voice."""
    level = np.float32(_RMS * 10 ** (-db / 20) / np.sqrt(np.mean(bed.astype(float) ** 2)))
    result: Pcm = bed * level
    return result


def _crowd(n: int, seed: int = 2) -> Pcm:
    """Noise of 200 Hz to 4 kHz, each channel of its own, with slow swells and single shouts."""
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    shape = (hz / 200) / np.sqrt(1 + (hz / 200) ** 2) / np.sqrt(1 + (hz / 4_000) ** 2)
    t = np.arange(n) / RATE
    swell = 1 + 0.4 * np.sin(2 * np.pi * 0.2 * t) + 1.5 * np.exp(-(((t % 7.0) - 4.0) ** 2) / 0.3)
    channels = [np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * shape, n) * swell for _ in range(2)]
    return np.stack(channels, axis=1).astype(np.float32)


def _music(n: int, seed: int = 1) -> Pcm:
    """Chords that change every 2 s, spread over the channels, and a drum that is nearly centred."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / RATE
    out = np.zeros((n, 2))
    for i, notes in enumerate(((220, 277, 330), (196, 247, 294), (175, 220, 262), (165, 208, 247))):
        on = ((t // 2).astype(int) % 4 == i) * np.exp(-0.7 * (t % 2))
        for note in notes:
            for harmonic in range(1, 7):
                level, hz = harmonic**-1.5, note * harmonic
                common = np.sin(2 * np.pi * hz * t + rng.uniform(0, 6))
                out[:, 0] += on * level * (common + 0.4 * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6)))
                out[:, 1] += on * level * (0.5 * common + 0.9 * np.sin(2 * np.pi * 1.003 * hz * t + rng.uniform(0, 6)))
    drum = rng.standard_normal(n) * np.exp(-25 * (t % 0.5))
    return (out + drum[:, None] * (0.8, 0.6)).astype(np.float32)


def _in_a_room(voice: Pcm) -> Pcm:
    """As a microphone pair at some metres hears it: direct sound, and 0.5 s of reverberation as loud as it."""
    rng = np.random.default_rng(5)
    n = round(0.6 * RATE)
    decay = 10 ** (-3 * np.arange(n) / (0.5 * RATE))
    size = len(voice) + n
    out = np.empty_like(voice)
    for channel in range(2):
        response = rng.standard_normal(n) * decay
        response[: RATE // 200] = 0
        response /= np.sqrt(np.sum(response**2))
        response[0] = 1.0
        full = np.fft.irfft(np.fft.rfft(voice[:, channel], size) * np.fft.rfft(response, size), size)
        out[:, channel] = full[: len(voice)]
    return _like(out, voice)


def _like(sound: Pcm, other: Pcm) -> Pcm:
    level = np.float32(np.sqrt(np.mean(other**2) / np.mean(sound**2)))
    result: Pcm = sound * level
    return result


def programmes() -> list[Programme]:
    centred = _talk(_centred)
    n = len(centred)
    apart = _talk(lambda voice: (1.2, 0.6) if voice == "slt" else (0.6, 1.2), pause_s=-0.25)
    far = _in_a_room(centred)
    mono = np.repeat(_crowd(n)[:, :1] + 0.3 * _music(n)[:, :1], 2, axis=1)
    return [
        Programme("music", "Talk over music", "centred talk, music 12 dB below", centred, _below(_music(n), 12)),
        Programme("crowd", "Talk over a crowd", "centred talk, crowd 12 dB below", centred, _below(_crowd(n), 12)),
        Programme(
            "two",
            "Two speakers",
            "6 dB to either side, the one falling into the other's words; music and crowd 15 dB below",
            apart,
            _below(make_bed(len(apart) / RATE, (), -30)[: len(apart)], 15),
        ),
        Programme(
            "far",
            "A far microphone",
            "talk with as much reverberation as direct sound, different in both channels; crowd 20 dB below",
            far,
            _below(_crowd(n, 7), 20),
        ),
        Programme("loud", "Loud music", "centred talk, music as loud", centred, _below(_music(n), 0)),
        Programme(
            "mono", "Mono", "twice the same channel: talk, crowd and music 12 dB below", centred, _below(mono, 12)
        ),
    ]

"""Talk and beds made by code, and the figures by which a separation is judged."""

from __future__ import annotations

import functools
import subprocess

import numpy as np
import numpy.typing as npt

from babelcast.separate.base import Separated, Separator
from babelcast.units import RATE, Pcm

LINES = (
    ("slt", "Hello everyone, and welcome to the stadium."),
    ("rms", "The home team has won the last three games."),
    ("slt", "The rain has stopped, but the grass is still very wet."),
    ("rms", "The trainer told us that the team has worked very hard this week."),
)


@functools.cache
def talk() -> Pcm:
    """About 15 s of two flite voices with pauses of 0.4 s, after 1.5 s of silence; mono, shape (n,)."""
    pause = np.zeros(round(0.4 * RATE), np.float32)
    parts = [np.zeros(round(1.5 * RATE), np.float32)]
    for voice, text in LINES:
        command = ("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"flite=voice={voice}:text='{text}'")
        raw = subprocess.run((*command, "-ar", str(RATE), "-f", "f32le", "-"), capture_output=True, check=True).stdout
        samples = np.frombuffer(raw, np.float32)
        loud = np.flatnonzero(np.abs(samples) > 0.01)
        samples = samples[loud[0] : loud[-1]]
        parts += [samples * np.float32(0.1 / np.sqrt(np.mean(samples**2))), pause]
    return np.concatenate([*parts, pause]).astype(np.float32)


def spoken(voice: Pcm) -> npt.NDArray[np.bool_]:
    """Where it is loud, by 50 ms; shape (n,)."""
    size = RATE // 20
    loud = np.maximum.reduceat(np.abs(voice), np.arange(0, len(voice), size)) > 0.01
    mask: npt.NDArray[np.bool_] = np.repeat(loud, size)[: len(voice)]
    return mask


def crowd(n: int, seed: int = 2) -> Pcm:
    """Noise of 200 Hz to 4 kHz, each channel of its own; slow swells; shape (n, 2)."""
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    shape = (hz / 200) / np.sqrt(1 + (hz / 200) ** 2) / np.sqrt(1 + (hz / 4_000) ** 2)
    swell = 1 + 0.3 * np.sin(2 * np.pi * 0.2 * np.arange(n) / RATE)
    channels = [np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * shape, n) * swell for _ in range(2)]
    return np.stack(channels, axis=1).astype(np.float32)


def music(n: int, seed: int = 1) -> Pcm:
    """Chords that change every 2 s, spread over the channels, and a drum that is nearly centred; shape (n, 2)."""
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


def at_level(bed: Pcm, db_below_speech: float) -> Pcm:
    """``bed`` so many dB below the talk (RMS while spoken)."""
    voice = talk()
    speech = np.sqrt(np.mean(voice[spoken(voice)] ** 2))
    gain = speech * 10 ** (-db_below_speech / 20) / np.sqrt(np.mean(bed**2))
    return bed * np.float32(gain)


def run(separator: Separator, signal: Pcm, block: int = 4_800) -> Separated:
    parts = [separator.process(signal[i : i + block]) for i in range(0, len(signal), block)]
    parts.append(separator.flush())
    return Separated(np.concatenate([p.background for p in parts]), np.concatenate([p.speech for p in parts]))


def si_sdr(reference: Pcm, estimate: Pcm) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    r, e = reference.ravel().astype(float), estimate.ravel().astype(float)
    target = (r @ e) / (r @ r) * r
    return float(10 * np.log10((target @ target) / ((e - target) @ (e - target))))


def residual_speech_db(estimate: Pcm, bed: Pcm, voice: Pcm) -> float:
    """The talk's gain in the estimate, by least squares on talk and bed where it is spoken."""
    mask = spoken(voice)
    gains = []
    for channel in range(2):
        parts = np.stack([voice[mask], bed[mask, channel]], axis=1).astype(float)
        gains.append(abs(np.linalg.lstsq(parts, estimate[mask, channel].astype(float), rcond=None)[0][0]))
    return float(20 * np.log10(np.mean(gains) + 1e-9))


def level_change_db(estimate: Pcm, bed: Pcm, where: npt.NDArray[np.bool_]) -> float:
    return float(10 * np.log10(np.mean(estimate[where] ** 2) / np.mean(bed[where] ** 2)))

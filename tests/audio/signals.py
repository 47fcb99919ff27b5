"""Signals for the tests of sound, and a finder of clicks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from babelcast.audio.loudness import gated_power, hop_powers, lufs
from babelcast.audio.source import SourceAudio
from babelcast.units import RATE, DubSegment, Pcm, samples_to_ns


def sine(n: int, hz: float = 220.0, amplitude: float = 0.1, rate: int = RATE, start: int = 0) -> Pcm:
    t = (start + np.arange(n)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def stereo(left: Pcm, right: Pcm) -> Pcm:
    return np.stack([left, right], axis=1)


def noise(n: int, seed: int = 1, amplitude: float = 0.1, channels: int = 2) -> Pcm:
    shape = (n, channels) if channels > 1 else (n,)
    return (amplitude * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def segment(
    start: int, stop: int, n: int, *, sequence: int = 0, hz: float = 300.0, amplitude: float = 0.2, rate: int = RATE
) -> DubSegment:
    """A tone of ``n`` samples that speaks the source samples [start, stop)."""
    return DubSegment(
        segment_id=f"s{sequence}",
        sequence=sequence,
        source_start_ns=samples_to_ns(start),
        source_end_ns=samples_to_ns(stop),
        samples=sine(n, hz, amplitude, rate),
        rate=rate,
    )


def source_of(original: Pcm, background: Pcm | None) -> SourceAudio:
    """On air since a tenth of a second before sample 0, so that the fade at a beginning is over."""
    audio = SourceAudio(len(original) / RATE + 1)
    before = np.zeros((RATE // 10, 2), np.float32)
    audio.write_original(-len(before), before)
    audio.write_original(0, original)
    if background is not None:
        audio.write_background(-len(before), before)
        audio.write_background(0, background)
    return audio


def worst_step_db(samples: Pcm) -> float:
    """The largest jump that low-frequency material can't explain: the third difference, in dBFS.

    A tone of amplitude a at frequency f has a third difference of a (2π f / RATE)³, below −90 dBFS for 220 Hz at
    −20 dBFS, while a jump of height h shows with at least h.
    """
    return float(20 * np.log10(np.abs(np.diff(samples, n=3, axis=0)).max() + 1e-12))


def gated_lufs(samples: Pcm) -> float:
    """Integrated loudness of ``samples`` as hop_powers takes them, in LUFS; −70 for silence."""
    return lufs(gated_power(hop_powers(samples)))


def made_music(seconds: float, loudness_db: float = -26.0, seed: int = 7) -> Pcm:
    """Chords, bass drum and brushes in stereo, RMS ``loudness_db``; no sound in it begins or ends with a corner."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    out = np.zeros((n + RATE, 2))
    chords = ((110.0, 261.63, 440.0, 523.25), (87.31, 174.61, 349.23, 440.0), (130.81, 261.63, 329.63, 392.0))
    bar = round(2.5 * RATE)
    for index in range(-(-n // bar)):
        part = np.zeros((bar + RATE // 4, 2))
        t = np.arange(len(part)) / RATE
        for note in chords[index % len(chords)]:
            for harmonic in range(1, 7):
                pan = rng.uniform(0.2, 0.8)
                wave = np.sin(2 * np.pi * note * harmonic * (1 + rng.uniform(-1e-3, 1e-3)) * t + rng.uniform(0, 6))
                part += wave[:, None] * np.array([pan, 1 - pan]) / harmonic**1.5
        begin = index * bar
        out[begin : begin + len(part)] += (0.2 * part * bump(len(part), RATE // 4)[:, None])[: len(out) - begin]
    for begin in range(0, n, round(0.625 * RATE)):
        t = np.arange(RATE // 3) / RATE
        drum = np.sin(2 * np.pi * (58 * t + 6 * (1 - np.exp(-t * 30)))) * np.exp(-t * 22) * bump(len(t), 144)
        out[begin : begin + len(t)] += 0.8 * drum[:, None]
        brush = rng.standard_normal((RATE // 8, 2)) * np.exp(-np.arange(RATE // 8) / (0.012 * RATE))[:, None]
        at = begin + round(0.3125 * RATE)
        out[at : at + len(brush)] += (0.05 * brush * bump(len(brush), 96)[:, None])[: max(0, len(out) - at)]
    out = out[:n]
    return np.asarray(out * 10 ** (loudness_db / 20) / np.sqrt(np.mean(out**2)), np.float32)


def made_crowd(seconds: float, loudness_db: float = -30.0, seed: int = 8) -> Pcm:
    """A murmur, each channel of its own, RMS ``loudness_db``."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    shape = (hz > 100) / (1 + (hz / 350) ** 2) / (1 + (180 / np.maximum(hz, 1)) ** 4) / (1 + (hz / 2_400) ** 8)
    out = np.stack([np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * shape, n) for _ in range(2)], axis=1)
    return np.asarray(out * 10 ** (loudness_db / 20) / out.std(), np.float32)


def bump(n: int, edge: int) -> npt.NDArray[np.float64]:
    """One, with raised-cosine edges of ``edge`` samples."""
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.minimum(1.0, np.arange(n) / edge))
    return np.asarray(ramp * ramp[::-1])

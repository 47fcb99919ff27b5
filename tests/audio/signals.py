"""Signals for the tests of sound, and a finder of clicks."""

from __future__ import annotations

import numpy as np

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

"""Conversions and levels of PCM blocks."""

from __future__ import annotations

import math

import numpy as np

from babelcast.units import S16, Pcm

MIN_DB = -120.0
"""What silence measures, in dBFS."""


def frames_of(data: bytes | bytearray | memoryview, channels: int) -> S16:
    """Interleaved S16LE as it is: shape (n, channels), not to be written to.

    Raises ValueError where ``data`` doesn't hold whole sample frames.
    """
    samples = np.frombuffer(data, dtype="<i2")
    if len(samples) % channels:
        raise ValueError(f"{len(data)} bytes are no whole number of {channels}-channel sample frames")
    return samples.reshape(-1, channels)


def as_pcm(samples: Pcm | S16) -> Pcm:
    """Whole samples as floats in [-1, 1); floats as they are."""
    if samples.dtype != np.int16:
        return samples  # type: ignore[return-value]
    floats = samples.astype(np.float32)
    floats *= np.float32(1.0 / 32768.0)
    return floats


def as_s16(samples: Pcm | S16) -> S16:
    """Floats as whole samples, rounded, clipped at full scale; whole samples as they are."""
    if samples.dtype == np.int16:
        return samples  # type: ignore[return-value]
    scaled = samples * np.float32(32768.0)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768.0, 32767.0, out=scaled)
    return scaled.astype("<i2")


def from_s16le(data: bytes | bytearray | memoryview, channels: int) -> Pcm:
    """Interleaved S16LE to float32 in [-1, 1): shape (n, channels), or (n,) for one channel.

    Raises ValueError where ``data`` doesn't hold whole sample frames.
    """
    samples = as_pcm(frames_of(data, channels))
    return samples[:, 0] if channels == 1 else samples


def to_s16le(samples: Pcm) -> bytes:
    """Float samples, shape (n,) or (n, channels), to interleaved S16LE; clipped at full scale, rounded."""
    return as_s16(samples).tobytes()


def to_mono(samples: Pcm) -> Pcm:
    """Mean of the channels: shape (n, channels) → (n,); one voice, shape (n,), is returned as it is."""
    if samples.ndim == 1:
        return samples
    mono: Pcm = np.mean(samples, axis=1, dtype=np.float32)
    return mono


def rms(samples: Pcm) -> float:
    """Root mean square over all samples and channels; 0.0 for none."""
    return math.sqrt(float(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def peak(samples: Pcm) -> float:
    """Largest magnitude; 0.0 for no samples."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0


def db(amplitude: float) -> float:
    """Amplitude (1.0 is full scale) in dBFS, never below :data:`MIN_DB`."""
    return max(20.0 * math.log10(amplitude), MIN_DB) if amplitude > 0.0 else MIN_DB


def from_db(level_db: float) -> float:
    """Amplitude of a level in dBFS."""
    return float(10.0 ** (level_db / 20.0))

"""The shapes of fades. Every change of sound in this package uses one of them, so that none has a corner."""

from __future__ import annotations

import functools

import numpy as np

from babelcast.units import RATE, Pcm

JOIN = RATE * 15 // 1000
"""Samples of a crossfade inside speech: 15 ms."""
CROSSFADE = RATE * 7 // 100
"""Samples of a crossfade at a change of source or fallback: 70 ms."""


def eased(x: Pcm) -> Pcm:
    """0 to 1 without a corner at either end (3x² − 2x³); ``x`` is clipped to [0, 1]."""
    x = np.clip(x, 0.0, 1.0)
    smooth: Pcm = x * x * (3.0 - 2.0 * x)
    return smooth


@functools.lru_cache(maxsize=32)
def equal_power_in(n: int) -> Pcm:
    """``n`` gains that rise from 0 to 1; squared, they and their mirror add up to 1."""
    x = (np.arange(n, dtype=np.float32) + 0.5) / np.float32(max(n, 1))
    gains: Pcm = np.sin(eased(x) * np.float32(np.pi / 2)).astype(np.float32)
    return gains


@functools.lru_cache(maxsize=32)
def linear_in(n: int) -> Pcm:
    """``n`` gains that rise from 0 to 1; they and their mirror add up to 1: for like signals, and to silence."""
    return eased((np.arange(n, dtype=np.float32) + 0.5) / np.float32(max(n, 1))).astype(np.float32)

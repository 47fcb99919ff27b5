"""Tempo without pitch: Signalsmith Stretch through python-stretch (MIT)."""

from __future__ import annotations

import numpy as np
from python_stretch.Signalsmith import Stretch

from babelcast.units import RATE, Pcm

_SEED = 20_250_101
"""The stretcher dithers phases; a fixed seed makes a dub reproducible sample by sample."""


def stretched_length(n: int, tempo: float) -> int:
    """Samples that ``n`` samples become at ``tempo``."""
    return max(1, round(n / tempo)) if n else 0


def stretch(samples: Pcm, tempo: float, rate: int = RATE) -> Pcm:
    """Mono speech, shape (n,), ``tempo`` times as fast, with its pitch kept; exactly stretched_length() samples."""
    if tempo == 1.0 or not len(samples):
        return samples
    stretcher = Stretch(_SEED)
    stretcher.preset(1, rate)
    stretcher.setTimeFactor(tempo)
    out: Pcm = np.asarray(stretcher.process(samples[None, :]), dtype=np.float32)[0]
    wanted = stretched_length(len(samples), tempo)
    if len(out) == wanted:
        return out
    fitted = np.zeros(wanted, np.float32)
    fitted[: min(wanted, len(out))] = out[:wanted]
    return fitted

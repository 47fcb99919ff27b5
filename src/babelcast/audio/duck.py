"""A sidechain compressor: the background is turned down while the dub is heard.

Feed-forward, in decibels, decided per millisecond. Detector and ballistics are the smooth decoupled peak detector of
D. Giannoulis, M. Massberg and J. D. Reiss, "Digital Dynamic Range Compressor Design", JAES 60(6), 2012, eq. 17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from babelcast.audio.limit import EASE
from babelcast.units import RATE, Pcm

_STEP = RATE // 1000
_NONE_DB = 1e-3
"""Less reduction than this is none."""


@dataclass(frozen=True, slots=True)
class Ducking:
    """``threshold_db``: level of the dub (dBFS, RMS) from which the background is turned down. ``range_db``: at most
    this much. Times are those in which 63 % of a change is done."""

    enabled: bool = False
    threshold_db: float = -30.0
    ratio: float = 4.0
    attack_ms: float = 20.0
    release_ms: float = 400.0
    range_db: float = 14.0


class Ducker:
    """State: the two stages of the detector. ``settings`` may be replaced at any time; the gain never jumps."""

    def __init__(self, settings: Ducking) -> None:
        self.settings = settings
        self._held_db = 0.0  # released, not yet attacked
        self._reduction_db = 0.0
        self._gain = 1.0

    def gains(self, voice: Pcm | None, n: int) -> Pcm | None:
        """Gain of the background for the next ``n`` samples (whole milliseconds), shape (n,); None means 1.0.

        ``voice``: the dub as it is heard in them, shape (n,); None: none.
        """
        wanted = self._wanted_db(voice, n // _STEP)
        if wanted is None and self._held_db == 0.0 and self._gain == 1.0:
            return None
        attack = math.exp(-1.0 / self.settings.attack_ms)
        release = math.exp(-1.0 / self.settings.release_ms)
        held, reduction = self._held_db, self._reduction_db
        nodes = []
        for target in wanted if wanted is not None else [0.0] * (n // _STEP):
            held = max(target, release * held + (1.0 - release) * target)
            reduction = attack * reduction + (1.0 - attack) * held
            if held < _NONE_DB and reduction < _NONE_DB:
                held = reduction = 0.0  # per millisecond, so that it doesn't depend on the blocks
            nodes.append(reduction)
        self._held_db, self._reduction_db = held, reduction
        knots = np.empty(len(nodes) + 1, np.float32)
        knots[0] = self._gain
        knots[1:] = 10.0 ** (np.array(nodes) / -20.0)
        self._gain = float(knots[-1])
        gain: Pcm = (knots[:-1, None] + np.diff(knots)[:, None] * EASE).reshape(-1)
        return gain

    def _wanted_db(self, voice: Pcm | None, steps: int) -> list[float] | None:
        """The static curve, per millisecond; None where nothing is to be turned down."""
        settings = self.settings
        if voice is None or not settings.enabled:
            return None
        frames = voice.reshape(steps, _STEP)
        power = np.einsum("ij,ij->i", frames, frames) / _STEP
        over = 10.0 * np.log10(np.maximum(power, 1e-12)) - settings.threshold_db
        reduction = np.clip(over * (1.0 - 1.0 / settings.ratio), 0.0, settings.range_db)
        wanted: list[float] = reduction.tolist()
        return wanted if max(wanted) > 0.0 else None

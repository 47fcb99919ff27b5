"""Chooses by the stereo image: the centre mask where speech is centred before a wide bed, else the spectral hold.

Watched over some seconds, in the band of speech: how wide the bed is (side over mid power where nobody speaks), and
how centred the speech is (the same ratio in the bins that rise far above the bed while somebody speaks). A change
needs two seconds of clear evidence and is crossfaded over a batch (0.17 s). Until somebody was heard the spectral hold
is at work, which takes out a voice wherever it stands, and a third of a second of a centred voice is enough for the
first change: the centre mask would leave one that isn't in the middle in the background.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from babelcast.separate.centre import CentreMask, Powers, power
from babelcast.separate.spectral import SpectralHold
from babelcast.separate.stft import Frames, Spectra, bin_of

_BAND = slice(bin_of(150), bin_of(5_000))
_WIDE = 0.03  # side / mid power of the bed from which the centre mask is better
_CENTRED = 0.05  # side / mid power of the speech up to which it counts as centred
_NOT_MONO = 1e-3  # the same over everything, where it begins in the middle of talk: no bed was heard yet
_CLEAR = 2.0  # hysteresis: factor by which a threshold must be passed for a change
_ABOVE_BED = 30.0  # a bin belongs to speech when it is this much above the bed's mean power
_PATIENCE = 12  # batches of the same wish before a change
_PATIENCE_AT_FIRST = 2  # as long as the voice was heard in no more than _PATIENCE batches
_MEMORY = 0.993  # per batch with evidence: about 25 s


class _Image:
    """Running sums of mid and side power of one kind of moment."""

    def __init__(self) -> None:
        self.mid = 0.0
        self.side = 0.0

    def add(self, mid: float, side: float) -> None:
        self.mid = _MEMORY * self.mid + mid
        self.side = _MEMORY * self.side + side

    @property
    def ratio(self) -> float | None:
        """Side over mid power; None before any evidence."""
        return self.side / self.mid if self.mid > 1e-9 else None


class AutoEstimator:
    """Implements Estimator with CentreMask and SpectralHold; both learn all the time, one (or, in a crossfade,
    both) estimates."""

    def __init__(self) -> None:
        self._centre = CentreMask()
        self._spectral = SpectralHold()
        self._bed, self._voice, self._all = _Image(), _Image(), _Image()
        self._bed_power: Powers | None = None
        self._use_centre: bool | None = None
        self._contrary = 0
        self._voiced = 0  # batches in which the voice was heard
        self._weight = 0.0  # of the centre mask at the end of the last batch
        self.changes = 0

    @property
    def active(self) -> str:
        return "centre" if self._use_centre else "spectral"

    def restart(self) -> None:
        self._centre.restart()
        self._spectral.restart()

    def speech(self, frames: Frames) -> Spectra | None:
        self._watch(frames)
        self._decide()
        target = 1.0 if self._use_centre else 0.0
        before, self._weight = self._weight, target
        silent = replace(frames, speech=np.zeros_like(frames.speech))
        centre = self._centre.speech(frames if max(before, target) > 0.0 else silent)
        spectral = self._spectral.speech(frames if min(before, target) < 1.0 else silent)
        if centre is None or spectral is None:
            return centre if spectral is None else spectral
        weight = np.linspace(before, target, len(frames.speech), dtype=np.float32)[:, None, None]
        return spectral + weight * (centre - spectral)

    def _watch(self, frames: Frames) -> None:
        left, right = frames.spectra[:, 0, _BAND], frames.spectra[:, 1, _BAND]
        mid, side = power((left + right) * np.float32(0.5)), power((left - right) * np.float32(0.5))
        self._all.add(float(mid.mean()), float(side.mean()))
        if frames.quiet.any():
            quiet_mid, quiet_side = mid[frames.quiet], side[frames.quiet]
            self._bed.add(float(quiet_mid.mean()), float(quiet_side.mean()))
            mean = (quiet_mid + quiet_side).mean(axis=0)
            self._bed_power = mean if self._bed_power is None else 0.9 * self._bed_power + 0.1 * mean
        talking = frames.speech & ~frames.quiet
        if talking.any() and self._bed_power is not None:
            voiced = (mid + side)[talking] > _ABOVE_BED * self._bed_power
            if voiced.any():
                self._voiced += 1
                self._voice.add(float(mid[talking][voiced].sum()), float(side[talking][voiced].sum()))

    def _decide(self) -> None:
        if self._use_centre is None:
            if self._all.ratio is not None:  # nothing was heard before, so there is nothing to crossfade
                self._use_centre = self._wish(1.0)
                self._weight = 1.0 if self._use_centre else 0.0
            return
        factor = 1.0 / _CLEAR if self._use_centre else _CLEAR
        wish = self._wish(factor)
        self._contrary = self._contrary + 1 if wish != self._use_centre else 0
        if self._contrary >= (_PATIENCE if self._voiced > _PATIENCE else _PATIENCE_AT_FIRST):
            self._use_centre = wish
            self._contrary = 0
            self.changes += 1

    def _wish(self, factor: float) -> bool:
        """Whether the centre mask is wanted; ``factor`` > 1 asks for more than usual, < 1 for less."""
        bed, voice, overall = self._bed.ratio, self._voice.ratio, self._all.ratio
        if bed is None:
            return overall is not None and overall > _NOT_MONO * factor
        return voice is not None and voice <= _CENTRED / factor and bed > _WIDE * factor

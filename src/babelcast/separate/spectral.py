"""The background as the spectrum that was there before the speech: held while somebody speaks.

Where there surely is no speech, the power of each bin is averaged. While there may be speech, what rises far above
that power is brought back to it, so the background keeps its level; a bin that falls below it pulls it down at once,
and it creeps up slowly, so a bed that changes during a long talk is followed. Works on any stereo image, mono too.
"""

from __future__ import annotations

import numpy as np

from babelcast.separate.centre import Powers, power
from babelcast.separate.stft import Frames, Spectra, bin_of

_GROUP = 4  # frames that share one estimate: 43 ms
_LOW = bin_of(60)
_MEMORY = 0.9  # per group of quiet frames: about 0.4 s
_SMOOTH = 0.7  # of the power that is watched during speech, per group: about 0.12 s
_CREEP = np.float32(1.003)  # per group: 0.3 dB a second
_BIAS = np.float32(4.0)  # the least of a smoothed noise power lies below its mean
_LEFT_ALONE = np.float32(4.0)  # up to 4 × the held power nothing is taken out
_TINY = np.float32(1e-12)


class SpectralHold:
    """Implements Estimator. State per channel and bin: the held power, and the smoothed power of late."""

    active = "spectral"

    def __init__(self) -> None:
        self._held: Powers | None = None
        self._recent: Powers | None = None

    def restart(self) -> None:
        self._recent = None

    def speech(self, frames: Frames) -> Spectra | None:
        powers = power(frames.spectra)
        held = self._follow(powers, frames)
        if not frames.speech.any():
            return None
        excess = powers / (held + _TINY)
        np.maximum(excess, _TINY, out=excess)
        # the power to leave, over the held one: all of it up to 4, then falling to 1 at 16
        left = np.maximum(1.0, np.minimum(excess, _LEFT_ALONE * _LEFT_ALONE / excess))
        gain = 1.0 - np.sqrt(np.minimum(left / excess, 1.0))
        gain[:, :, :_LOW] = 0.0
        gain[~frames.speech] = 0.0
        voice: Spectra = frames.spectra * gain
        return voice

    def _follow(self, powers: Powers, frames: Frames) -> Powers:
        """The held power for every frame, shape (t, 2, BINS)."""
        out = np.empty_like(powers)
        for start in range(0, len(powers), _GROUP):
            group = powers[start : start + _GROUP]
            quiet = frames.quiet[start : start + _GROUP]
            mean = group.mean(axis=0)
            if self._recent is None:
                self._recent = mean
            else:
                self._recent = np.float32(_SMOOTH) * self._recent + np.float32(1 - _SMOOTH) * mean
            if quiet.all():
                held = self._held
                self._held = mean if held is None else np.float32(_MEMORY) * held + np.float32(1 - _MEMORY) * mean
            elif self._held is None:
                self._held = self._recent.copy()
            else:
                self._held = np.minimum(self._held * _CREEP, np.maximum(self._recent * _BIAS, _TINY))
            out[start : start + _GROUP] = self._held
        return out

"""The background as the spectrum that was there before the speech: held while somebody speaks.

Where there surely is no speech, the power of each bin is averaged, and the latest frames are kept as *room tone*. While
there may be speech, a bin that rises far above the held power is replaced by the room tone, at the held level: so the
background keeps its level and its texture, and of the voice nothing stays, not even its phases, by which a bin that is
only turned down goes on whispering. A bin that falls below the held power pulls it down at once, and it creeps up
slowly, so a bed that changes during a long talk is followed. Works on any stereo image, mono too.
"""

from __future__ import annotations

import numpy as np

from babelcast.separate.centre import Powers, power
from babelcast.separate.stft import BINS, Frames, Spectra, bin_of
from babelcast.units import CHANNELS

_GROUP = 4  # frames that share one estimate: 43 ms
_LOW = bin_of(60)
_MEMORY = 0.9  # per group of quiet frames: about 0.4 s
_SMOOTH = 0.7  # of the power that is watched during speech, per group: about 0.12 s
_CREEP = np.float32(1.003)  # per group: 0.3 dB a second
_BIAS = np.float32(4.0)  # the least of a smoothed noise power lies below its mean
_LEFT_ALONE, _REPLACED = np.sqrt(np.float32(5.0)), np.sqrt(np.float32(20.0))
"""Up to here, in amplitude over the held one, a bin is taken for the bed; from there on for the voice."""
_TONE_GAIN = np.float32(0.8)  # a little less than was held: what comes of the bed's own bins adds to it
_TONE_FRAMES = 192  # 2 s
_TINY = np.float32(1e-12)


class RoomTone:
    """The latest quiet frames, over and over. Frames that follow each other join as they did; the seam and each gap
    are as long as a frame's overlap."""

    def __init__(self) -> None:
        self._frames = np.zeros((_TONE_FRAMES, CHANNELS, BINS), np.complex64)
        self._written = self._read = 0
        self._power: Powers | None = None

    def learn(self, quiet: Spectra) -> None:
        """Take frames in which nobody speaks, shape (t, 2, BINS)."""
        if len(quiet):
            self._frames[(self._written + np.arange(len(quiet))) % _TONE_FRAMES] = quiet
            self._written += len(quiet)
            self._power = None

    def next(self, count: int) -> tuple[Spectra, Powers] | None:
        """The next ``count`` frames, and the mean power of all; None before half a second was heard."""
        held = min(self._written, _TONE_FRAMES)
        if held < _TONE_FRAMES // 4:
            return None
        if self._power is None:
            self._power = power(self._frames[:held]).mean(axis=0) + _TINY
        frames = self._frames[(self._read + np.arange(count)) % held]
        self._read += count
        return frames, self._power


class SpectralHold:
    """Implements Estimator. State per channel and bin: the held power, the smoothed power of late, the room tone."""

    active = "spectral"

    def __init__(self) -> None:
        self._held: Powers | None = None
        self._recent: Powers | None = None
        self._tone = RoomTone()

    def restart(self) -> None:
        self._recent = None

    def speech(self, frames: Frames) -> Spectra | None:
        powers = power(frames.spectra)
        held = self._follow(powers, frames)
        # what may be speech is never kept, however quiet: a word that the gate is unsure of would come again and again
        self._tone.learn(frames.spectra[frames.quiet & ~frames.speech])
        if not frames.speech.any():
            return None
        over = np.sqrt(powers / (held + _TINY))
        np.maximum(over, _TINY, out=over)
        share = np.clip((over - _LEFT_ALONE) / (_REPLACED - _LEFT_ALONE), 0.0, 1.0)  # of the voice in a bin
        kept = np.minimum(1.0, _LEFT_ALONE / over) * (1.0 - share)
        tone = self._tone.next(len(over))
        if tone is None:
            kept = np.minimum(1.0, np.maximum(kept, 1.0 / over))  # no texture yet: the voice's, at the held level
        voice: Spectra = frames.spectra * (1.0 - kept)
        if tone is not None:
            voice -= tone[0] * (np.sqrt(share * (held / tone[1])) * _TONE_GAIN)
        voice[:, :, :_LOW] = 0.0
        voice[~frames.speech] = 0.0
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

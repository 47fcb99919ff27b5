"""Bed and speech into one: gains without clicks, the bed ducked under the speech, a limiter behind it all. Pure."""

from __future__ import annotations

import numpy as np

from babelcast.audio.duck import Ducker
from babelcast.audio.limit import PeakLimiter
from babelcast.audio.pcm import MIN_DB, db, rms
from babelcast.bridge.audio_endpoint.settings import Mix
from babelcast.units import CHANNELS, RATE, Pcm

BLOCK = RATE // 50
"""Samples of a block: 20 ms."""
_X = (np.arange(BLOCK, dtype=np.float32) + 1) / BLOCK
_RISE: Pcm = (_X * _X * (3 - 2 * _X)).astype(np.float32)
RISE: Pcm = _RISE[:, None]
FALL: Pcm = 1 - RISE
"""Fade a block in and out, shape (BLOCK, 1)."""


class Mixer:
    """``mix`` may be replaced at any time; a gain gets to its new value within one block."""

    def __init__(self, mix: Mix) -> None:
        self.mix = mix
        self.bed_db = self.speech_db = self.output_db = MIN_DB
        """RMS of the last block, in dBFS, after the gains."""
        self._gains = {"bed": 0.0 if mix.mute_bed else mix.bed_gain, "speech": mix.speech_gain, "all": 1.0}
        self._ducker = Ducker(mix.sidechain)
        self._limiter = PeakLimiter(CHANNELS)

    def blend(self, bed: Pcm | None, speech: Pcm | None) -> Pcm:
        """One block: bed, shape (BLOCK, 2); speech, shape (BLOCK,); None is silence."""
        mix = self.mix
        self._ducker.settings = mix.sidechain
        said = self._faded("speech", 0.0 if mix.mute_speech else mix.speech_gain, speech)
        under = self._ducker.gains(said, BLOCK)
        out = self._faded("bed", 0.0 if mix.mute_bed else mix.bed_gain, bed)
        if out is None:
            out = np.zeros((BLOCK, CHANNELS), np.float32)
        elif under is not None:
            out = out * under[:, None]
        self.bed_db, self.speech_db = db(rms(out)), db(rms(said)) if said is not None else MIN_DB
        if said is not None:
            out = out + said[:, None]
        faded = self._faded("all", 0.0 if mix.mute else 1.0, out)
        assert faded is not None
        limited = self._limiter.process(faded)
        self.output_db = db(rms(limited))
        return limited

    def _faded(self, name: str, gain: float, block: Pcm | None) -> Pcm | None:
        before, self._gains[name] = self._gains[name], gain
        if block is None or before == gain == 1.0:
            return block
        ramp = np.float32(before) + np.float32(gain - before) * _RISE
        faded: Pcm = block * (ramp if block.ndim == 1 else ramp[:, None])
        return faded

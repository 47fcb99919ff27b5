"""The programme for the speech backend's ears: 48 kHz stereo to 16 kHz mono, as a stream."""

from __future__ import annotations

import numpy as np
import soxr

from babelcast.audio.pcm import to_mono
from babelcast.units import RATE, SPEECH_RATE, Pcm

_RATIO = RATE // SPEECH_RATE


class SpeechDownsampler:
    """Blocks of float32, shape (n, channels) or (n,), at 48 kHz in; mono, shape (m,), at 16 kHz out.

    The k-th output sample since the start (or the last flush) belongs to input sample 3k: the filter's delay
    shows only in when samples arrive. After a gap: flush, then go on with a new anchor.
    """

    def __init__(self) -> None:
        self._stream = soxr.ResampleStream(RATE, SPEECH_RATE, 1, dtype="float32", quality="MQ")
        self._taken = 0
        self._given = 0

    def process(self, block: Pcm) -> Pcm:
        self._taken += len(block)
        out: Pcm = self._stream.resample_chunk(to_mono(block))
        self._given += len(out)
        return out

    def flush(self) -> Pcm:
        """The rest, so that all in all ⌈input / 3⌉ samples came out; the next block starts anew."""
        rest: Pcm = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        wanted = -(-self._taken // _RATIO) - self._given
        out = np.zeros(wanted, np.float32)
        out[: min(wanted, len(rest))] = rest[:wanted]
        self._stream.clear()
        self._taken = self._given = 0
        return out

"""Where the sound of one connection follows that of another one that had it too. Pure.

Both have counted their samples from a timestamp that was rounded (FLV: to a millisecond), so the same sound lies up to
two milliseconds elsewhere in the second. Cut there it would click. Where the end of the first is found in the second,
it goes on from there to the sample. Else (another decoder, sound that moved) it is handed on from a crossfade's length
before the seam, and :class:`babelcast.audio.source.SourceAudio` crossfades what overlaps.
"""

from __future__ import annotations

import numpy as np

from babelcast.audio.fade import JOIN
from babelcast.audio.pcm import from_s16le
from babelcast.units import CHANNELS, RATE

TAIL = RATE // 20
"""Samples of the first connection's end by which it is found in the second: 50 ms."""
_REACH = RATE * 3 // 1_000
_ALIKE = 0.98
_FRAME_BYTES = 4


class Seam:
    """The first connection's sound ends at sample ``end``; ``tail`` is the last of it (S16LE stereo), where known.

    State: as much of the second as lies about there.
    """

    def __init__(self, end: int, tail: bytes = b"") -> None:
        self._end = end
        self._tail = tail[-TAIL * _FRAME_BYTES :]
        self._held = b""
        self._held_to = 0
        self.passed = False
        """Whatever comes now lies behind the seam."""
        self.moved = 0
        """By how much the second connection's positions are to be moved, once it is passed."""

    def take(self, position: int, pcm: bytes) -> tuple[int, bytes]:
        """A block of the second connection: what is to be handed on of it, and where that begins."""
        stop = position + len(pcm) // _FRAME_BYTES
        if self._held_to == position:
            position, pcm = position - len(self._held) // _FRAME_BYTES, self._held + pcm
        if stop <= self._end + _REACH:
            # what came earlier is kept only as far as it is needed: for the search, or the crossfade
            kept = (stop - self._end + TAIL + _REACH) if stop > self._end else TAIL + _REACH
            self._held, self._held_to = pcm[-kept * _FRAME_BYTES :], stop
            return stop, b""
        self.passed = True
        lag = self._lag(position, pcm)
        if lag is not None:
            self.moved = -lag
            return self._end, pcm[(self._end + lag - position) * _FRAME_BYTES :]
        begin = self._end - JOIN
        if position > begin:
            begin = max(position, self._end + 1)  # too little for a crossfade: a sample's gap has both faded
        return begin, pcm[(begin - position) * _FRAME_BYTES :]

    def _lag(self, position: int, pcm: bytes) -> int | None:
        """How much later than in the first connection the same sound lies in the second; None: it isn't there."""
        size = len(self._tail) // _FRAME_BYTES
        first = self._end - size - _REACH - position
        if not size or first < 0:
            return None
        tail = from_s16le(self._tail, CHANNELS).sum(axis=1, dtype=np.float64)
        about = pcm[first * _FRAME_BYTES : (first + size + 2 * _REACH) * _FRAME_BYTES]
        new = from_s16le(about, CHANNELS).sum(axis=1, dtype=np.float64)
        energy = np.convolve(new * new, np.ones(size), "valid") * float(tail @ tail)
        likeness = np.correlate(new, tail, "valid") / np.sqrt(energy + 1e-12)
        best = int(np.argmax(likeness))
        return best - _REACH if likeness[best] >= _ALIKE else None

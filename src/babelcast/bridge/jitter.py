"""Decoded sound between a source that comes in bursts and a clock that takes it. Pure."""

from __future__ import annotations

import numpy as np

from babelcast.audio.fade import linear_in
from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.units import CHANNELS, RATE, Pcm

_FRAME = 2 * CHANNELS
_FADE = RATE // 100
"""Samples over which sound goes and comes back where it has a hole."""
_EDGE = RATE // 500
"""Of its own beginning and end: as short as can be without a click, so that nothing of a beep is lost."""
_PATIENCE = RATE // 2
"""Samples that are played before what has piled up is taken for delay."""


class SoundQueue:
    """16-bit stereo at 48 kHz in, float blocks out.

    Nothing is played before ``target_s`` is there, again after it ran dry. It holds ``most_s``: whoever fills it waits
    while :attr:`full`. With ``late_s`` it is a live one, whose sender can't wait; its full policy: *drop the oldest*
    down to ``target_s``, count; what is left of the cut is a crossfade. It is done also when ``late_s`` were there for
    half a second, so that a burst does not become delay, while a short body that came at once is played whole.
    """

    def __init__(self, target_s: float, most_s: float, *, late_s: float | None = None) -> None:
        self._target = round(target_s * RATE) * _FRAME
        self._most = round(most_s * RATE) * _FRAME
        self._late = round(late_s * RATE) * _FRAME if late_s is not None else None
        self._late_for = 0
        self._data = bytearray()
        self._playing = False
        self._begun = False
        self.complete = False
        """Nothing more of it is sent. What is still to be decoded will not be late, so none of it is dropped."""
        self.ended = False
        """No more comes: what is there is played to its end."""
        self.trimmed_s = 0.0
        self.underruns = 0

    @property
    def seconds(self) -> float:
        return len(self._data) / _FRAME / RATE

    @property
    def full(self) -> bool:
        return len(self._data) >= self._most

    @property
    def finished(self) -> bool:
        return self.ended and len(self._data) < _FRAME

    @property
    def _cuts(self) -> bool:
        return self._late is not None and not self.complete and not self.ended

    def put(self, data: bytes) -> None:
        self._data += data
        if self._cuts and self.full:
            self._trim()

    def _trim(self) -> None:
        """Cut out the oldest, and fade from what would have come next into what comes now."""
        excess = (len(self._data) - self._target) // _FRAME * _FRAME
        fade = min(_FADE, self._target // _FRAME)
        if self._playing:
            rising = linear_in(fade)[:, None]
            old = from_s16le(bytes(self._data[: fade * _FRAME]), CHANNELS)
            new = from_s16le(bytes(self._data[excess : excess + fade * _FRAME]), CHANNELS)
            mixed = to_s16le((old * rising[::-1] + new * rising).astype(np.float32))
            self._data[excess : excess + fade * _FRAME] = mixed
        del self._data[:excess]
        self.trimmed_s += excess / _FRAME / RATE

    def take(self, n: int) -> Pcm | None:
        """The next ``n`` samples, shape (n, 2), filled with silence; None where there is nothing at all."""
        self._late_for = self._late_for + n if self._late is not None and len(self._data) > self._late else 0
        if self._cuts and self._late_for > _PATIENCE:
            self._trim()
        starting = not self._playing
        if starting and not (len(self._data) >= self._target or (self.ended and self._data)):
            return None
        found = min(n, len(self._data) // _FRAME)
        samples = np.zeros((n, CHANNELS), np.float32)
        samples[:found] = from_s16le(bytes(self._data[: found * _FRAME]), CHANNELS)
        del self._data[: found * _FRAME]
        self._playing = len(self._data) >= _FRAME
        if starting:
            fade = min(_FADE if self._begun else _EDGE, found)
            samples[:fade] *= linear_in(fade)[:, None]
            self._begun = True
        if not self._playing:
            fade = min(_EDGE if self.ended else _FADE, found)
            samples[found - fade : found] *= linear_in(fade)[::-1, None]
            self.underruns += not self.ended
        return samples

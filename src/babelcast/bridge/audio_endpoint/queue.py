"""Decoded sound between a producer and the clock, and speech that waits for its turn. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np

from babelcast.audio.fade import linear_in
from babelcast.audio.pcm import from_s16le
from babelcast.units import CHANNELS, RATE, Pcm

_FRAME = 2 * CHANNELS
_FADE = RATE // 100
_GAP = RATE // 6
"""Samples of silence between two utterances."""


class SoundQueue:
    """16-bit stereo at 48 kHz in, float blocks out.

    Nothing is played before ``target_s`` is there, again after it ran dry. Full policy of a live one: *drop the oldest*
    down to ``target_s``, count; what is left of the cut is a crossfade. One that is not ``live`` never drops: whoever
    fills it waits while :attr:`full`.
    """

    def __init__(self, target_s: float, most_s: float, *, live: bool) -> None:
        self._target = round(target_s * RATE) * _FRAME
        self._most = round(most_s * RATE) * _FRAME
        self._live = live
        self._data = bytearray()
        self._playing = False
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

    def put(self, data: bytes) -> None:
        self._data += data
        if self._live and len(self._data) > self._most:
            self._trim()

    def _trim(self) -> None:
        """Cut out the oldest, and fade from what would have come next into what comes now."""
        excess = (len(self._data) - self._target) // _FRAME * _FRAME
        fade = min(_FADE, self._target // _FRAME)
        if self._playing:
            rising = linear_in(fade)[:, None]
            old = from_s16le(bytes(self._data[: fade * _FRAME]), CHANNELS)
            new = from_s16le(bytes(self._data[excess : excess + fade * _FRAME]), CHANNELS)
            mixed = np.rint((old * rising[::-1] + new * rising) * 32_767).astype("<i2").tobytes()
            self._data[excess : excess + fade * _FRAME] = mixed
        del self._data[:excess]
        self.trimmed_s += excess / _FRAME / RATE

    def take(self, n: int) -> Pcm | None:
        """The next ``n`` samples, shape (n, 2), filled with silence; None where there is nothing at all."""
        starting = not self._playing
        if starting and not (len(self._data) >= self._target or (self.ended and self._data)):
            return None
        found = min(n, len(self._data) // _FRAME)
        samples = np.zeros((n, CHANNELS), np.float32)
        samples[:found] = from_s16le(bytes(self._data[: found * _FRAME]), CHANNELS)
        del self._data[: found * _FRAME]
        self._playing = found == n
        fade = min(_FADE, found)
        if starting:
            samples[:fade] *= linear_in(fade)[:, None]
        if found < n:
            samples[found - fade : found] *= linear_in(fade)[::-1, None]
            self.underruns += not self.ended
        return samples


class SpeechQueue:
    """Utterances, one after the other with a short pause between. Full policy: *refuse* (:meth:`room`)."""

    def __init__(self, most_s: float, most: int) -> None:
        self._most_s = most_s
        self._most = most
        self._waiting: deque[Pcm] = deque()
        self._left = 0
        """Of the first one."""
        self.spoken = 0

    @property
    def seconds(self) -> float:
        rest = sum(len(each) for each in list(self._waiting)[1:])
        return (self._left + rest) / RATE

    @property
    def count(self) -> int:
        return len(self._waiting)

    def room(self) -> bool:
        return self.seconds < self._most_s and len(self._waiting) < self._most

    def put(self, samples: Pcm) -> float:
        """``samples``: one voice, shape (n,), at 48 kHz. Returns the seconds until it is heard."""
        starts_s = self.seconds
        gap = np.zeros(_GAP, np.float32)
        self._waiting.append(np.concatenate((samples, gap)).astype(np.float32))
        if len(self._waiting) == 1:
            self._left = len(self._waiting[0])
        return starts_s

    def take(self, n: int) -> Pcm | None:
        """The next ``n`` samples, shape (n,); None where nothing is said."""
        if not self._waiting:
            return None
        block = np.zeros(n, np.float32)
        filled = 0
        while filled < n and self._waiting:
            first = self._waiting[0]
            part = first[len(first) - self._left :][: n - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            self._left -= len(part)
            if not self._left:
                self._waiting.popleft()
                self.spoken += 1
                self._left = len(self._waiting[0]) if self._waiting else 0
        return block

    def clear(self) -> int:
        """Say nothing more, but for 10 ms that fade out. Returns how many utterances were cut off or left out."""
        count = len(self._waiting)
        if self._waiting:
            first = self._waiting[0]
            rest = first[len(first) - self._left :][:_FADE]
            self._waiting = deque([(rest * linear_in(len(rest))[::-1]).astype(np.float32)])
            self._left = len(rest)
        return count

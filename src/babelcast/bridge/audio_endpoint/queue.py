"""Speech that waits for its turn. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np

from babelcast.audio.fade import linear_in
from babelcast.units import RATE, Pcm

_FADE = RATE // 100
_GAP = RATE // 6
"""Samples of silence between two utterances."""


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

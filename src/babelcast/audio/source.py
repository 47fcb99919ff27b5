"""What the worker remembers of the source's sound: the original, and the background found in it."""

from __future__ import annotations

import numpy as np

from babelcast.audio.ring import SampleRing
from babelcast.units import CHANNELS, RATE, Pcm

_EDGE = RATE // 200  # 5 ms


class SourceAudio:
    """Two windows of ``capacity_s`` seconds of the source timeline: original and background.

    The background is late by the separator's latency; where it isn't there (yet) a reader learns so from the
    count of present samples. Edges of gaps are faded (5 ms), because a gap would click.
    """

    def __init__(self, capacity_s: float) -> None:
        capacity = round(capacity_s * RATE)
        self._original = SampleRing(capacity, CHANNELS)
        self._background = SampleRing(capacity, CHANNELS)

    @property
    def original_end(self) -> int:
        return self._original.end

    @property
    def background_end(self) -> int:
        return self._background.end

    def write_original(self, pos: int, block: Pcm) -> None:
        """``block`` has shape (n, 2)."""
        _write_faded(self._original, pos, block)

    def write_background(self, pos: int, block: Pcm) -> None:
        """``block`` has shape (n, 2). Without separation, write the original here too."""
        _write_faded(self._background, pos, block)

    def read_original(self, pos: int, n: int) -> tuple[Pcm, int]:
        """Shape (n, 2), zeros where there is nothing; and how many samples are present."""
        return self._original.read(pos, n)

    def read_background(self, pos: int, n: int) -> tuple[Pcm, int]:
        """Shape (n, 2), zeros where there is nothing; and how many samples are present."""
        return self._background.read(pos, n)

    def background_lacks(self, pos: int, n: int) -> int:
        """How many samples of [pos, pos + n) the original has and the background has not."""
        return max(0, self._original.present(pos, n) - self._background.present(pos, n))


def _write_faded(ring: SampleRing, pos: int, block: Pcm) -> None:
    if ring.empty or pos == ring.end:
        ring.write(pos, block)
        return
    if pos > ring.end:  # a gap: what came before it is still in the window, so its end can be faded
        tail, _ = ring.read(ring.end - _EDGE, _EDGE)
        ring.write(ring.end - _EDGE, tail * np.linspace(1.0, 0.0, _EDGE, dtype=np.float32)[:, None])
    n = min(_EDGE, len(block))
    head = block.copy()
    head[:n] *= np.linspace(0.0, 1.0, _EDGE, dtype=np.float32)[:n, None]
    ring.write(pos, head)

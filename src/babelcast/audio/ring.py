"""A window of the source timeline, addressed by absolute sample index."""

from __future__ import annotations

import numpy as np

from babelcast.audio.pcm import as_pcm, as_s16
from babelcast.units import S16, Pcm


class SampleRing:
    """The newest ``capacity_samples`` of a signal that is written and read by position.

    Blocks may leave gaps and may overwrite; what is older than ``end - capacity`` is dropped. What was written
    is kept as a short list of spans, so that a reader learns how much of its block is real.

    ``s16``: kept as whole samples of 16 bits, for a signal that comes as such: half the memory, and no conversion
    where it goes out as it came.
    """

    def __init__(self, capacity_samples: int, channels: int, *, s16: bool = False) -> None:
        if capacity_samples <= 0 or channels <= 0:
            raise ValueError("a ring needs at least one sample and one channel")
        self._data = np.zeros((capacity_samples, channels), np.int16 if s16 else np.float32)
        self._capacity = capacity_samples
        self._spans: list[tuple[int, int]] = []  # sorted, disjoint, not touching; usually one
        self._end: int | None = None

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def channels(self) -> int:
        return self._data.shape[1]

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written."""
        return self._end is None

    @property
    def end(self) -> int:
        """One past the last sample written; 0 before the first write."""
        return self._end if self._end is not None else 0

    @property
    def start(self) -> int:
        """The oldest position that can still be held."""
        return self.end - self._capacity

    def write(self, pos: int, block: Pcm | S16) -> None:
        """Put ``block``, shape (n, channels), or (n,) for one channel, at ``pos``."""
        if block.ndim == 1:
            block = block[:, None]
        block = as_s16(block) if self._data.dtype == np.int16 else as_pcm(block)
        stop = pos + len(block)
        if self._end is None or stop > self._end:
            self._end = stop
        begin = max(pos, self._end - self._capacity)
        if begin >= stop:
            return
        block = block[begin - pos :]
        at = begin % self._capacity
        first = min(len(block), self._capacity - at)
        self._data[at : at + first] = block[:first]
        if first < len(block):
            self._data[: len(block) - first] = block[first:]
        self._mark(begin, stop)

    def read(self, pos: int, n: int) -> tuple[Pcm, int]:
        """Samples [pos, pos + n), shape (n, channels), zeros where nothing was written; and how many are real."""
        samples, present = self._read(pos, n)
        return as_pcm(samples), present

    def read_s16(self, pos: int, n: int) -> S16:
        """Samples [pos, pos + n), shape (n, channels), zeros where nothing was written."""
        return as_s16(self._read(pos, n)[0])

    def _read(self, pos: int, n: int) -> tuple[Pcm | S16, int]:
        out = np.empty((n, self.channels), self._data.dtype)
        spans = self._within(pos, pos + n)
        written = pos
        present = 0
        for begin, stop in spans:
            out[written - pos : begin - pos] = 0
            at = begin % self._capacity
            first = min(stop - begin, self._capacity - at)
            out[begin - pos : begin - pos + first] = self._data[at : at + first]
            if first < stop - begin:
                out[begin - pos + first : stop - pos] = self._data[: stop - begin - first]
            written = stop
            present += stop - begin
        out[written - pos :] = 0
        return out, present

    def present(self, pos: int, n: int) -> int:
        """How many of the samples [pos, pos + n) are held."""
        return sum(stop - begin for begin, stop in self._within(pos, pos + n))

    def _within(self, pos: int, stop: int) -> list[tuple[int, int]]:
        return [(max(a, pos), min(b, stop)) for a, b in self._spans if a < stop and b > pos]

    def _mark(self, begin: int, stop: int) -> None:
        oldest = self.start
        spans = self._spans
        if spans and spans[-1][0] <= begin <= spans[-1][1] <= stop:  # the usual case: the next block
            spans[-1] = (spans[-1][0], stop)
        else:
            merged: list[tuple[int, int]] = []
            for a, b in spans:
                if b < begin or a > stop:
                    merged.append((a, b))
                else:
                    begin, stop = min(a, begin), max(b, stop)
            merged.append((begin, stop))
            merged.sort()
            self._spans = spans = merged
        if spans[0][0] < oldest:
            self._spans = [(max(a, oldest), b) for a, b in spans if b > oldest]

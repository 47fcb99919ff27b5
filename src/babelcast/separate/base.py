"""The interface of whatever takes the speech out of the programme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from babelcast.units import CHANNELS, Pcm


@dataclass(frozen=True, slots=True)
class Separated:
    """Two estimates that add up to the input: float32, shape (m, 2) each; m may be 0."""

    background: Pcm
    speech: Pcm

    def __len__(self) -> int:
        return len(self.background)


def nothing() -> Separated:
    return Separated(np.zeros((0, CHANNELS), np.float32), np.zeros((0, CHANNELS), np.float32))


class Separator(Protocol):
    """Implemented by off.NoSeparation, stft.StftSeparator (spectral, centre) and auto.AutoSeparator.

    A stream: the k-th sample that ever came out belongs to the k-th that ever went in, and at most
    ``latency_samples`` are held back at any time. After a gap: flush, and go on.
    """

    @property
    def latency_samples(self) -> int: ...

    @property
    def active(self) -> str:
        """What is at work now, for status pages: ``centre``, ``spectral`` or ``off``."""
        ...

    def process(self, block: Pcm) -> Separated:
        """Take float32, shape (n, 2), at 48 kHz; give what is ready."""
        ...

    def flush(self) -> Separated:
        """Give all that is held back; the next block starts a new stream."""
        ...

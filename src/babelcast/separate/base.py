"""The interface of whatever takes the speech out of the programme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from babelcast.errors import BabelcastError
from babelcast.units import CHANNELS, RATE, Pcm

KEEPS_UP = 0.8
"""Share of the time that a separator may compute before it counts as too slow."""
DELAY_MARGIN_S = 0.6
"""Of the fixed delay, what is not the separator's: the sink's lead of 0.3 s, a block, the mixer's look-ahead."""


class SeparationError(BabelcastError):
    """A separator failed, or gave what can't be."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Separated:
    """Two estimates that add up to the input: float32, shape (m, 2) each; m may be 0.

    ``failed``: they are none, ``background`` is the input itself; the mixer's rule for a missing background holds.
    """

    background: Pcm
    speech: Pcm
    failed: bool = False

    def __len__(self) -> int:
        return len(self.background)


def nothing() -> Separated:
    return Separated(np.zeros((0, CHANNELS), np.float32), np.zeros((0, CHANNELS), np.float32))


class Separator(Protocol):
    """Implemented by off.NoSeparation, stft.StftSeparator (spectral, centre, auto by image), neural.NeuralSeparator
    and guard.Guard, which is round whatever a worker uses.

    A stream: the k-th sample that ever came out belongs to the k-th that ever went in, and at most
    ``latency_samples`` are held back at any time. After a gap: flush, and go on.
    """

    @property
    def latency_samples(self) -> int: ...

    @property
    def batch_samples(self) -> int:
        """How many samples are worked on at once: while it keeps real time, a call takes less than they last."""
        ...

    @property
    def active(self) -> str:
        """What is at work now, for status pages: ``neural``, ``centre``, ``spectral`` or ``off``."""
        ...

    def process(self, block: Pcm) -> Separated:
        """Take float32, shape (n, 2), at 48 kHz; give what is ready."""
        ...

    def flush(self) -> Separated:
        """Give all that is held back; the next block starts a new stream."""
        ...

    def hand_over(self) -> Separated:
        """As :meth:`flush`, but only what costs little: the first of the samples held back, perhaps none. Another
        separator goes on from there; this one is not used again."""
        ...


def needed_delay_s(separator: Separator) -> float:
    """The least fixed delay, in seconds, at which ``separator`` is ready in time as long as it keeps real time."""
    if not separator.latency_samples:
        return 0.0
    return (separator.latency_samples + KEEPS_UP * separator.batch_samples) / RATE + DELAY_MARGIN_S

"""No separation: the whole programme is background, as asked for."""

from __future__ import annotations

import numpy as np

from babelcast.separate.base import Separated, nothing
from babelcast.units import Pcm


class NoSeparation:
    """Implements Separator: the background is the original, the speech estimate is silence."""

    latency_samples = 0
    batch_samples = 0
    active = "off"

    def process(self, block: Pcm) -> Separated:
        return Separated(block, np.zeros_like(block))

    def flush(self) -> Separated:
        return nothing()

    def hand_over(self) -> Separated:
        return nothing()

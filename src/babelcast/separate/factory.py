"""Which separator a configuration word means."""

from __future__ import annotations

from typing import Literal

from babelcast.separate.auto import AutoEstimator
from babelcast.separate.base import Separator
from babelcast.separate.centre import CentreMask
from babelcast.separate.off import NoSeparation
from babelcast.separate.spectral import SpectralHold
from babelcast.separate.stft import StftSeparator

SeparationMode = Literal["auto", "centre", "spectral", "off"]
"""The same words as in the configuration."""


def make_separator(mode: SeparationMode) -> Separator:
    match mode:
        case "off":
            return NoSeparation()
        case "spectral":
            return StftSeparator(SpectralHold())
        case "centre":
            return StftSeparator(CentreMask())
        case "auto":
            return StftSeparator(AutoEstimator())

"""Which separator a configuration word means."""

from __future__ import annotations

from typing import Literal

from babelcast.errors import MissingDependencyError
from babelcast.separate.auto import AutoEstimator
from babelcast.separate.base import Separator
from babelcast.separate.centre import CentreMask
from babelcast.separate.off import NoSeparation
from babelcast.separate.spectral import SpectralHold
from babelcast.separate.stft import StftSeparator

SeparationMode = Literal["auto", "neural", "centre", "spectral", "off"]
"""The same words as in the configuration."""


def make_separator(mode: SeparationMode, model: str | None = None) -> Separator:
    """``model``: path of an ONNX file, or the name of a pulled model, for ``neural`` (and ``auto``).

    Raises MissingDependencyError where it is not there.
    """
    match mode:
        case "neural":
            raise MissingDependencyError(f"there is no separation model {model or ''}".strip())
        case "off":
            return NoSeparation()
        case "spectral":
            return StftSeparator(SpectralHold())
        case "centre":
            return StftSeparator(CentreMask())
        case "auto":
            return StftSeparator(AutoEstimator())

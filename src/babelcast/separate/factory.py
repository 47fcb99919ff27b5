"""Which separator a configuration word means."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from babelcast.errors import ConfigError, MissingDependencyError
from babelcast.separate.auto import AutoEstimator
from babelcast.separate.base import Separator, needed_delay_s
from babelcast.separate.centre import CentreMask
from babelcast.separate.guard import Guard, Step
from babelcast.separate.mdx import MdxNetwork
from babelcast.separate.neural import NeuralSeparator, chunk_for
from babelcast.separate.off import NoSeparation
from babelcast.separate.spectral import SpectralHold
from babelcast.separate.stft import StftSeparator

__all__ = ["SeparationMode", "make_separator", "needed_delay_s"]

SeparationMode = Literal["auto", "neural", "centre", "spectral", "off"]
"""The same words as in the configuration."""

_LEAD_IN_S = 6.0
"""What a separator that takes over hears of the past: enough to learn the bed, and a network's segment."""


def make_separator(mode: SeparationMode, model: str | None = None, *, delay_s: float | None = None) -> Guard:
    """``model``: path of an ONNX file, or the name of a pulled model, for ``neural`` (and ``auto``). ``delay_s``: the
    fixed delay; None where there is none, as for a file, which is then also given all the time that it takes.

    For ``neural`` it raises ConfigError where the file is no such network or the delay is too short, and, without a
    delay, MissingDependencyError where the model is not there; live, the separator then goes on failing (and trying)
    until it is. ``auto`` never raises: it takes what there is, and its warnings say why.
    """
    live = delay_s is not None
    match mode:
        case "neural":
            steps = [_neural(model, delay_s)]
        case "auto":
            by_image = Step("centre or spectral", lambda: StftSeparator(AutoEstimator()), _LEAD_IN_S)
            steps = [_neural(model, delay_s), by_image] if model else [by_image]
        case "spectral":
            steps = [Step("spectral", lambda: StftSeparator(SpectralHold()), _LEAD_IN_S)]
        case "centre":
            steps = [Step("centre", lambda: StftSeparator(CentreMask()), _LEAD_IN_S)]
        case "off":
            steps = [Step("off", NoSeparation)]
    guard = Guard(steps, ladder=mode == "auto", live=live)
    try:
        guard.prepare()
    except MissingDependencyError:
        if not live and mode != "auto":
            raise
    except Exception:  # whatever a network's file makes its loader raise
        if mode != "auto":
            raise
    return guard


def _neural(model: str | None, delay_s: float | None) -> Step:
    def make() -> Separator:
        if model is None:
            raise ConfigError(
                "separation `neural` needs a model",
                hint="name one by `separation_model`: a path, or what `babelcast models list` shows",
            )
        network = MdxNetwork(_path(model))
        return NeuralSeparator(network, chunk_for(network.format, delay_s))

    return Step("neural", make, _LEAD_IN_S)


def _path(model: str) -> Path:
    if model.lower().endswith(".onnx"):
        return Path(model).expanduser()
    from babelcast.models.cache import resolve

    return resolve(model, "separation")

"""Everything that a worker loads, loaded before it is needed."""

from __future__ import annotations

import contextlib
import importlib

from babelcast.errors import BabelcastError
from babelcast.gst.runtime import Gst, check_elements

_MODULES = (
    "babelcast.worker.main",
    "babelcast.separate.factory",
    "babelcast.speech.factory",
    "babelcast.speech.sts_stream",
)
_ELEMENTS = ("rtmp2src", "flvdemux", "avdec_aac", "audiobuffersplit", "rglimiter", "avenc_aac", "flvmux", "rtmp2sink")
"""Of each plugin one: a plugin is loaded with its first element."""


def warm_up() -> None:
    """Never raises: a worker that lacks something says so itself."""
    with contextlib.suppress(BabelcastError, ImportError):
        check_elements()
        for module in _MODULES:
            importlib.import_module(module)
        for name in _ELEMENTS:
            Gst.ElementFactory.make(name)

"""The demo's captions are everybody's: see :mod:`babelcast.captions`."""

from __future__ import annotations

from babelcast.captions.cues import Cue
from babelcast.captions.formats import vtt, write_vtt

__all__ = ["Cue", "vtt", "write_vtt"]

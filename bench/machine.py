"""What the figures were measured on."""

from __future__ import annotations

from babelcast.demo.machine import machine as parts
from babelcast.demo.machine import versions


def machine() -> str:
    """Processor, cores and programs in a few words."""
    has, ours = parts(), versions()
    return f"{has['cores']} cores ({has['processor']}), Python {ours['python']}, ffmpeg {ours['ffmpeg']}"

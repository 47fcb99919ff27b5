"""Decides, block by block, whether the dub or the fallback is on air. Pure: positions in, a mode out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from babelcast.units import RATE

FallbackMode = Literal["original", "background", "ducked", "repeat", "silence"]
"""What is heard while there is no dub; the same words as in the configuration."""


@dataclass(frozen=True, slots=True)
class FallbackSettings:
    """``mode`` is the fallback to use. It comes into force once the speech backend is ``late_tolerance_s`` behind
    the playhead, or is closed and the playhead has passed all that it dealt with, or where the source is known to
    be lost. The dub is back once the backend has been level with the playhead for ``recovery_s``, or at once when a
    dubbed segment plays; then it stays for at least ``dwell_s`` after that segment."""

    mode: FallbackMode = "original"
    late_tolerance_s: float = 1.5
    recovery_s: float = 0.5
    dwell_s: float = 1.0


class FallbackPolicy:
    """State: whether the fallback is in force, and since when the backend has been level again."""

    def __init__(self, settings: FallbackSettings) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self._in_force = False
        self._level_since: int | None = None
        self._last_dub: int | None = None
        self.changes = 0
        """How often the fallback came into force."""

    def decide(
        self, *, pos: int, watermark: int, backend_open: bool, dub_active: bool, lost: bool = False
    ) -> FallbackMode | None:
        """The mode for the block that starts at sample ``pos``; None while the dub is on air.

        ``watermark``: all source before this sample is dealt with by the backend (its segments were delivered, or
        it held no speech). ``lost``: this block's source will not be dubbed although the watermark passes it (a
        LostEvent). ``dub_active``: a dubbed segment plays in this block or within the mixer's lookahead.
        """
        if dub_active:
            self._last_dub = pos
        if self._in_force:
            if dub_active or self._recovered(pos, watermark, lost):
                self._in_force = False
        elif (lost or self._behind(pos, watermark, backend_open)) and not self._dwelling(pos):
            self._in_force = True
            self._level_since = None
            self.changes += 1
        return self.settings.mode if self._in_force else None

    def _behind(self, pos: int, watermark: int, backend_open: bool) -> bool:
        late = pos - watermark
        return late > self.settings.late_tolerance_s * RATE or (not backend_open and late > 0)

    def _dwelling(self, pos: int) -> bool:
        last = self._last_dub
        return last is not None and 0 <= pos - last < self.settings.dwell_s * RATE

    def _recovered(self, pos: int, watermark: int, lost: bool) -> bool:
        if lost or watermark < pos:
            self._level_since = None
            return False
        if self._level_since is None or self._level_since > pos:
            self._level_since = pos
        return pos - self._level_since >= self.settings.recovery_s * RATE

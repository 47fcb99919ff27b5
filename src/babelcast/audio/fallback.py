"""Decides, block by block, whether the dub is on air or which fallback, and why. Pure: positions in, a mode out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from babelcast.units import RATE

FallbackMode = Literal["original", "background", "ducked", "repeat", "silence"]
"""What is heard while there is no dub; the same words as in the configuration."""
FallbackCause = Literal["closed", "late", "lost", "breaker", "budget"]
"""Why there is no dub; the same words as in :mod:`babelcast.spec`."""


_HOLDING: frozenset[FallbackCause] = frozenset({"breaker", "budget"})


@dataclass(frozen=True, slots=True)
class FallbackSettings:
    """``mode`` is the fallback to use, ``by_cause`` where a cause wants another one. It comes into force once the
    speech backend is ``late_tolerance_s`` behind the playhead, or is closed (or left alone) and the playhead has
    passed all that it dealt with, or where the source is known to be lost. The dub is back once the backend has been
    level with the playhead for ``recovery_s``, or at once when a dubbed segment plays; then it stays for at least
    ``dwell_s`` after that segment. While a fallback is in force another cause takes over once it has held for
    ``settle_s``; an open breaker and a spent budget, which hold by themselves, at once."""

    mode: FallbackMode = "original"
    by_cause: Mapping[FallbackCause, FallbackMode] = field(default_factory=dict)
    late_tolerance_s: float = 1.5
    recovery_s: float = 0.5
    dwell_s: float = 1.0
    settle_s: float = 1.0

    def mode_for(self, cause: FallbackCause) -> FallbackMode:
        return self.by_cause.get(cause, self.mode)


class FallbackPolicy:
    """State: the cause in force, and since when the backend has been level again."""

    def __init__(self, settings: FallbackSettings) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self.cause: FallbackCause | None = None
        """Why the fallback is in force, None while the dub is on air."""
        self._next_cause: FallbackCause | None = None
        self._next_since = 0
        self._level_since: int | None = None
        self._last_dub: int | None = None
        self.changes = 0
        """How often a fallback came into force."""

    def decide(
        self, *, pos: int, watermark: int, closed: FallbackCause | None, dub_active: bool, lost: bool = False
    ) -> FallbackMode | None:
        """The mode for the block that starts at sample ``pos``; None while the dub is on air.

        ``watermark``: all source before this sample is dealt with by the backend (its segments were delivered, or
        it held no speech). ``closed``: why no session is open that can be relied on, None where one is. ``lost``:
        this block's source will not be dubbed although the watermark passes it (a LostEvent). ``dub_active``: a
        dubbed segment plays in this block or within the mixer's lookahead.
        """
        if dub_active:
            self._last_dub = pos
        found = self._found(pos, watermark, closed, lost)
        if self.cause is not None:
            if dub_active or self._recovered(pos, watermark, lost):
                self.cause = None
            elif found is not None:
                self._settle(pos, found)
        elif found is not None and not self._dwelling(pos):
            self.cause = self._next_cause = found
            self._level_since = None
            self.changes += 1
        return None if self.cause is None else self.settings.mode_for(self.cause)

    def _found(self, pos: int, watermark: int, closed: FallbackCause | None, lost: bool) -> FallbackCause | None:
        late = pos - watermark
        if closed is not None and (late > 0 or lost):
            return closed
        if lost:
            return "lost"
        return "late" if late > self.settings.late_tolerance_s * RATE else None

    def _settle(self, pos: int, found: FallbackCause) -> None:
        """Take over another cause, once it has held: two that alternate must not make the sound flap."""
        if found != self._next_cause:
            self._next_cause, self._next_since = found, pos
        held = not 0 <= pos - self._next_since < self.settings.settle_s * RATE
        if found in _HOLDING or held:
            self.cause = found

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

"""What is known of a stream at a moment, before anybody judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from babelcast.orchestrator.views import StreamView
from babelcast.spec import TargetStatus, WorkerStatus

SourceState = Literal["off", "live", "stalled", "lost"]
"""off: not published. stalled: connected, and 8 s without a byte. lost: it went, and is waited for."""

SILENT_DB = -60.0
"""A source below this is taken for silence."""


@dataclass(frozen=True, slots=True)
class Facts:
    """``still_s``: how long no byte has come from a source that is connected. ``silent_s``: how long its sound has
    been silence, 0.0 while it is heard. ``heard_db``: its level now, None before it is known. ``recognised``: what was
    recognised last, None before anything was. ``unanswered_s``: how long the worker has not answered."""

    view: StreamView
    still_s: float = 0.0
    stalled: bool = False
    kbps_in: float | None = None
    silent_s: float = 0.0
    heard_db: float | None = None
    recognised: str | None = None
    unanswered_s: float = 0.0

    @property
    def status(self) -> WorkerStatus | None:
        return self.view.status

    @property
    def targets(self) -> tuple[TargetStatus, ...]:
        return self.view.status.targets if self.view.status else ()

    @property
    def source(self) -> SourceState:
        if self.view.online:
            return "stalled" if self.stalled else "live"
        return "off" if self.view.source_gone_s is None else "lost"

    @property
    def forced(self) -> bool:
        """An operator has taken the air from the dub."""
        return self.view.controls.force is not None

    @property
    def dubs(self) -> bool:
        """The stream is to be dubbed at all."""
        return any(target.backend_state != "none" for target in self.targets)

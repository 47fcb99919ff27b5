"""What is shown of a destination: read by the orchestrator's API, the console and the report."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

DestinationState = Literal["idle", "connecting", "live", "stalled", "retrying", "failed", "stopped"]
"""
- ``idle``: nothing to send, the programme is not on the media server;
- ``connecting``: reaching the destination, up to its permission to publish;
- ``live``: tags flow;
- ``stalled``: connected, but nothing moves: the programme is away (the connection is held for a while) or the
  destination does not read;
- ``retrying``: an attempt failed, the next one is waited for;
- ``failed``: refused for a reason that no retry mends, or many attempts in a row failed. It is still tried again,
  after the longest wait: what is mended at the other end needs no hand here;
- ``stopped``: switched off or stopped.
"""


class DestinationStatus(BaseModel):
    """One destination of one stream. ``url`` never holds the key; ``last_error`` is redacted; times are UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream_id: str
    name: str
    url: str
    enabled: bool
    state: DestinationState
    since: datetime
    """When ``state`` was entered."""
    connected_since: datetime | None
    """When the session that runs now was opened."""
    bytes_sent: int
    """Media bytes handed to the destination, over all sessions."""
    bitrate_kbps: float
    """Over the last few seconds."""
    reconnects: int
    """Sessions opened after the first one."""
    dropped_tags: int
    """Audio and video tags that a slow destination missed."""
    last_error: str | None
    last_error_at: datetime | None
    slate: bool = False
    """The programme is away, and the slate is sent in its place."""
    age_s: float = 0.0
    """How old this status is: the egress process said it so long ago."""

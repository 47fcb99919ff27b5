"""The relay's settings."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """``host`` is for publishers and readers; the API stays on 127.0.0.1. Port 0 takes a free one.

    ``events_url`` is the orchestrator's base address (``http://127.0.0.1:8080``).

    ``publish_user`` and ``read_user``, where set, are asked for as ``?user=&pass=``, as MediaMTX does.
    A publisher that sends nothing, and a reader that takes nothing, for ``timeout_s`` is closed.
    """

    host: str = "127.0.0.1"
    rtmp_port: int = 1935
    api_port: int = 9997
    events_url: str | None = None
    publish_user: str | None = None
    publish_pass: str = field(default="", repr=False)
    read_user: str | None = None
    read_pass: str = field(default="", repr=False)
    timeout_s: float = 10.0
    max_connections: int = 1_000
    gop_bytes: int = 8 * 1024 * 1024
    gop_messages: int = 1_024
    """Bounds of the latest group of pictures that is kept for late readers."""
    queue_bytes: int = 16 * 1024 * 1024
    queue_messages: int = 2_048
    """Bounds of one reader's queue; beyond them it skips to the next key frame."""

"""What happens, for those who listen: each has a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

MAX_LISTENERS = 100
_QUEUE = 256
_KEPT = 100


class Event(BaseModel):
    """``type`` is ``status``, ``source``, ``on_air``, ``destination``, ``alert.raised``, ``alert.cleared``,
    ``settings`` or ``state``; ``data`` holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    at: datetime
    type: str
    data: dict[str, object]


class Events:
    """Full policy of a listener's queue: *drop the oldest*. Used from the event loop alone."""

    def __init__(self) -> None:
        self._last = 0
        self._recent: deque[Event] = deque(maxlen=_KEPT)
        self._queues: set[asyncio.Queue[Event]] = set()

    def put(self, type: str, data: dict[str, object], *, keep: bool = True) -> None:
        self._last += 1
        event = Event(id=self._last, at=datetime.now(UTC), type=type, data=data)
        if keep:
            self._recent.append(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    @property
    def recent(self) -> tuple[Event, ...]:
        """Oldest first; without statuses."""
        return tuple(self._recent)

    @property
    def full(self) -> bool:
        """As many listen as may."""
        return len(self._queues) >= MAX_LISTENERS

    @property
    def heard(self) -> bool:
        return bool(self._queues)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUE)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

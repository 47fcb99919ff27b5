"""From one source to its viewers: the latest group of pictures, and a bounded queue for each. Pure: no sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace

from babelcast.preview.media import Picture

MAX_GROUP_BYTES = 16 * 1024 * 1024
MAX_GROUP_PICTURES = 1_200
"""A group of pictures beyond these is not kept: a late viewer then waits for the next key picture."""
MAX_QUEUED = 256
"""Items that a viewer may have outstanding: about 5 s of sound, 4 to 10 s of pictures."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One Opus packet; ``pts`` in samples of 48 kHz."""

    data: bytes
    pts: int


class Queue:
    """One viewer's pictures, or its sound. One writer and one reader in one event loop; the writer never waits.

    Full policy: *drop all, go on at the next key picture (sound: the next packet), count*.
    """

    def __init__(self, max_items: int = MAX_QUEUED) -> None:
        self._max_items = max_items
        self._items: deque[Picture | Sound] = deque()
        self._news = asyncio.Event()
        self._awaiting_key = True
        self._backlog = 0
        self.closed = False
        self.dropped = 0

    @property
    def backlog(self) -> int:
        """How many of the next items are from before the viewer came."""
        return self._backlog

    def fill(self, group: list[Picture]) -> None:
        """Begin with what came since the latest key picture."""
        if group:
            self._items.extend(group)
            self._backlog = len(group)
            self._awaiting_key = False
            self._news.set()

    def put(self, item: Picture | Sound) -> None:
        if isinstance(item, Picture) and self._awaiting_key:
            if not item.key:
                self.dropped += self.dropped > 0
                return
            self._awaiting_key = False
        if len(self._items) - self._backlog >= self._max_items:
            self.dropped += len(self._items) + 1
            self._items.clear()
            self._backlog = 0
            self._awaiting_key = True
            return
        self._items.append(item)
        self._news.set()

    async def get(self) -> Picture | Sound | None:
        """The next item; None once closed. Cancellation-safe: an item is taken only when it is returned."""
        while not self._items:
            if self.closed:
                return None
            self._news.clear()
            await self._news.wait()
        self._backlog = max(0, self._backlog - 1)
        return self._items.popleft()

    def close(self) -> None:
        self.closed = True
        self._items.clear()
        self._news.set()


class Fanout:
    """What one path has for its viewers."""

    def __init__(self) -> None:
        self._group: list[Picture] = []
        self._group_bytes = 0
        self._viewers: dict[Queue, Queue | None] = {}
        self.pictures = 0
        self.sounds = 0
        self.dropped = 0
        """By viewers that were too slow, those that left included."""

    @property
    def watched(self) -> bool:
        return bool(self._viewers)

    def join(self, pictures: Queue, sound: Queue | None) -> None:
        self._viewers[pictures] = sound
        pictures.fill(catch_up(self._group))

    def leave(self, pictures: Queue) -> None:
        """Without effect for one that never joined."""
        if pictures in self._viewers:
            sound = self._viewers.pop(pictures)
            self.dropped += pictures.dropped + (sound.dropped if sound else 0)

    def put_picture(self, picture: Picture) -> None:
        self.pictures += 1
        if picture.key:
            self._group, self._group_bytes = [], 0
        if picture.key or self._group:
            self._group.append(picture)
            self._group_bytes += len(picture.data)
            if self._group_bytes > MAX_GROUP_BYTES or len(self._group) > MAX_GROUP_PICTURES:
                self._group, self._group_bytes = [], 0
        for queue in self._viewers:
            queue.put(picture)

    def put_sound(self, sound: Sound) -> None:
        self.sounds += 1
        for queue in self._viewers.values():
            if queue is not None:
                queue.put(sound)

    def new_pictures(self) -> None:
        """What comes next is from another encoder: what is kept can't be followed by it."""
        self._group, self._group_bytes = [], 0


def catch_up(group: list[Picture]) -> list[Picture]:
    """The group with all but its last picture moved to the milliseconds before that one: a late viewer decodes them
    as fast as it can, and is then at the live edge instead of as far behind as the group is long."""
    if not group:
        return []
    last = group[-1].pts_ms
    count = len(group)
    return [replace(each, pts_ms=last - (count - 1 - index)) for index, each in enumerate(group)]

"""What a destination has yet to get: the queue between one source and one destination. No sockets, no clock."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from babelcast.rtmp.flv import inspect_audio, inspect_video
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import is_metadata

MAX_BYTES = 16 * 1024 * 1024
MAX_ITEMS = 2_048
"""About 25 s of 30 pictures and 47 AAC frames a second."""
VIDEO_GONE_MS = 5_000
"""Sound that is this far ahead of the last picture no longer waits for a key frame."""
_HALF = 0x80000000


@dataclass(frozen=True, slots=True)
class Item:
    """A message, as it came. ``session`` counts the source's sessions, ``arrived_ms`` is the caller's clock.

    ``start`` means that what came before it is missing: the decoder must begin anew, with ``headers`` first.
    A key frame always carries the headers in force, so that a destination can begin with it.
    """

    message: Message
    session: int
    arrived_ms: int
    key: bool = False
    start: bool = False
    headers: tuple[Message, ...] = ()


class Feed:
    """One writer, one reader, one event loop. The writer never waits.

    Full policy: *drop all, skip to the next key frame, count*. A new source session begins with a key frame too.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_items: int = MAX_ITEMS) -> None:
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._headers: dict[tuple[int, int], Message] = {}
        self._session = 0
        self._awaiting_start = True
        self._dropping = False
        self._video_started = False
        self._last_video_ms: int | None = None
        self.dropped = 0
        """Audio and video messages that a slow destination missed."""
        self.latest_ms: int | None = None
        """When the latest picture or sound came from the source, whatever became of it."""

    def begin_session(self) -> None:
        """The source was opened (again): its headers and its time scale are new."""
        self._session += 1
        self._headers.clear()
        self._last_video_ms = None
        self._await_start(dropping=False)

    def put(self, message: Message, now_ms: int) -> None:
        """Queue the source's next message, or drop it while a key frame is waited for."""
        if message.type == MessageType.DATA:
            if is_metadata(message.payload):
                self._headers[message.type, 0] = message
            if not self._awaiting_start:
                self._append(Item(message, self._session, now_ms))
            return
        if message.type not in (MessageType.AUDIO, MessageType.VIDEO):
            return
        self.latest_ms = now_ms
        video = message.type == MessageType.VIDEO
        tag = inspect_video(message.payload) if video else inspect_audio(message.payload)
        if video:
            self._last_video_ms = message.timestamp
        if tag.header:
            self._headers[message.type, tag.slot] = message
            if not self._awaiting_start:
                self._append(Item(message, self._session, now_ms))
        elif self._awaiting_start and not tag.key and (video or self._has_video(message.timestamp)):
            self.dropped += self._dropping
        elif video and not tag.key and not self._video_started:
            self.dropped += self._dropping  # pictures that began after the sound did: not before a key frame
        else:
            self._put_media(message, now_ms, key=tag.key)

    def _put_media(self, message: Message, now_ms: int, *, key: bool) -> None:
        start = self._awaiting_start
        self._awaiting_start = self._dropping = False
        self._video_started = self._video_started or key
        headers = self._headers_in_order() if start or key else ()
        self._append(Item(message, self._session, now_ms, key, start, headers))

    def _has_video(self, now_ms: int) -> bool:
        if self._last_video_ms is None:
            return False
        ahead = (now_ms - self._last_video_ms) & 0xFFFFFFFF
        return ahead < VIDEO_GONE_MS or ahead >= _HALF

    def _headers_in_order(self) -> tuple[Message, ...]:
        """Metadata first, as players expect it, then video, then audio."""
        order = {MessageType.DATA: 0, MessageType.VIDEO: 1, MessageType.AUDIO: 2}
        places = sorted(self._headers, key=lambda place: (order[MessageType(place[0])], place[1]))
        return tuple(self._headers[place] for place in places)

    def _append(self, item: Item) -> None:
        if len(self._items) >= self._max_items or self._bytes + len(item.message.payload) > self._max_bytes:
            self.dropped += len(self._items) + 1
            self._clear()
            self._await_start(dropping=True)
            return
        self._items.append(item)
        self._bytes += len(item.message.payload)
        self._arrived.set()

    def _await_start(self, *, dropping: bool) -> None:
        self._awaiting_start, self._dropping, self._video_started = True, dropping, False

    def _clear(self) -> None:
        self._items.clear()
        self._bytes = 0
        self._arrived.clear()

    def restart(self) -> None:
        """A new destination session: keep what follows the latest key frame, it begins at the live edge."""
        kept: list[Item] = []
        for item in reversed(self._items):
            kept.append(item)
            if item.key:
                break
        else:
            kept.clear()  # sound alone needs no start other than the next message
            self._await_start(dropping=False)
        self._clear()
        for item in reversed(kept):
            self._append(item)

    def drop_older_than(self, then_ms: int) -> None:
        """Forget what is queued if all of it arrived before ``then_ms``: the programme it belongs to is over."""
        if self._items and self._items[-1].arrived_ms < then_ms:
            self._clear()
            self._await_start(dropping=False)

    @property
    def empty(self) -> bool:
        return not self._items

    async def wait(self) -> None:
        """Until there is something to send. Cancellation-safe."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()

    async def get(self) -> Item:
        """The next item. Cancellation-safe: an item is taken only when it is returned."""
        await self.wait()
        item = self._items.popleft()
        self._bytes -= len(item.message.payload)
        return item

"""One session with one destination: runs until it ends, and counts. Retry and state are the handler's."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from babelcast.clock import Clock
from babelcast.config import Destination
from babelcast.egress.feed import VIDEO_GONE_MS, Feed, Item
from babelcast.egress.rebase import Rebase
from babelcast.egress.settings import EgressSettings
from babelcast.egress.slate import SlatePlayer
from babelcast.egress.standby import Standby
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType

log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""How often it is looked whether the slate is made, while it is wanted already."""


class Dest:
    """Copies ``feed`` to ``destination``, payloads untouched; while the feed is silent, ``standby``'s slate.

    ``bytes_sent`` counts media bytes; ``moved_at`` is the loop's time of the latest message that was taken;
    ``slate_since`` is the loop's time since when the slate is shown.
    """

    def __init__(
        self,
        destination: Destination,
        feed: Feed,
        standby: Standby,
        settings: EgressSettings,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.bytes_sent = 0
        self.moved_at = 0.0
        self.slate_since: float | None = None
        self._destination = destination
        self._feed = feed
        self._standby = standby
        self._settings = settings
        self._clock = clock
        self._tls = tls
        self._rebase = Rebase()
        self._fresh = True

    async def run(self, on_connected: Callable[[], None]) -> None:
        """Publish until the programme was away for ``hold_s``, or with a slate ``slate_hold_s``. Raises RtmpError when
        refused, lost or stalled.

        ``on_connected`` is called once the destination lets us publish. While the programme is away the
        connection is kept: the client answers pings.
        """
        key = self._destination.key
        async with RtmpClient.connect(
            self._destination.url,
            key=key.get_secret_value() if key else None,
            timeout_s=self._settings.connect_timeout_s,
            io_timeout_s=self._settings.write_timeout_s,
            tls=self._tls,
        ) as client:
            await client.publish()
            self.moved_at = asyncio.get_running_loop().time()
            on_connected()
            self._feed.restart()
            wait_s = 0.0
            while True:
                item, start = await self._next(wait_s), self._fresh
                if item is None:
                    item, start = await self._bridge(client), True
                if item is None:
                    return
                await self._send(client, item, start=start or item.start)
                wait_s = min(self._settings.slate_after_s, self._settings.hold_s)

    async def _next(self, wait_s: float) -> Item | None:
        """None when nothing came within ``wait_s``."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._feed.get()
        except TimeoutError:
            return None

    async def _bridge(self, client: RtmpClient) -> Item | None:
        """While the programme is away: what it comes back with, or None when that took too long."""
        player: SlatePlayer | None = None
        sound_since: int | None = None
        try:
            while self._away_s() < (self._settings.slate_hold_s if self._standby.ready else self._settings.hold_s):
                if player is None and self._away_s() >= self._settings.slate_after_s:
                    player = await self._begin_slate(client)
                if player is not None:
                    for message in player.due(self._now_ms()):
                        await self._send_message(client, message, message.timestamp)
                item = await self._next(player.wait_s(self._now_ms()) if player else _LOOK_S)
                if item is None:
                    continue
                sound_since = item.arrived_ms if sound_since is None else sound_since
                # after a slate with pictures the programme comes back with pictures, or without any for good
                if player is None or item.key or item.arrived_ms - sound_since > VIDEO_GONE_MS:
                    return item
            return None
        finally:
            self.slate_since = None

    async def _begin_slate(self, client: RtmpClient) -> SlatePlayer | None:
        ready = self._standby.ready
        if ready is None:
            return None
        self._feed.restart()  # what comes back begins at a key frame, with its headers
        player = SlatePlayer(ready.slate, ready.silence, ready.headers, self._rebase, self._now_ms())
        for header in player.headers(whole=self._fresh):
            await self._send_message(client, header, header.timestamp)
        self._fresh = False
        self.slate_since = asyncio.get_running_loop().time()
        return player

    def _away_s(self) -> float:
        latest_ms = self._feed.latest_ms
        return float("inf") if latest_ms is None else (self._now_ms() - latest_ms) / 1_000

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    async def _send(self, client: RtmpClient, item: Item, *, start: bool) -> None:
        self._fresh = False
        if item.headers:
            self._standby.note(item.headers)
        timestamp = self._rebase.restamp(item)
        for header in item.headers if start else ():
            await self._send_message(client, header, timestamp)
        await self._send_message(client, item.message, timestamp)

    async def _send_message(self, client: RtmpClient, message: Message, timestamp: int) -> None:
        await client.send(message._replace(timestamp=timestamp))
        if message.type != MessageType.DATA:
            self.bytes_sent += len(message.payload)
        self.moved_at = asyncio.get_running_loop().time()

"""One session with one destination: runs until it ends, and counts. Retry and state are the handler's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from babelcast.config import Destination
from babelcast.egress.feed import Feed, Item
from babelcast.egress.rebase import Rebase
from babelcast.egress.settings import EgressSettings
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType


class Dest:
    """Copies ``feed`` to ``destination``, payloads untouched.

    ``bytes_sent`` counts media bytes; ``moved_at`` is the loop's time of the latest message that was taken.
    """

    def __init__(
        self, destination: Destination, feed: Feed, settings: EgressSettings, tls: ssl.SSLContext | None = None
    ) -> None:
        self.bytes_sent = 0
        self.moved_at = 0.0
        self._destination = destination
        self._feed = feed
        self._settings = settings
        self._tls = tls
        self._rebase = Rebase()

    async def run(self, on_connected: Callable[[], None]) -> None:
        """Publish until the programme was away for ``hold_s``. Raises RtmpError when refused, lost or stalled.

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
            first = True
            while True:
                try:
                    async with asyncio.timeout(self._settings.hold_s):
                        item = await self._feed.get()
                except TimeoutError:
                    return
                await self._send(client, item, start=first or item.start)
                first = False

    async def _send(self, client: RtmpClient, item: Item, *, start: bool) -> None:
        timestamp = self._rebase.restamp(item)
        for header in item.headers if start else ():
            await self._send_message(client, header, timestamp)
        await self._send_message(client, item.message, timestamp)
        self.moved_at = asyncio.get_running_loop().time()

    async def _send_message(self, client: RtmpClient, message: Message, timestamp: int) -> None:
        await client.send(message._replace(timestamp=timestamp))
        if message.type != MessageType.DATA:
            self.bytes_sent += len(message.payload)

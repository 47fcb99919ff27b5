"""An encoder with bad manners, and a platform that can misbehave and forgets what it has seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

from babelcast.errors import BabelcastError
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType
from tests.fakes.rtmp_destination import FakeDestination
from tests.worker.media import flv_tags

_TICK_S = 0.02


class Encoder:
    """Publishes a clip (FLV) over and over, at the speed of life.

    ``jump_ms`` is added to every timestamp from now on. While ``away`` there is no connection; while ``stalled`` it
    is open and silent. Without either it connects again by itself.
    """

    def __init__(self, clip: Path, url: str) -> None:
        tags = flv_tags(clip)
        self._headers = [tag for tag in tags if tag.timestamp == 0 and _is_header(tag)]
        self._tags = [tag for tag in tags if not _is_header(tag) and tag.type != MessageType.DATA]
        self._length_ms = max(tag.timestamp for tag in tags) + 40
        self._url = url
        self.jump_ms = 0
        self.away = self.stalled = False
        self.connections = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with contextlib.suppress(BabelcastError, OSError):
                if not self.away:
                    await self._connection()
            await asyncio.sleep(0.2)

    async def _connection(self) -> None:
        async with RtmpClient.connect(self._url) as client:
            await client.publish()
            self.connections += 1
            for header in self._headers:
                await client.send(header)
            loop = asyncio.get_running_loop()
            began = loop.time()
            for turn in itertools.count():
                for tag in self._tags:
                    at_ms = turn * self._length_ms + tag.timestamp
                    while (wait_s := began + at_ms / 1_000 - loop.time()) > 0 or self.stalled:
                        if self.stalled:
                            began += _TICK_S
                        await asyncio.sleep(_TICK_S if self.stalled else wait_s)
                    if self.away:
                        return
                    await client.send(tag._replace(timestamp=max(0, at_ms + self.jump_ms) & 0xFFFFFFFF))


def _is_header(tag: Message) -> bool:
    return tag.type in (MessageType.VIDEO, MessageType.AUDIO) and tag.payload[1] == 0


class Watch:
    """What has come to a destination since the last look; then it is forgotten."""

    def __init__(self, platform: FakeDestination) -> None:
        self._platform = platform
        self._last: dict[MessageType, float] = {}
        self.tags = 0

    def look(self) -> dict[str, float]:
        """The longest time in seconds between two pictures, and between two blocks of sound, also across looks."""
        longest = {MessageType.VIDEO: 0.0, MessageType.AUDIO: 0.0}
        for session in self._platform.sessions:
            for message, arrived in zip(session.messages, session.arrived, strict=True):
                kind = MessageType(message.type)
                if kind in longest:
                    longest[kind] = max(longest[kind], arrived - self._last.get(kind, arrived))
                    self._last[kind] = arrived
                    self.tags += 1
            del session.messages[:], session.arrived[:]
        self._platform.sessions[:] = [each for each in self._platform.sessions if not each.closed]
        return {"picture": longest[MessageType.VIDEO], "sound": longest[MessageType.AUDIO]}

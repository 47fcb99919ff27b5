"""Plays the programme from the media server into a feed, again and again."""

from __future__ import annotations

import asyncio
import logging
import random

from babelcast.clock import Clock
from babelcast.egress.feed import Feed
from babelcast.egress.settings import EgressSettings
from babelcast.errors import RtmpError
from babelcast.rtmp.client import RtmpClient
from babelcast.telemetry.redact import redact

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
"""The media server is near: it answers at once or not at all."""


async def play_forever(url: str, feed: Feed, settings: EgressSettings, clock: Clock, fields: dict[str, str]) -> None:
    """Fill ``feed`` from ``url`` until cancelled. ``fields`` go to every log line.

    That the programme is not there is the usual case, so it is no error: it is asked for again.
    """
    while True:
        try:
            async with RtmpClient.connect(url, timeout_s=_TIMEOUT_S) as client:
                await client.play()
                feed.begin_session()
                async for message in client.messages():
                    feed.put(message, clock.now_ns() // 1_000_000)
        except RtmpError as error:
            log.debug("the programme can't be played: %s", redact(str(error)), extra=fields)
        await asyncio.sleep(settings.source_retry_s * random.uniform(0.8, 1.2))

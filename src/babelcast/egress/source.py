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
from babelcast.units import NS_PER_S

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
"""The media server is near: it answers at once or not at all."""
_SOON_S, _SOON_SHARE = 5.0, 0.4
"""A programme that broke off just now is asked for oftener: its next worker is on its way."""


async def play_forever(url: str, feed: Feed, settings: EgressSettings, clock: Clock, fields: dict[str, str]) -> None:
    """Fill ``feed`` from ``url`` until cancelled. ``fields`` go to every log line.

    That the programme is not there is the usual case, so it is no error: it is asked for again.
    """
    broke_off_ns: int | None = None
    while True:
        try:
            async with RtmpClient.connect(url, timeout_s=_TIMEOUT_S) as client:
                await client.play()
                feed.begin_session()
                broke_off_ns = clock.now_ns()
                async for message in client.messages():
                    broke_off_ns = clock.now_ns()
                    feed.put(message, broke_off_ns // 1_000_000)
        except RtmpError as error:
            log.debug("the programme can't be played: %s", redact(str(error)), extra=fields)
        soon = broke_off_ns is not None and clock.now_ns() - broke_off_ns < _SOON_S * NS_PER_S
        await asyncio.sleep(settings.source_retry_s * (_SOON_SHARE if soon else 1.0) * random.uniform(0.8, 1.2))

"""A relay, a programme on it, and a forwarder from it to a destination."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pydantic import SecretStr
from tests.fakes.programme import frames, number_of, publish
from tests.fakes.rtmp_destination import Session

from babelcast.config import Destination
from babelcast.egress.handler import EgressHandler
from babelcast.egress.settings import EgressSettings
from babelcast.egress.standby import SlateMaker
from babelcast.egress.status import DestinationState, DestinationStatus
from babelcast.egress.wire import SlateSpec
from babelcast.media_server.relay.server import Relay
from babelcast.rtmp.message import MessageType

KEY = "s3cret-k3y"
PATH = "live/show/out"
FAST = EgressSettings(
    connect_timeout_s=1.0,
    write_timeout_s=1.0,
    hold_s=10.0,
    stalled_after_s=0.3,
    backoff_first_s=0.05,
    backoff_max_s=0.1,
    failed_after_s=0.3,
    source_retry_s=0.05,
)


@asynccontextmanager
async def forwarding(
    relay: Relay,
    url: str,
    settings: EgressSettings = FAST,
    *,
    name: str = "third-party",
    tls: ssl.SSLContext | None = None,
    slate: SlateSpec | None = None,
    slates: SlateMaker | None = None,
) -> AsyncIterator[EgressHandler]:
    destination = Destination(name=name, url=url, key=SecretStr(KEY))
    source = f"{relay.rtmp_url}/{PATH}"
    handler = EgressHandler("show", source, destination, settings, tls=tls, slate=slate, slates=slates)
    await handler.start()
    try:
        yield handler
    finally:
        async with asyncio.timeout(3):
            await handler.stop()


@asynccontextmanager
async def programme(relay: Relay, *, pace_s: float = 0.01, size: int = 200, first: int = 0) -> AsyncIterator[None]:
    """On air inside the block."""
    url = f"{relay.rtmp_url}/{PATH}"
    task = asyncio.create_task(publish(url, 100_000, first=first, base_ms=first * 1_000, size=size, pace_s=pace_s))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def reaches(handler: EgressHandler, *states: DestinationState) -> DestinationStatus:
    await until(lambda: handler.status.state in states)
    return handler.status


def state_of(handler: EgressHandler) -> str:
    return handler.status.state


def pictures(session: Session) -> list[int]:
    shown = [m for m in session.messages if m.type == MessageType.VIDEO and m.payload[1] != 0]
    return [number_of(message) for message in shown]


def expected_payloads(session: Session) -> list[bytes]:
    """What the programme's payloads are from the first picture that arrived on."""
    first = pictures(session)[0]
    return [message.payload for message in frames(len(session.messages), first=first)]

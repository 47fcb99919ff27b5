"""All forwarders of one process: started and stopped so that they match the desired set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from babelcast.egress.status import DestinationStatus
from babelcast.egress.wire import Delivery

log = logging.getLogger(__name__)

Place: TypeAlias = tuple[str, str]
"""(stream id, name of the destination)"""

KEPT_STOPPED = 500
"""So many that are not supplied any more are remembered with their counters."""


class Forwarder(Protocol):
    """Implemented by handler.EgressHandler. Owns retry, state and logging of one destination."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Returns once the session is closed. It may be started again."""
        ...

    @property
    def status(self) -> DestinationStatus: ...


ForwarderFactory: TypeAlias = Callable[[Delivery], Forwarder]


class Fleet:
    """:meth:`want` at any time, :meth:`run` until cancelled.

    A forwarder whose delivery is unchanged is not touched. A stopped one is kept: its counters and its last error are
    still shown, and go on when the same delivery is wanted again.
    """

    def __init__(self, make: ForwarderFactory) -> None:
        self._make = make
        self._wanted: dict[Place, Delivery] = {}
        self._running: dict[Place, Delivery] = {}
        self._known: dict[Place, tuple[Delivery, Forwarder]] = {}
        self._changed = asyncio.Event()

    def want(self, deliveries: Iterable[Delivery]) -> None:
        """Exactly these, soon."""
        self._wanted = {delivery.place: delivery for delivery in deliveries}
        self._changed.set()

    def statuses(self) -> tuple[DestinationStatus, ...]:
        return tuple(forwarder.status for _, forwarder in self._known.values())

    async def run(self) -> None:
        """All are stopped, with a goodbye, at the end."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await self._match(self._wanted)
                except Exception:  # those that run already must not be stopped for it
                    log.exception("the destinations could not be made as they are wanted")
        finally:
            await self._stop(list(self._running))

    async def _match(self, wanted: dict[Place, Delivery]) -> None:
        ending = [place for place, delivery in self._running.items() if wanted.get(place) != delivery]
        beginning = [delivery for place, delivery in wanted.items() if self._running.get(place) != delivery]
        replaced = [delivery for delivery in beginning if delivery.place in self._running]
        for delivery in beginning:
            if delivery not in replaced:
                await self._start(delivery)  # what is new does not wait for goodbyes
        await self._stop(ending)
        for delivery in replaced:
            await self._start(delivery)
        self._forget()

    async def _start(self, delivery: Delivery) -> None:
        known, forwarder = self._known.pop(delivery.place, (None, None))
        if forwarder is None or known != delivery:
            forwarder = self._make(delivery)
        self._known[delivery.place] = (delivery, forwarder)
        await forwarder.start()
        self._running[delivery.place] = delivery

    async def _stop(self, places: list[Place]) -> None:
        for place in places:
            del self._running[place]
        stops = (self._known[place][1].stop() for place in places)
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a forwarder did not stop cleanly", exc_info=result)

    def _forget(self) -> None:
        stopped = [place for place in self._known if place not in self._running]
        for place in stopped[: max(0, len(stopped) - KEPT_STOPPED)]:
            del self._known[place]

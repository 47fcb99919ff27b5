"""Which destinations are being sent to: one forwarder for each enabled destination of each wanted stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

from babelcast.config import Config, Destination, StreamConfig
from babelcast.egress.handler import EgressHandler
from babelcast.egress.status import DestinationStatus
from babelcast.errors import BabelcastError
from babelcast.media_server.base import MediaServer
from babelcast.spec import output_path
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str]
"""(stream id, name of the destination)"""


class Forwarder(Protocol):
    """Implemented by egress.handler.EgressHandler. Owns retry, state and logging of one destination."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Returns once the session is closed. It may be started again."""
        ...

    @property
    def status(self) -> DestinationStatus: ...


ForwarderFactory: TypeAlias = Callable[[str, Destination, str], Forwarder]
"""(stream id, destination, path on the media server) → a forwarder that is not started yet."""


class Forwarding:
    """Starts and stops forwarders so that they match what is wanted and what a person chose.

    A stopped forwarder is kept: its counters and its last error are still shown, and go on when it is started again.
    """

    def __init__(self, config: Config, factory: ForwarderFactory, choices: Mapping[Key, bool]) -> None:
        self._config = config
        self._factory = factory
        self._choices = dict(choices)
        self._forwarders: dict[Key, Forwarder] = {}
        self._running: set[Key] = set()
        self._trouble = RateLimited(10.0)
        self._stopping: asyncio.Task[None] | None = None

    def begin_stop(self) -> None:
        """Stop them all, while the caller ends other things; :meth:`stopped` waits for it."""
        self._stopping = asyncio.create_task(self._stop(set(self._running)), name="stop forwarders")

    async def stopped(self) -> None:
        if self._stopping is not None:
            await self._stopping

    async def apply(self, wanted: Iterable[str]) -> None:
        """Make it so for the streams that should be on air. A forwarder waits by itself for its programme."""
        target = {
            (stream_id, destination.name): destination
            for stream_id in wanted
            for destination in self._config.stream(stream_id).destinations
            if self._enabled(stream_id, destination)
        }
        await self._stop(self._running - target.keys())
        for key in sorted(target.keys() - self._running):
            try:
                await self._forwarder(key[0], target[key]).start()
            except BabelcastError as error:  # this one alone; the next round tries again
                if self._trouble.ready() is not None:
                    log.error("can't be sent: %s", error, extra={"streamId": key[0], "destination": key[1]})
                continue
            self._running.add(key)

    def choose(self, stream_id: str, name: str, enabled: bool) -> None:
        """A person's choice; takes effect with the next :meth:`apply`."""
        self._choices[stream_id, name] = enabled

    def statuses(self, stream_id: str) -> list[DestinationStatus]:
        """Every destination of the stream, also those that are not being sent to."""
        stream = self._config.stream(stream_id)
        return [self._status(stream_id, destination) for destination in stream.destinations]

    def all_statuses(self) -> list[DestinationStatus]:
        return [status for stream_id in self._config.streams for status in self.statuses(stream_id)]

    def _status(self, stream_id: str, destination: Destination) -> DestinationStatus:
        status = self._forwarder(stream_id, destination).status
        if (stream_id, destination.name) in self._running:
            return status
        enabled = self._enabled(stream_id, destination)
        return status.model_copy(update={"enabled": enabled, "state": "idle" if enabled else "stopped"})

    def _enabled(self, stream_id: str, destination: Destination) -> bool:
        return self._choices.get((stream_id, destination.name), destination.enabled)

    def _forwarder(self, stream_id: str, destination: Destination) -> Forwarder:
        key = (stream_id, destination.name)
        if key not in self._forwarders:
            path = destination_path(stream_id, self._config.stream(stream_id), destination)
            self._forwarders[key] = self._factory(stream_id, destination, path)
        return self._forwarders[key]

    async def _stop(self, keys: set[Key]) -> None:
        self._running -= keys
        stops = (self._forwarders[key].stop() for key in keys)
        for result in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a forwarder did not stop cleanly", exc_info=result)


def destination_path(stream_id: str, stream: StreamConfig, destination: Destination) -> str:
    """The programme that the destination gets: its language's, or the first."""
    languages = stream.target_languages
    if len(languages) == 1:
        return output_path(stream_id)
    return output_path(stream_id, destination.language or languages[0])


def egress_factory(server: MediaServer) -> ForwarderFactory:
    """Forwarders that pull from ``server`` by RTMP."""

    def make(stream_id: str, destination: Destination, path: str) -> EgressHandler:
        return EgressHandler(stream_id, server.read_url(path, "rtmp"), destination)

    return make

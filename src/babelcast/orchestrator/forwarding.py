"""Which destinations are to be sent to, and how that goes: each enabled destination of each wanted stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from babelcast.config import Config, Destination, StreamConfig
from babelcast.egress.fleet import Place
from babelcast.egress.handler import shown_url
from babelcast.egress.status import DestinationStatus
from babelcast.egress.wire import Delivery, SlateSpec
from babelcast.errors import BabelcastError
from babelcast.spec import output_path
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)


class Egress(Protocol):
    """Whatever does the sending. Implemented by egress_process.EgressProcess."""

    async def start(self) -> None:
        """What an earlier orchestrator wanted goes on until :meth:`want`."""
        ...

    def want(self, deliveries: Sequence[Delivery]) -> None:
        """Exactly these, soon. Those that are unchanged go on undisturbed."""
        ...

    def statuses(self) -> Mapping[Place, DestinationStatus]:
        """What it said last of those that it supplies, and of the latest that it did."""
        ...

    @property
    def error(self) -> str | None:
        """Why what is shown may not be so any more: it is away or does not answer. One sentence."""
        ...

    async def stop(self) -> None:
        """The end, as its orphan policy says. Idempotent."""
        ...


class Forwarding:
    """Tells the egress what is wanted and what a person chose, and knows the status of every destination."""

    def __init__(
        self, config: Config, egress: Egress, choices: Mapping[Place, bool], source_url: Callable[[str], str]
    ) -> None:
        """``source_url``: a path of the media server → the address to play it from by RTMP."""
        self._config = config
        self._egress = egress
        self._choices = dict(choices)
        self._source_url = source_url
        self._wanted: frozenset[Place] = frozenset()
        self._trouble = RateLimited(10.0)
        self._began = datetime.now(UTC)
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._egress.start()

    def begin_stop(self) -> None:
        """End it while the caller ends other things; :meth:`stopped` waits for it."""
        self._stopping = asyncio.create_task(self._egress.stop(), name="stop egress")

    async def stopped(self) -> None:
        if self._stopping is not None:
            await self._stopping

    @property
    def error(self) -> str | None:
        return self._egress.error

    async def apply(self, wanted: Iterable[str]) -> None:
        """Have it so for the streams that should be on air. A forwarder waits by itself for its programme."""
        deliveries = []
        for stream_id in wanted:
            stream = self._config.stream(stream_id)
            for destination in stream.destinations:
                if self._enabled(stream_id, destination):
                    try:
                        deliveries.append(self._delivery(stream_id, stream, destination))
                    except BabelcastError as error:  # this one alone; the next round tries again
                        if self._trouble.ready() is not None:
                            fields = {"streamId": stream_id, "destination": destination.name}
                            log.error("can't be sent: %s", error, extra=fields)
        self._wanted = frozenset(delivery.place for delivery in deliveries)
        self._egress.want(deliveries)

    def choose(self, stream_id: str, name: str, enabled: bool) -> None:
        """A person's choice; takes effect with the next :meth:`apply`."""
        self._choices[stream_id, name] = enabled

    def statuses(self, stream_id: str) -> list[DestinationStatus]:
        """Every destination of the stream, also those that are not being sent to."""
        told = self._egress.statuses()
        destinations = self._config.stream(stream_id).destinations
        return [self._status(stream_id, each, told.get((stream_id, each.name))) for each in destinations]

    def all_statuses(self) -> list[DestinationStatus]:
        return [status for stream_id in self._config.streams for status in self.statuses(stream_id)]

    def _status(self, stream_id: str, destination: Destination, told: DestinationStatus | None) -> DestinationStatus:
        status = told or self._unknown(stream_id, destination)
        if (stream_id, destination.name) not in self._wanted:
            enabled = self._enabled(stream_id, destination)
            return status.model_copy(update={"enabled": enabled, "state": "idle" if enabled else "stopped"})
        if self._egress.error is not None:
            return status.model_copy(update={"state": "retrying", "connected_since": None} | {"last_error": self.error})
        return status

    def _unknown(self, stream_id: str, destination: Destination) -> DestinationStatus:
        return DestinationStatus(
            stream_id=stream_id,
            name=destination.name,
            url=shown_url(destination),
            enabled=True,
            state="idle",
            since=self._began,
            connected_since=None,
            bytes_sent=0,
            bitrate_kbps=0.0,
            reconnects=0,
            dropped_tags=0,
            last_error=None,
            last_error_at=None,
        )

    def _enabled(self, stream_id: str, destination: Destination) -> bool:
        return self._choices.get((stream_id, destination.name), destination.enabled)

    def _delivery(self, stream_id: str, stream: StreamConfig, destination: Destination) -> Delivery:
        loss = stream.source_loss
        slate = SlateSpec(text=loss.slate_text, image=loss.slate_image) if loss.slate and destination.slate else None
        return Delivery(
            stream_id=stream_id,
            source_url=self._source_url(destination_path(stream_id, stream, destination)),
            name=destination.name,
            url=destination.url,
            key=destination.key,
            slate=slate,
        )


def destination_path(stream_id: str, stream: StreamConfig, destination: Destination) -> str:
    """The programme that the destination gets: its language's, or the first."""
    languages = stream.target_languages
    if len(languages) == 1:
        return output_path(stream_id)
    return output_path(stream_id, destination.language or languages[0])

"""An egress that only says that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from babelcast.egress.fleet import Place
from babelcast.egress.status import DestinationStatus
from babelcast.egress.wire import Delivery


class FakeEgress:
    """Implements forwarding.Egress. It keeps what was wanted when it is stopped, as one that goes on would."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.wanted: dict[Place, Delivery] = {}
        self.known: dict[Place, Delivery] = {}
        self.stopped = True

    async def start(self) -> None:
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True

    def want(self, deliveries: Sequence[Delivery]) -> None:
        self.wanted = {delivery.place: delivery for delivery in deliveries}
        self.known |= self.wanted

    def running(self) -> list[str]:
        return [] if self.stopped else sorted("/".join(place) for place in self.wanted)

    def statuses(self) -> Mapping[Place, DestinationStatus]:
        return {place: self._status(delivery) for place, delivery in self.known.items()}

    def _status(self, delivery: Delivery) -> DestinationStatus:
        key = delivery.key.get_secret_value() if delivery.key else ""
        return DestinationStatus(
            stream_id=delivery.stream_id,
            name=delivery.name,
            url=delivery.url,
            enabled=True,
            state="live" if delivery.place in self.wanted else "stopped",
            since=datetime.now(UTC),
            connected_since=None,
            bytes_sent=1234,
            bitrate_kbps=1.0,
            reconnects=2,
            dropped_tags=0,
            # what a careless peer may say: it must not get out
            last_error=f"the far end refused stream {key}",
            last_error_at=None,
        )

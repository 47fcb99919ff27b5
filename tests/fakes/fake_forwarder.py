"""Forwarders that only say that they run."""

from __future__ import annotations

from datetime import UTC, datetime

from babelcast.config import Destination
from babelcast.egress.status import DestinationStatus


class FakeForwarder:
    def __init__(self, stream_id: str, destination: Destination, path: str) -> None:
        self.stream_id = stream_id
        self.destination = destination
        self.path = path
        self.running = False
        self.starts = 0

    async def start(self) -> None:
        self.running = True
        self.starts += 1

    async def stop(self) -> None:
        self.running = False

    @property
    def status(self) -> DestinationStatus:
        key = self.destination.key.get_secret_value() if self.destination.key else ""
        return DestinationStatus(
            stream_id=self.stream_id,
            name=self.destination.name,
            url=self.destination.url,
            enabled=True,
            state="live" if self.running else "stopped",
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


class FakeForwarders:
    """A ForwarderFactory that remembers what it made."""

    def __init__(self) -> None:
        self.made: list[FakeForwarder] = []

    def __call__(self, stream_id: str, destination: Destination, path: str) -> FakeForwarder:
        self.made.append(FakeForwarder(stream_id, destination, path))
        return self.made[-1]

    def running(self) -> list[str]:
        return sorted(f"{each.stream_id}/{each.destination.name}" for each in self.made if each.running)

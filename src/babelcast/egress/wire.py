"""What the orchestrator and the egress process say to each other, as JSON over a socket that only their user reaches.

::

    PUT /desired   DesiredSet    → EgressReport; 409 where the process holds a later revision
    GET /report                  → EgressReport
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer

from babelcast.config import Destination
from babelcast.egress.status import DestinationStatus
from babelcast.spec import StreamId

PROTOCOL = 1
"""An egress process that speaks another one is replaced, not adopted."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SlateSpec(_Message):
    """What a destination is shown while the programme is away; ``image`` instead of ``text`` where it is given."""

    text: str = ""
    image: Path | None = None


class Delivery(_Message):
    """One destination of one stream, as it is to be supplied. Its JSON holds the key: for the socket alone."""

    stream_id: StreamId
    source_url: str
    """Where the finished programme is played from, by RTMP."""
    name: str
    url: str
    key: SecretStr | None = None
    slate: SlateSpec | None = None
    """None: while the programme is away the connection is held, and nothing is sent."""

    @field_serializer("key", when_used="json")
    def _reveal(self, key: SecretStr | None) -> str | None:
        return key.get_secret_value() if key else None

    @property
    def place(self) -> tuple[str, str]:
        """Stream and name: there is one delivery of each."""
        return self.stream_id, self.name

    @property
    def destination(self) -> Destination:
        return Destination(name=self.name, url=self.url, key=self.key)


class DesiredSet(_Message):
    """All deliveries there are to be; any other one is stopped. ``revision`` counts the sets of a state directory."""

    revision: int = Field(ge=1)
    deliveries: tuple[Delivery, ...] = ()


class EgressReport(_Message):
    """``destinations`` holds those that are supplied, and the latest of those that were."""

    protocol: int
    revision: int
    """Of the set in force; 0 before the first one."""
    destinations: tuple[DestinationStatus, ...]


class EgressRecord(_Message):
    """``egress.json``: by PID and start time together the process is found again."""

    pid: int
    pid_start_time: float
    protocol: int

"""What can be set for the preview: the section ``preview`` of the config file, and what its process is told."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
)

from babelcast.spec import Token

PAGE = "/preview"
"""Where the page is mounted; assets and paths are below it."""
API = "/api/v1/preview"

_ICE_URL = re.compile(r"^(stuns?|turns?):[^\s/]+$")
_ANCESTOR = re.compile(r"^('self'|'none'|\*|[A-Za-z][A-Za-z0-9+.-]*:|(https?://)?[A-Za-z0-9*.\-\[\]:]+)$")


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


OneOrMany = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]
"""In the file also a single string."""
Address = Annotated[str, AfterValidator(lambda text: str(ipaddress.ip_address(text)))]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IceServer(_Section):
    """A STUN or TURN server, as a browser's RTCPeerConnection takes it."""

    urls: OneOrMany = Field(min_length=1)
    username: str | None = None
    credential: SecretStr | None = None

    @field_validator("urls")
    @classmethod
    def _known(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _ICE_URL.match(url):
                raise ValueError("must be stun:HOST[:PORT], turn:HOST[:PORT] or turns:HOST[:PORT]")
        return urls

    @field_serializer("credential", when_used="json")
    def _reveal(self, credential: SecretStr | None) -> str | None:
        return credential.get_secret_value() if credential else None

    def for_browser(self) -> dict[str, object]:
        """With the credential: for those who may watch."""
        return self.model_dump(mode="json", exclude_none=True)


class PreviewSettings(_Section):
    token: Token | None = Field(default=None, exclude=True)
    """Lets its holder watch previews and nothing else. The process needs none, so it is not written for it."""
    frame_ancestors: OneOrMany = ("'self'",)
    """Origins whose pages may embed the preview (the CSP directive of that name); ``*`` for any."""
    ice_servers: tuple[IceServer, ...] = ()
    """Given to the page and to the process."""
    host: Address | None = None
    """Address of this machine that media is sent from; by default those of all its interfaces."""
    announce: Annotated[tuple[Address, ...], BeforeValidator(_one_or_many)] = ()
    """Addresses under which viewers reach this machine from outside, where that is not its own (behind NAT)."""
    udp_ports: Annotated[str, Field(pattern=r"^\d{1,5}-\d{1,5}$")] | None = None
    """``FIRST-LAST``: UDP ports to use; by default whatever is free. A viewer takes one for each address."""
    keep_ready: bool = False
    """Play every published path all the time, so that no first viewer waits for the next key picture (MediaMTX hands
    over nothing before that; the relay does)."""
    viewers: int = Field(default=32, ge=1, le=1000)
    """At the same time, all paths together; one more is told to come back later."""

    @field_validator("frame_ancestors")
    @classmethod
    def _sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        value = tuple({"self": "'self'", "none": "'none'", "any": "*"}.get(each, each) for each in value)
        for each in value:
            if not _ANCESTOR.match(each):
                raise ValueError(f"{each[:60]!r} is no origin: write https://dashboard.example, self or any")
        return value or ("'none'",)

    @field_validator("udp_ports")
    @classmethod
    def _range(cls, value: str | None) -> str | None:
        if value is not None:
            first, last = _ports(value)
            if not 1024 <= first <= last <= 65_535:
                raise ValueError("must be FIRST-LAST, both from 1024 to 65535")
        return value

    @property
    def port_range(self) -> range | None:
        if self.udp_ports is None:
            return None
        first, last = _ports(self.udp_ports)
        return range(first, last + 1)


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last)

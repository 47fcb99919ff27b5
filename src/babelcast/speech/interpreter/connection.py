"""The seam between one provider's protocol and everything that interpreters share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from babelcast.speech.base import SpeechTarget
from babelcast.speech.cost import Price


@dataclass(frozen=True, slots=True)
class Sound:
    """``pcm`` is S16LE mono; a sample may be split between two of them."""

    pcm: bytes
    rate: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A fragment of the source's transcript, with its own spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A fragment of the translation, with its own spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class GoAway:
    """The service closes this connection in ``left_s`` seconds."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Handle:
    """By which the session can be resumed on another connection; None: not now."""

    value: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The service has said all, after :meth:`Connection.finish`."""


Message: TypeAlias = Sound | Heard | Said | GoAway | Handle | Ended


class Connection(Protocol):
    """One socket. Implemented by gemini_live.GeminiConnection and openai_realtime.OpenAiConnection.

    Everything raises SpeechError, and nothing else, when the connection or the service fails.
    """

    async def send_audio(self, pcm: bytes) -> None:
        """S16LE mono at 16 kHz, of the connector's chunk length."""
        ...

    async def receive(self) -> list[Message]:
        """What the service's next message holds, which may be nothing that is known. Cancellable."""
        ...

    async def finish(self) -> bool:
        """No more sound comes. True: the service flushes, then sends Ended; False: it has no word for it and wants
        silence."""
        ...

    async def aclose(self) -> None:
        """In 1 s at most."""
        ...


class Connector(Protocol):
    """Implemented by gemini_live.GeminiConnector and openai_realtime.OpenAiConnector."""

    @property
    def name(self) -> str: ...

    @property
    def price(self) -> Price: ...

    @property
    def chunk_ms(self) -> int:
        """How much sound the service wants at once."""
        ...

    async def connect(self, target: SpeechTarget, handle: str | None = None) -> Connection:
        """Ready for sound. ``handle`` resumes a session. Cancellable; raises SpeechError."""
        ...

    async def aclose(self) -> None: ...

"""The interface between the worker and whatever speaks: frames in, events out.

A *backend* is configuration and capabilities; it lives as long as the worker. A *session* is one stream's life
with it. Implementations raise; retry, breaker and failover are wrappers round any backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from babelcast.units import DubSegment, SpeechFrame


@dataclass(frozen=True, slots=True)
class SpeechTarget:
    """What a session is opened for. Languages are BCP 47 tags (``en``, ``es``)."""

    stream_id: str
    source_language: str
    target_language: str
    voice: str | None = None
    also: tuple[str, ...] = ()
    """Further target languages from the same recognition (:mod:`babelcast.speech.shared`); only sts_stream has them."""


@dataclass(frozen=True, slots=True)
class SegmentEvent:
    """A clause was dubbed; its audio is whole. ``language``: which one, where the backend says it."""

    segment: DubSegment
    language: str | None = None


@dataclass(frozen=True, slots=True)
class PartialEvent:
    """What is recognised so far of the clause in progress."""

    source_start_ns: int
    source_end_ns: int
    transcript: str


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """All source before ``processed_until_ns`` is dealt with: its segments were delivered, or it had no speech."""

    processed_until_ns: int


@dataclass(frozen=True, slots=True)
class LostEvent:
    """This source span will not be dubbed (no session, frames dropped, a fragment failed): the fallback applies
    there although a later ProgressEvent passes it."""

    source_start_ns: int
    source_end_ns: int


@dataclass(frozen=True, slots=True)
class GoingAwayEvent:
    """The session ends in ``deadline_s`` seconds; open another and move over."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """What a backend that charges took since its last UsageEvent, every few seconds: US dollars by its price list,
    seconds of sound in and out. ``drift_s``: seconds out less seconds in over the present connection; ``lag_s``: its
    ear-voice span of late. Whoever meters adds up; nothing is lost with a session but its last seconds."""

    backend: str
    usd: float
    seconds_in: float
    seconds_out: float
    drift_s: float | None = None
    lag_s: float | None = None


@dataclass(frozen=True, slots=True)
class BackendEvent:
    """From here on ``backend`` speaks, of several; ``reason`` says why, None for the first choice."""

    backend: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ClosedEvent:
    """The last event of a session that ended by itself. ``code`` is a :data:`babelcast.wire.ErrorCode`, ``finished``,
    ``breaker_open`` or ``budget``; ``retryable`` says whether a new session may work."""

    code: str
    reason: str
    retryable: bool


SpeechEvent = (
    SegmentEvent | PartialEvent | ProgressEvent | LostEvent | GoingAwayEvent | UsageEvent | BackendEvent | ClosedEvent
)


class SpeechSession(Protocol):
    """Implemented by sts_stream.StsStreamSession, sts_http.StsHttpSession, interpreter.session.InterpreterSession, and
    by the wrappers in shared, retry, breaker and failover.

    ``send`` and ``events`` may run in different tasks. Segments come in order of ``sequence``.
    """

    async def send(self, frame: SpeechFrame) -> None:
        """Queue a frame; frames are gapless and in order. Never blocks on the network: the queue is bounded
        and drops the oldest frame (counted in ``dropped_frames``).

        Raises SpeechError once the session has ended.
        """
        ...

    def events(self) -> AsyncIterator[SpeechEvent]:
        """Events until the session ends; the last is a ClosedEvent. Call once."""
        ...

    async def finish(self) -> None:
        """No more frames. The events go on until the last segment, then ClosedEvent('finished')."""
        ...

    async def aclose(self) -> None:
        """Drop everything and free the session, in 1 s at most. Idempotent."""
        ...

    @property
    def dropped_frames(self) -> int: ...


class SpeechBackend(Protocol):
    """Implemented by sts_stream.StsStreamBackend, sts_http.StsHttpBackend and interpreter.session.InterpreterBackend,
    and by the wrappers."""

    @property
    def name(self) -> str: ...

    async def open(self, target: SpeechTarget) -> SpeechSession:
        """Raises UnsupportedLanguageError (final) or SpeechUnavailableError (retryable), within 5 s."""
        ...

    async def aclose(self) -> None: ...

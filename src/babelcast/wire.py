"""The speech service's messages, shared by client and server.

REST, ``POST /api/v1/sts/process``: :class:`ProcessRequest` → :class:`ProcessResponse`; stateless, one fragment.

``POST /api/v1/sts/speak``: :class:`SpeakRequest` → :class:`SpeakResponse`; stateless, text to be said.

WebSocket, ``/api/v1/sts/stream``: one session. Text messages are JSON, a union discriminated by ``type``.

Version 2 added several target languages, glossary terms and resumption; the service still speaks version 1 with clients
that ask for it, and a client ignores members that it does not know.

- Client → service: :class:`Start` first; then binary audio frames, :class:`KeepAlive` where there is no audio for a
  while; :class:`Finish` when no more audio comes.
- Service → client: :class:`Ready` once; :class:`Partial`, :class:`Progress`, :class:`Segment` (each followed by
  its binary audio frames), :class:`Stats`, :class:`ErrorMessage`, :class:`GoingAway`; :class:`Finished` after
  the last segment.

Binary audio, client → service: :data:`SOURCE_FRAME` (source time of the first sample in ns) + S16LE mono.
Binary audio, service → client: :data:`DUB_FRAME` (segment sequence, offset in samples, flags: bit 0 = last
frame of the segment) + S16LE mono, about 100 ms each. A segment without sound (nothing to say) is never sent.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

PROTOCOL_VERSION = 2
UNDETERMINED = "und"
"""As a source language: it is detected (BCP 47's tag for a language that is not known)."""
MAX_TARGETS = 8
MAX_TERMS = 200
MAX_SPEAK_CHARACTERS = 1_000
PROCESS_PATH = "/api/v1/sts/process"
SPEAK_PATH = "/api/v1/sts/speak"
STREAM_PATH = "/api/v1/sts/stream"
LANGUAGES_PATH = "/api/v1/sts/languages"
VOICES_PATH = "/api/v1/sts/voices"

SOURCE_FRAME = struct.Struct("!q")
DUB_FRAME = struct.Struct("!IIB")
LAST_FRAME = 0x01

ErrorCode = Literal[
    "bad_request",
    "unsupported_language",
    "unsupported_format",
    "overloaded",
    "unauthorized",
    "engine_failed",
    "deadline",
    "internal",
    "rate_limited",
]
Tag = Annotated[str, Field(min_length=2, max_length=35, pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$")]
"""A BCP 47 language tag."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Answer(_Message):
    """What the service says: a newer service may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StageTimes(_Answer):
    """Milliseconds spent in each stage of one request or segment."""

    vad_ms: float = 0.0
    asr_ms: float = 0.0
    mt_ms: float = 0.0
    tts_ms: float = 0.0
    fit_ms: float = 0.0
    total_ms: float = 0.0


class ProcessRequest(_Message):
    """One fragment. ``audio`` is base64 of interleaved PCM S16LE."""

    fragment_id: str = Field(min_length=1, max_length=200)
    stream_id: str = Field(min_length=1, max_length=200)
    sequence_number: int = Field(ge=0)
    duration_ms: int = Field(gt=0, le=30_000)
    sample_rate: int = Field(ge=8_000, le=96_000)
    channels: int = Field(ge=1, le=2)
    audio: str
    source_language: Tag
    target_language: Tag
    voice: str | None = Field(default=None, max_length=100)


class ProcessResponse(_Answer):
    """The same ids; ``audio`` is as long as the fragment that came (base64 PCM S16LE, same rate and channels)."""

    fragment_id: str
    stream_id: str
    sequence_number: int
    duration_ms: int
    sample_rate: int
    channels: int
    audio: str
    transcript: str
    translation: str
    stages: StageTimes


class SpeakRequest(_Message):
    """Text to be said as it is, in its own language."""

    text: str = Field(min_length=1, max_length=MAX_SPEAK_CHARACTERS)
    language: Tag
    voice: str | None = Field(default=None, max_length=100)


class SpeakResponse(_Answer):
    """``audio``: base64 PCM S16LE, mono."""

    language: str
    voice: str
    sample_rate: int = Field(ge=8_000, le=96_000)
    duration_ms: float
    audio: str
    stages: StageTimes


class GlossaryTerm(_Message):
    """``targets`` by language tag; in a language that is not named the term stays as it is."""

    source: str = Field(min_length=1, max_length=100)
    targets: dict[Tag, Annotated[str, Field(min_length=1, max_length=200)]] = Field(default={}, max_length=50)


class Resume(_Message):
    """Goes on with a session that was cut off. ``token`` is that session's; the frames that follow begin where its
    answers ended."""

    token: str = Field(max_length=1_000)
    answered_until_ns: int
    """Source before this is spoken, or is not speech: it is not said again."""
    next_sequence: int = Field(ge=0, le=2**32 - 1)


class Start(_Message):
    """One target language, or several from one recognition: ``target_language`` or ``target_languages``."""

    type: Literal["start"] = "start"
    version: int = PROTOCOL_VERSION
    stream_id: str = Field(min_length=1, max_length=200)
    source_language: Tag
    target_language: Tag | None = None
    target_languages: tuple[Tag, ...] = Field(default=(), max_length=MAX_TARGETS)
    voice: str | None = Field(default=None, max_length=100)
    """One voice for everybody. Without it each speaker has one of their own, of their gender as far as it is heard."""
    sample_rate: int = Field(default=16_000, ge=8_000, le=96_000)
    max_segment_ms: int = Field(default=4_000, ge=1_000, le=20_000)
    """A clause that runs on past this is cut at the best point."""
    glossary: tuple[GlossaryTerm, ...] = Field(default=(), max_length=MAX_TERMS)
    """Names and terms to understand and to keep, before those of the service."""
    resume: Resume | None = None

    @model_validator(mode="after")
    def _targets(self) -> Start:
        if bool(self.target_language) == bool(self.target_languages):
            raise ValueError("name target_language, or target_languages")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("a target language is named twice")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The target languages, one at least."""
        return (self.target_language,) if self.target_language else self.target_languages


class Finish(_Message):
    type: Literal["finish"] = "finish"


class KeepAlive(_Message):
    """The client is there, and has no sound now. Sent where :class:`Ready` has ``idle_s``."""

    type: Literal["keep_alive"] = "keep_alive"


class Target(_Answer):
    language: str
    voice: str


class Ready(_Answer):
    type: Literal["ready"] = "ready"
    version: int = PROTOCOL_VERSION
    session_id: str
    voice: str
    asr: str
    mt: str
    tts: str
    targets: tuple[Target, ...] | None = None
    """Version 2: the languages and their voices; ``voice`` is the first one's."""
    resume_token: str | None = None
    """Version 2: see :class:`Resume`. A secret of this session; it is good for a while after the connection is lost."""
    resume_s: float | None = None
    idle_s: float | None = None
    """Version 2: a session from which nothing comes for so long is ended."""


class Partial(_Answer):
    """What is recognised so far of the clause that is being spoken."""

    type: Literal["partial"] = "partial"
    source_start_ns: int
    source_end_ns: int
    transcript: str


class Segment(_Answer):
    """A clause, translated and spoken. ``samples`` of mono S16LE at ``sample_rate`` follow as binary frames."""

    type: Literal["segment"] = "segment"
    segment_id: str
    sequence: int = Field(ge=0, le=2**32 - 1)
    source_start_ns: int
    source_end_ns: int
    transcript: str
    translation: str
    voice: str
    sample_rate: int = Field(ge=8_000, le=96_000)
    samples: int = Field(gt=0)
    stages: StageTimes = StageTimes()
    language: str | None = None
    """Version 2: the target language."""
    speaker: int | None = None
    """Version 2: who speaks, counted from 0 in the order of appearance."""


class Progress(_Answer):
    """Everything of the source before ``processed_until_ns`` is spoken, sent as a segment, or was not speech."""

    type: Literal["progress"] = "progress"
    processed_until_ns: int


class Stats(_Answer):
    type: Literal["stats"] = "stats"
    received_until_ns: int
    queued_ms: float
    realtime_factor: float
    segments: int


class ErrorMessage(_Answer):
    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    retryable: bool
    retry_after_s: float | None = None
    """It is no use to try again before."""


class GoingAway(_Answer):
    """The service will close this session in ``deadline_s``: open another one and move over."""

    type: Literal["going_away"] = "going_away"
    deadline_s: float


class Finished(_Answer):
    type: Literal["finished"] = "finished"


ClientMessage = Annotated[Start | KeepAlive | Finish, Field(discriminator="type")]
ServerMessage: TypeAlias = Ready | Partial | Segment | Progress | Stats | ErrorMessage | GoingAway | Finished

client_message: TypeAdapter[Start | KeepAlive | Finish] = TypeAdapter(ClientMessage)
server_message: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])


class Language(_Answer):
    """A pair that the service can translate, by BCP 47 tags."""

    source: str
    target: str


class Voice(_Answer):
    name: str
    language: str
    gender: Literal["female", "male", "neutral"]
    engine: str


languages: TypeAdapter[list[Language]] = TypeAdapter(list[Language])

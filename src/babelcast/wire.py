"""The speech service's messages, shared by client and server.

REST, ``POST /api/v1/sts/process``: :class:`ProcessRequest` → :class:`ProcessResponse`; stateless, one fragment.

WebSocket, ``/api/v1/sts/stream``: one session. Text messages are JSON, a union discriminated by ``type``.

- Client → service: :class:`Start` first; then binary audio frames; :class:`Finish` when no more audio comes.
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

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PROTOCOL_VERSION = 1
PROCESS_PATH = "/api/v1/sts/process"
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
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageTimes(_Message):
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
    source_language: str = Field(min_length=2, max_length=35)
    target_language: str = Field(min_length=2, max_length=35)
    voice: str | None = None


class ProcessResponse(_Message):
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


class Start(_Message):
    type: Literal["start"] = "start"
    version: int = PROTOCOL_VERSION
    stream_id: str
    source_language: str
    target_language: str
    voice: str | None = None
    sample_rate: int = 16_000
    output_rate: int | None = None
    """Rate the client would like, in Hz; the service says in each segment what it sends."""
    max_segment_ms: int = Field(default=4_000, ge=1_000, le=20_000)
    """A clause that runs on past this is cut at the best point."""


class Finish(_Message):
    type: Literal["finish"] = "finish"


class Ready(_Message):
    type: Literal["ready"] = "ready"
    version: int = PROTOCOL_VERSION
    session_id: str
    voice: str
    asr: str
    mt: str
    tts: str


class Partial(_Message):
    """What is recognised so far of the clause that is being spoken."""

    type: Literal["partial"] = "partial"
    source_start_ns: int
    source_end_ns: int
    transcript: str


class Segment(_Message):
    """A clause, translated and spoken. ``samples`` of mono S16LE at ``sample_rate`` follow as binary frames."""

    type: Literal["segment"] = "segment"
    segment_id: str
    sequence: int
    source_start_ns: int
    source_end_ns: int
    transcript: str
    translation: str
    voice: str
    sample_rate: int
    samples: int
    stages: StageTimes = StageTimes()


class Progress(_Message):
    """Everything of the source before ``processed_until_ns`` is spoken, sent as a segment, or was not speech."""

    type: Literal["progress"] = "progress"
    processed_until_ns: int


class Stats(_Message):
    type: Literal["stats"] = "stats"
    received_until_ns: int
    queued_ms: float
    realtime_factor: float
    segments: int


class ErrorMessage(_Message):
    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    retryable: bool


class GoingAway(_Message):
    """The service will close this session in ``deadline_s``: open another one and move over."""

    type: Literal["going_away"] = "going_away"
    deadline_s: float


class Finished(_Message):
    type: Literal["finished"] = "finished"


ClientMessage = Annotated[Start | Finish, Field(discriminator="type")]
ServerMessage: TypeAlias = Ready | Partial | Segment | Progress | Stats | ErrorMessage | GoingAway | Finished

client_message: TypeAdapter[Start | Finish] = TypeAdapter(ClientMessage)
server_message: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])


class Language(_Message):
    """A pair that the service can translate, by BCP 47 tags."""

    source: str
    target: str


class Voice(_Message):
    name: str
    language: str
    gender: Literal["female", "male", "neutral"]
    engine: str


languages: TypeAdapter[list[Language]] = TypeAdapter(list[Language])

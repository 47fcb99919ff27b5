"""What a worker is told and what it tells: shared by orchestrator, launchers and worker.

The spec travels in a file that only its owner can read (it may hold a token); the worker answers with a
:class:`WorkerRecord` in the same folder once it listens, by which it can be adopted after a restart.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer

STREAM_ID_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
_STREAM_ID = re.compile(STREAM_ID_PATTERN)
_OUTPUT_PATH = re.compile(rf"live/{STREAM_ID_PATTERN}/out(/[A-Za-z0-9-]+)?")
_INGEST_PATH = re.compile(rf"live/({STREAM_ID_PATTERN})/in")

StreamId = Annotated[str, Field(pattern=rf"^{STREAM_ID_PATTERN}$")]
LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
BackendKind = Literal["sts", "tone", "none"]
FallbackMode = Literal["original", "background", "ducked", "repeat", "silence"]
SeparationMode = Literal["auto", "centre", "spectral", "off"]

MIN_DELAY_S = 2.0
MAX_DELAY_S = 20.0


def ingest_path(stream_id: str) -> str:
    return f"live/{stream_id}/in"


def output_path(stream_id: str, language: str | None = None) -> str:
    """``live/<id>/out``, with the language where a stream has several."""
    return f"live/{stream_id}/out" + (f"/{language}" if language else "")


def stream_id_of_ingest_path(path: str) -> str | None:
    """The stream id of ``live/<id>/in``, else None."""
    match = _INGEST_PATH.fullmatch(path)
    return match.group(1) if match else None


def is_output_path(path: str) -> bool:
    """``live/<id>/out`` or ``live/<id>/out/<lang>``: what only our own workers publish."""
    return _OUTPUT_PATH.fullmatch(path) is not None


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackendSpec(_Spec):
    """``url`` is the speech service's base address (``http://127.0.0.1:8090``); unused by ``none``."""

    kind: BackendKind = "sts"
    url: str | None = None
    token: SecretStr | None = None

    @field_serializer("token", when_used="json")
    def _reveal(self, token: SecretStr | None) -> str | None:
        return token.get_secret_value() if token else None


class TargetSpec(_Spec):
    """One dubbed programme: its language and where it is pushed (``rtmp://…/live/<id>/out``)."""

    language: LanguageTag
    output_url: str
    voice: str | None = None


class MixSpec(_Spec):
    """``output = background × bg_gain + dubbed × dub_gain`` (linear gains)."""

    bg_gain: float = Field(default=1.0, ge=0.0, le=4.0)
    dub_gain: float = Field(default=1.0, ge=0.0, le=4.0)
    original_gain: float = Field(default=0.0, ge=0.0, le=1.0)


class WorkerSpec(_Spec):
    stream_id: StreamId
    generation: int = 0
    ingest_url: str
    source_language: LanguageTag = "en"
    targets: tuple[TargetSpec, ...] = Field(min_length=1)
    backend: BackendSpec = BackendSpec()
    delay_s: float = Field(default=6.0, ge=MIN_DELAY_S, le=MAX_DELAY_S)
    separation: SeparationMode = "auto"
    fallback: FallbackMode = "original"
    mix: MixSpec = MixSpec()
    audio_bitrate: int = Field(default=160_000, ge=32_000, le=512_000)
    status_port: int = Field(default=0, ge=0, le=65_535)
    """Loopback port of the worker's status server; 0 takes a free one."""
    journal_dir: Path | None = None
    """Where the worker writes ``segments.<lang>.jsonl`` (one placed segment a line), for reports and captions."""


class WorkerRecord(_Spec):
    """Written by the worker once it listens; PID and start time together name the process."""

    stream_id: StreamId
    generation: int
    pid: int
    pid_start_time: float
    """Clock ticks since boot, field 22 of ``/proc/<pid>/stat``."""
    status_port: int


class SegmentEntry(_Spec):
    """A line of the segment journal, and an item of ``GET /segments``. Times on the source timeline, in ns;
    ``dub_lag_s`` is wall clock: source onset in the worker → the segment in its hands."""

    sequence: int
    segment_id: str
    language: str
    source_start_ns: int
    source_end_ns: int
    placed_ns: int | None
    """Source time at which its first sound is played; None when it was dropped."""
    duration_ns: int
    tempo: float
    dub_lag_s: float
    dub_offset_s: float
    transcript: str
    translation: str
    voice: str


class TargetStatus(_Spec):
    language: str
    output_state: Literal["idle", "connecting", "live", "retrying"]
    backend_state: Literal["none", "opening", "open", "retrying", "unsupported"]
    fallback: FallbackMode | None
    """The fallback in force now, None while the dub (or silence between segments) is on air."""
    fallback_seconds: float
    segments: int
    dropped_segments: int
    dub_lag_s: float | None
    dub_offset_s: float | None
    published_seconds: float
    last_error: str | None


class WorkerStatus(_Spec):
    """``GET /status`` of a worker."""

    stream_id: str
    generation: int
    state: Literal["starting", "waiting", "live", "reconnecting", "stopping"]
    delay_s: float
    separation: str
    source_seconds: float
    av_sync_delta_ms: float
    video_caps: str | None
    audio_caps: str | None
    warnings: tuple[str, ...]
    """What an operator should know, one sentence each (``the source has no audio: silence is sent``)."""
    last_error: str | None
    targets: tuple[TargetStatus, ...]

"""What a worker is told and what it tells: shared by orchestrator, launchers and worker.

The spec travels in a file that only its owner can read (it may hold a token); the worker answers with a
:class:`WorkerRecord` in the same folder once it listens, by which it can be adopted after a restart.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer

from babelcast.errors import ControlsError

STREAM_ID_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
_OUTPUT_PATH = re.compile(rf"live/{STREAM_ID_PATTERN}/out(/[A-Za-z0-9-]+)?")
_INGEST_PATH = re.compile(rf"live/({STREAM_ID_PATTERN})/in")


def _not_empty(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("is empty: give a secret, or leave it out")
    return secret


Token = Annotated[SecretStr, AfterValidator(_not_empty)]
"""What callers must show. An empty one would let everybody in who shows none."""
StreamId = Annotated[str, Field(pattern=rf"^{STREAM_ID_PATTERN}$")]
LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
BackendKind = Literal["sts", "tone", "gemini-live", "openai-realtime", "none"]
FallbackMode = Literal["original", "background", "ducked", "repeat", "silence"]
FallbackCause = Literal["closed", "late", "lost", "breaker", "budget"]
"""Why the dub is not on air: no session with the backend; the backend is behind; this span was lost; the breaker is
open; the cost ceiling is reached."""
SeparationMode = Literal["auto", "neural", "centre", "spectral", "off"]

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
    """``url`` is the speech service's base address (``http://127.0.0.1:8070``), and a gateway's for the cloud's
    services; unused by ``none``. ``token`` is the bearer token or the API key."""

    kind: BackendKind = "sts"
    url: str | None = None
    token: SecretStr | None = None
    model: str | None = None
    """None: the client's default. Prices too: what is None is the client's price list."""
    usd_per_m_in: float | None = Field(default=None, ge=0.0)
    usd_per_m_out: float | None = Field(default=None, ge=0.0)
    """US dollars per million audio tokens (gemini-live)."""
    usd_per_minute: float | None = Field(default=None, ge=0.0)
    """US dollars per minute sent (openai-realtime)."""
    budget_usd_per_hour: float | None = Field(default=None, gt=0.0)
    """What a stream, all its languages together, may spend on it in an hour."""

    @field_serializer("token", when_used="json")
    def _reveal(self, token: SecretStr | None) -> str | None:
        return token.get_secret_value() if token else None


class TargetSpec(_Spec):
    """One dubbed programme: its language and where it is pushed (``rtmp://…/live/<id>/out``)."""

    language: LanguageTag
    output_url: str
    voice: str | None = None


class DuckingSpec(_Spec):
    """Sidechain compression of the background by the dub."""

    enabled: bool = False
    threshold_db: float = Field(default=-30.0, ge=-60.0, le=0.0)
    """Level of the dub (dBFS) from which the background is turned down."""
    ratio: float = Field(default=4.0, ge=1.0, le=20.0)
    attack_ms: float = Field(default=20.0, ge=1.0, le=500.0)
    release_ms: float = Field(default=400.0, ge=10.0, le=5_000.0)
    range_db: float = Field(default=14.0, ge=0.0, le=40.0)
    """At most this much is taken off."""


class MixSpec(_Spec):
    """``output = background × bg_gain + dubbed × dub_gain`` (linear gains)."""

    bg_gain: float = Field(default=1.0, ge=0.0, le=4.0)
    dub_gain: float = Field(default=1.0, ge=0.0, le=4.0)
    original_gain: float = Field(default=0.0, ge=0.0, le=1.0)
    """The original voice, faintly underneath, as interpreters' listeners like it."""
    ducking: DuckingSpec = DuckingSpec()
    balance: Literal["off", "auto"] = "off"
    """auto: the background is lowered as far as the dub needs to stand 10 LU over music and 15 LU over ambience."""


class SourceLossSpec(_Spec):
    """What is shown when the source is lost: the last picture, then a slate, then the end."""

    hold_s: float = Field(default=2.0, ge=0.0, le=600.0)
    """Seconds for which the last picture stands."""
    slate: bool = True
    slate_text: str = Field(default="We will be right back", max_length=200)
    slate_image: Path | None = None
    """A PNG or JPEG shown instead of the text."""
    end_after_s: float | None = Field(default=None, ge=1.0)
    """Seconds after the loss when the programme ends; None: when the orchestrator gives the source up (60 s)."""


class BreakerSpec(_Spec):
    """The circuit breaker round the speech backend. A call is a second of source. It opens when, of the calls in the
    window, too many failed or were slow; after ``open_s`` live sound is sent again, and it closes when the first
    ``probes`` calls of it succeed."""

    window_s: float = Field(default=10.0, gt=0.0, le=600.0)
    min_calls: int = Field(default=5, ge=1, le=1_000)
    failure_rate: float = Field(default=0.5, gt=0.0, le=1.0)
    slow_rate: float = Field(default=0.8, gt=0.0, le=1.0)
    slow_call_s: float | None = Field(default=None, gt=0.0)
    """A call is slow when its answer takes longer than this; None: when by then the fallback is on air because the
    dub is late (the delay and 1.4 s)."""
    open_s: float = Field(default=5.0, gt=0.0, le=300.0)
    probes: int = Field(default=2, ge=1, le=20)


class Controls(_Spec):
    """What can be changed on air, as it is in force: ``GET /controls`` of a worker. ``revision`` counts changes."""

    revision: int = Field(default=0, ge=0)
    force: FallbackMode | None = None
    """The operator's choice, over everything else; None: the dub, with fallbacks as needed."""
    fallback: FallbackMode = "original"
    fallback_by_cause: dict[FallbackCause, FallbackMode] = Field(default_factory=dict)
    mix: MixSpec = MixSpec()
    delay_s: float = Field(default=6.0, ge=MIN_DELAY_S, le=MAX_DELAY_S)

    def patched(self, patch: ControlsPatch) -> Controls:
        """With the patch applied; the revision stays. Raises ControlsError (422) for a mix that can't be."""
        changes = patch.model_dump(exclude_none=True)
        if patch.force == "none":
            changes["force"] = None
        try:
            return Controls.model_validate(_merged(self.model_dump(), changes))
        except ValidationError as error:
            raise ControlsError(sentence_of(error), 422) from error

    def expect(self, revision: int | None) -> None:
        """Raise ControlsError (412) unless this is the revision that the caller knows; None for any."""
        if revision is not None and revision != self.revision:
            raise ControlsError(f"the controls are at revision {self.revision}, not {revision}", 412)


class ControlsPatch(_Spec):
    """``PATCH /controls``: what is not named (or null) stays. ``mix`` is merged key by key, ``fallback_by_cause``
    replaced."""

    force: FallbackMode | Literal["none"] | None = None
    """``none`` gives the air back to the dub."""
    fallback: FallbackMode | None = None
    fallback_by_cause: dict[FallbackCause, FallbackMode] | None = None
    mix: dict[str, Any] | None = None
    delay_s: float | None = Field(default=None, ge=MIN_DELAY_S, le=MAX_DELAY_S)

    def then(self, later: ControlsPatch) -> ControlsPatch:
        """One patch that does what this one and then ``later`` do."""
        mine, theirs = self.model_dump(exclude_none=True), later.model_dump(exclude_none=True)
        by_cause = theirs.get("fallback_by_cause", mine.get("fallback_by_cause"))
        return ControlsPatch.model_validate(_merged(mine, theirs) | {"fallback_by_cause": by_cause})


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` over ``under``; of what is under the key ``mix``, key by key."""
    mix = _deep(under.get("mix") or {}, over.get("mix") or {})
    return under | over | ({"mix": mix} if mix else {})


def _deep(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        known = both.get(key)
        both[key] = _deep(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def revision_of(if_match: str | None) -> int | None:
    """Of an ``If-Match`` header; None where any will do. Raises ControlsError (412) where it names none."""
    text = (if_match or "*").strip().removeprefix("W/").strip('"')
    if text == "*":
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ControlsError(f"If-Match names no revision: {text[:40]}", 412)
    return int(text)


def sentence_of(error: ValidationError) -> str:
    """The first thing that is wrong, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


class CaptionsSpec(_Spec):
    """Closed captions inside the H.264 of the output. They change the video packets, and take the place of captions
    that the source has inside its pictures."""

    embed: Literal["off", "cea608"] = "off"
    language: LanguageTag | None = None
    """The source language or a target; None: each programme has its own."""


class WorkerSpec(_Spec):
    stream_id: StreamId
    generation: int = 0
    ingest_url: str
    source_language: LanguageTag = "en"
    targets: tuple[TargetSpec, ...] = Field(min_length=1)
    backend: BackendSpec = BackendSpec()
    delay_s: float = Field(default=6.0, ge=MIN_DELAY_S, le=MAX_DELAY_S)
    separation: SeparationMode = "auto"
    separation_model: str | None = None
    """For ``neural``, and for ``auto`` to choose it: path of an MDX-style ONNX file, or the name of a pulled model."""
    on_separation_failure: Literal["ducked", "original", "skip"] = "ducked"
    """Separation failed for a fragment: the dub over the ducked original, over the full original, or no dub."""
    fallback: FallbackMode = "original"
    fallback_by_cause: dict[FallbackCause, FallbackMode] = Field(default_factory=dict)
    """Where a cause wants another fallback than ``fallback``."""
    mix: MixSpec = MixSpec()
    source_loss: SourceLossSpec = SourceLossSpec()
    breaker: BreakerSpec = BreakerSpec()
    standby_backends: tuple[BackendSpec, ...] = ()
    """Tried in order where ``backend`` fails."""
    captions: CaptionsSpec = CaptionsSpec()
    audio_bitrate: int = Field(default=160_000, ge=32_000, le=512_000)
    status_port: int = Field(default=0, ge=0, le=65_535)
    """Loopback port of the worker's status server; 0 takes a free one."""
    journal_dir: Path | None = None
    """Where the worker writes ``segments.<lang>.jsonl`` (one placed segment a line), for reports and captions."""
    controls: Controls | None = None
    """What an operator had set before this worker was started; it begins with that. Never a reason to restart."""

    @property
    def own_controls(self) -> Controls:
        """The controls as this spec alone has them."""
        return Controls(
            fallback=self.fallback,
            fallback_by_cause=self.fallback_by_cause,
            mix=self.mix,
            delay_s=self.delay_s,
        )


class Levels(_Spec):
    """RMS of the last 100 ms in dBFS, −120 for silence."""

    source: float = -120.0
    background: float = -120.0
    dub: float = -120.0
    output: float = -120.0


class BreakerStatus(_Spec):
    state: Literal["closed", "open", "half-open"] = "closed"
    backend: str = ""
    reason: str | None = None
    """Why it opened last, a sentence."""
    opened: int = 0
    """How often it has opened."""


class DumpSpec(_Spec):
    """``POST /dumps`` of a worker: rolling audio dumps until they are stopped."""

    seconds: int = Field(default=60, ge=1, le=600)
    """Length of a file."""
    keep_bytes: int = Field(default=512 << 20, ge=1 << 20, le=1 << 40)
    """On disk at most; then the oldest file goes. A minute of one kind of sound is 11.5 MB."""


class DumpStatus(_Spec):
    active: bool
    folder: str | None
    """On the worker's machine."""
    files: tuple[str, ...]
    bytes: int
    dropped_blocks: int
    """Not written because the disk was too slow."""
    error: str | None
    """Why the dump ended by itself."""


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
    air_unix_s: float | None = None
    """Unix time at which the picture of ``source_start_ns`` is on air; None where nothing goes on air (a file)."""


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
    fallback_cause: FallbackCause | Literal["operator"] | None = None
    levels: Levels = Levels()
    breakers: tuple[BreakerStatus, ...] = ()
    backend: str | None = None
    """Which of several backends speaks now."""
    cost: float | None = None
    """US dollars so far, by the backends' price lists; None where nothing is charged."""


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
    controls: Controls = Controls()
    queues: dict[str, int] = Field(default_factory=dict)
    """Items in each bounded queue, by its name in the metrics."""
    source_loss: Literal["hold", "slate"] | None = None
    """The step of the ladder while the source is lost."""

"""What the API shows: the loop's knowledge, the workers' own status and the destinations, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from babelcast.clock import Clock
from babelcast.config import Config
from babelcast.egress.status import DestinationStatus
from babelcast.errors import MediaServerError
from babelcast.media_server.base import MediaServer
from babelcast.orchestrator.controls import ControlsBook
from babelcast.orchestrator.desired import Settings, Wanted, output_paths, own_controls
from babelcast.orchestrator.forwarding import Forwarding
from babelcast.orchestrator.handle import Handle, LaunchState
from babelcast.orchestrator.loop import ReconcileLoop
from babelcast.orchestrator.reconcile import Memory
from babelcast.orchestrator.store import EventKind, EventRow
from babelcast.spec import Controls, Levels, SegmentEntry, WorkerStatus, ingest_path
from babelcast.telemetry.redact import MASK, redact
from babelcast.units import NS_PER_S

StreamState = Literal["offline", "starting", "running", "stopping", "retrying", "refused", "lost"]
"""offline: not published. retrying: the worker failed and is started again soon. refused: the source or its
settings can't work as they are, or as many workers run as may; ``last_error`` says why."""

_Model = TypeVar("_Model", bound=BaseModel)
_TIMEOUT = aiohttp.ClientTimeout(total=1.5)
_segments: TypeAdapter[list[SegmentEntry]] = TypeAdapter(list[SegmentEntry])
_levels: TypeAdapter[dict[str, Levels]] = TypeAdapter(dict[str, Levels])


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class WorkerView(_View):
    """The worker's process. ``retry_in_s`` is there while a failed one waits to be started again."""

    state: LaunchState | None
    generation: int
    pid: int | None
    resident_bytes: int | None
    failures: int
    retry_in_s: float | None


class UrlsView(_View):
    """Addresses as seen from this machine."""

    publish: str
    watch: dict[str, str]
    """Target language → RTMP address of the dubbed programme."""


class StreamView(_View):
    id: str
    state: StreamState
    online: bool
    """The source is published now."""
    source_gone_s: float | None
    """How long it has been away, while its worker is kept for it."""
    source_language: str
    target_languages: tuple[str, ...]
    urls: UrlsView
    worker: WorkerView
    controls: Controls
    """As they are set; ``status.controls`` says what the worker has in force."""
    status: WorkerStatus | None
    """What the worker says itself (per target: fallback and cause, levels, breakers; queues; the step of a source
    loss); absent while it does not answer."""
    destinations: list[DestinationStatus]
    warnings: tuple[str, ...]
    last_error: str | None


class EventView(_View):
    id: int
    time: datetime
    kind: EventKind
    stream_id: str
    detail: str


class HealthView(_View):
    status: Literal["ok", "degraded"]
    media_server: str
    media_server_error: str | None
    workers: int
    egress_error: str | None = None
    """Destinations may not be supplied, or what is shown of them is old."""


class Views:
    """Reads, never changes. Every text that came from outside passes :meth:`scrub`."""

    def __init__(
        self,
        settings: Settings,
        server: MediaServer,
        loop: ReconcileLoop,
        forwarding: Forwarding,
        controls: ControlsBook,
        clock: Clock,
        session: aiohttp.ClientSession,
    ) -> None:
        self._settings = settings
        self._server = server
        self._loop = loop
        self._forwarding = forwarding
        self._controls = controls
        self._clock = clock
        self._session = session
        self._secrets = secrets_of(settings.config)

    def scrub(self, text: str) -> str:
        """``text`` with URLs redacted and every secret of the config masked, wherever it stands."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return redact(text)

    def stream_ids(self) -> list[str]:
        """Streams of the config, and those that are not forgotten."""
        return sorted({*self._settings.config.streams, *self._loop.memory, *self._wanted().sources})

    def current_ids(self) -> set[str]:
        """Streams of the config, and those on air."""
        return {*self._settings.config.streams, *self._wanted().sources}

    def output_paths(self, stream_id: str) -> dict[str, str]:
        """Target language → path of the programme at the media server."""
        return output_paths(self._settings, stream_id)

    def knows(self, stream_id: str) -> bool:
        known = (self._settings.config.streams, self._loop.memory, self._wanted().sources)
        return any(stream_id in each for each in known)

    def on_air(self, stream_id: str) -> bool:
        """The stream is published, or was until a moment ago."""
        return stream_id in self._wanted().sources

    def health(self) -> HealthView:
        error, egress_error = self._loop.media_server_error, self._forwarding.error
        return HealthView(
            status="degraded" if error or egress_error else "ok",
            media_server=self._server.name,
            media_server_error=self.scrub(error) if error else None,
            workers=sum(handle.state in {"pending", "running"} for handle in self._loop.handles),
            egress_error=self.scrub(egress_error) if egress_error else None,
        )

    def event(self, row: EventRow) -> EventView:
        stamp = datetime.fromtimestamp(row.time, UTC)
        detail = self.scrub(row.detail)
        return EventView(id=row.id, time=stamp, kind=row.kind, stream_id=row.stream_id, detail=detail)

    def destinations(self, stream_id: str) -> list[DestinationStatus]:
        statuses = self._forwarding.statuses(stream_id)
        return [self._scrubbed(DestinationStatus, status.model_dump(mode="json")) for status in statuses]

    def controls(self, stream_id: str) -> Controls:
        """As they are set, also while the worker does not answer; off air as the config has them."""
        source = self._wanted().sources.get(stream_id)
        own = source.spec.own_controls if source else own_controls(stream_id, self._settings)
        return self._controls.controls(stream_id, own)

    async def streams(self, stream_ids: Iterable[str] | None = None) -> list[StreamView]:
        ids = self.stream_ids() if stream_ids is None else stream_ids
        return list(await asyncio.gather(*(self.stream(stream_id) for stream_id in ids)))

    async def stream(self, stream_id: str) -> StreamView:
        config = self._settings.config.stream(stream_id)
        source = self._wanted().sources.get(stream_id)
        memory = self._loop.memory.get(stream_id, Memory())
        handle = self._loop.latest(stream_id)
        gone_ns = source.gone_since_ns if source else None
        status = await self._worker_status(handle)
        last_error = (status.last_error if status else None) or memory.last_error
        return StreamView(
            id=stream_id,
            state=_state(self.on_air(stream_id), handle, memory),
            online=source is not None and gone_ns is None,
            source_gone_s=None if gone_ns is None else (self._clock.now_ns() - gone_ns) / NS_PER_S,
            source_language=config.source_language,
            target_languages=config.target_languages,
            urls=self._urls(stream_id),
            worker=self._worker(handle, memory),
            controls=self.controls(stream_id),
            status=status,
            destinations=self.destinations(stream_id),
            warnings=status.warnings if status else (),
            last_error=self.scrub(last_error) if last_error else None,
        )

    async def segments(self, stream_id: str, after: int) -> list[SegmentEntry] | None:
        """The worker's placed segments with a sequence above ``after``; None when it does not answer."""
        document = await self._ask(self._loop.latest(stream_id), f"/segments?after={after}")
        try:
            return None if document is None else _segments.validate_python(document)
        except ValidationError:
            return None

    async def levels(self, stream_id: str) -> dict[str, Levels] | None:
        """By target language; None when the worker does not answer."""
        document = await self._ask(self._loop.latest(stream_id), "/levels")
        try:
            return None if document is None else _levels.validate_python(document)
        except ValidationError:
            return None

    def _wanted(self) -> Wanted:
        return self._loop.wanted or Wanted()

    def _worker(self, handle: Handle | None, memory: Memory) -> WorkerView:
        wait_ns = None if memory.retry_at_ns is None else memory.retry_at_ns - self._clock.now_ns()
        return WorkerView(
            state=handle.state if handle else None,
            generation=memory.generation,
            pid=handle.pid if handle else None,
            resident_bytes=handle.rss_bytes if handle else None,
            failures=memory.failures,
            retry_in_s=None if wait_ns is None else max(0.0, wait_ns / NS_PER_S),
        )

    def _urls(self, stream_id: str) -> UrlsView:
        watch: dict[str, str] = {}
        for language, path in output_paths(self._settings, stream_id).items():
            try:
                watch[language] = self._server.read_url(path, "rtmp")
            except MediaServerError:
                continue
        return UrlsView(publish=self._server.publish_url(ingest_path(stream_id)), watch=watch)

    async def _worker_status(self, handle: Handle | None) -> WorkerStatus | None:
        document = await self._ask(handle, "/status")
        try:
            return None if document is None else self._scrubbed(WorkerStatus, document)
        except ValidationError:
            return None

    async def _ask(self, handle: Handle | None, target: str) -> object:
        """The JSON that the worker answers with, or None."""
        if handle is None or handle.status_url is None:
            return None
        try:
            async with self._session.get(handle.status_url + target, timeout=_TIMEOUT) as response:
                return await response.json() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    def _scrubbed(self, model: type[_Model], document: Any) -> _Model:
        return model.model_validate(_map_strings(document, self.scrub))


def secrets_of(config: Config) -> tuple[str, ...]:
    """Every secret of the config, longest first. Very short ones are left out: masking ``a`` would mask all."""
    values = {secret.get_secret_value() for secret in _secrets_in(config)}
    return tuple(sorted((value for value in values if len(value) >= 4), key=len, reverse=True))


def _secrets_in(value: object) -> Iterator[SecretStr]:
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, BaseModel):
        yield from _secrets_in([each for _, each in value])
    elif isinstance(value, Mapping):
        yield from _secrets_in(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _secrets_in(each)


def _state(wanted: bool, handle: Handle | None, memory: Memory) -> StreamState:
    match handle.state if handle else None:
        case "running":
            return "running"
        case "stopping":
            return "stopping"
        case "lost":
            return "lost"
        case "pending":
            return "starting"
    if not wanted:
        return "offline"
    if memory.refused_hash is not None or memory.no_place:
        return "refused"
    return "retrying" if memory.retry_at_ns is not None else "starting"


def _map_strings(document: Any, change: Callable[[str], str]) -> Any:
    if isinstance(document, str):
        return change(document)
    if isinstance(document, dict):
        return {key: _map_strings(value, change) for key, value in document.items()}
    if isinstance(document, list):
        return [_map_strings(value, change) for value in document]
    return document

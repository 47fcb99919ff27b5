"""What outlives the orchestrator: streams with their generations, choices made through the API, a bounded event log.

SQLAlchemy Core, so that the address alone chooses between SQLite and PostgreSQL. Methods block for a moment; the
caller keeps them off the event loop (:class:`AsyncStore`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from babelcast.errors import BabelcastError, ConfigError
from babelcast.threads import to_its_end

SCHEMA_VERSION = 1
MAX_EVENTS = 10_000
"""Older events are dropped."""

_T = TypeVar("_T")

EventKind = Literal[
    "source_ready", "source_gone", "worker_started", "worker_stopped", "worker_failed", "worker_refused",
    "restart_requested", "destination_started", "destination_stopped", "controls_changed", "controls_reset",
    "bridge_ordered", "stream_forgotten",
]  # fmt: skip

_metadata = sa.MetaData()
_schema = sa.Table("schema", _metadata, sa.Column("version", sa.Integer, primary_key=True))
_streams = sa.Table(
    "streams",
    _metadata,
    sa.Column("stream_id", sa.String(63), primary_key=True),
    sa.Column("first_seen", sa.Float, nullable=False),
    sa.Column("last_seen", sa.Float, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("desired", sa.String(16), nullable=False),
)
_destinations = sa.Table(
    "destination_choices",
    _metadata,
    sa.Column("stream_id", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
)
_controls = sa.Table(
    "controls",
    _metadata,
    sa.Column("stream_id", sa.String(63), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("patch", sa.Text, nullable=False),
)
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("stream_id", sa.String(63), nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class StreamRow:
    """``first_seen`` and ``last_seen`` in seconds since 1970; ``generation`` of the last worker started."""

    stream_id: str
    first_seen: float
    last_seen: float
    generation: int
    desired: Literal["on", "off"]


@dataclass(frozen=True, slots=True)
class ControlsRow:
    """``patch``: a ControlsPatch as JSON, all that operators have changed since the stream came on air."""

    stream_id: str
    revision: int
    patch: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """``time`` in seconds since 1970. ``detail`` is one sentence without secrets."""

    id: int
    time: float
    kind: EventKind
    stream_id: str
    detail: str


class Store:
    """Open from construction until :meth:`close`. Every method is one short transaction and may be called from any
    thread."""

    def __init__(self, url: str, *, now: Callable[[], float] = time.time) -> None:
        """``url``: ``sqlite:///FILE``, ``sqlite://`` (in memory) or ``postgresql+psycopg://…``."""
        self._now = now
        self._engine = _engine(url)
        try:
            self._create_schema()
        except BaseException:
            self._engine.dispose()
            raise

    @classmethod
    def in_directory(cls, state_dir: Path) -> Store:
        """The default: a SQLite file in the state directory."""
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(f"sqlite:///{state_dir.absolute() / 'orchestrator.db'}")

    def close(self) -> None:
        self._engine.dispose()

    def _create_schema(self) -> None:
        try:
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
                version = connection.scalar(sa.select(_schema.c.version))
                if version is None:
                    connection.execute(sa.insert(_schema).values(version=SCHEMA_VERSION))
        except sa.exc.SQLAlchemyError as error:
            raise BabelcastError(f"the state database can't be opened: {type(error).__name__}") from error
        if version is not None and version != SCHEMA_VERSION:
            raise ConfigError(
                f"the state database has schema version {version}, this program knows {SCHEMA_VERSION}",
                hint="use the version of Babelcast that wrote it, or another state directory",
            )

    def streams(self) -> list[StreamRow]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_streams).order_by(_streams.c.stream_id)).all()
        return [StreamRow(**row._mapping) for row in rows]

    def save_stream(self, stream_id: str, generation: int, desired: Literal["on", "off"]) -> None:
        """Insert or update. The generation never goes back."""
        now = self._now()
        values: dict[str, Any] = {"last_seen": now, "desired": desired}
        with self._engine.begin() as connection:
            known = connection.scalar(sa.select(_streams.c.generation).where(_streams.c.stream_id == stream_id))
            if known is None:
                row = values | {"stream_id": stream_id, "first_seen": now, "generation": generation}
                connection.execute(sa.insert(_streams).values(row))
            else:
                values["generation"] = max(known, generation)
                connection.execute(sa.update(_streams).where(_streams.c.stream_id == stream_id).values(values))

    def forget_stream(self, stream_id: str) -> None:
        """All of it but its events."""
        with self._engine.begin() as connection:
            for table in (_streams, _destinations, _controls):
                connection.execute(sa.delete(table).where(table.c.stream_id == stream_id))

    def destination_choices(self) -> dict[tuple[str, str], bool]:
        """(stream id, destination) → enabled, for those that a person started or stopped."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_destinations)).all()
        return {(row.stream_id, row.name): bool(row.enabled) for row in rows}

    def choose_destination(self, stream_id: str, name: str, enabled: bool) -> None:
        row = {"stream_id": stream_id, "name": name, "enabled": enabled}
        this = (_destinations.c.stream_id == stream_id) & (_destinations.c.name == name)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_destinations).where(this))
            connection.execute(sa.insert(_destinations).values(row))

    def controls(self) -> list[ControlsRow]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_controls)).all()
        return [ControlsRow(**row._mapping) for row in rows]

    def save_controls(self, stream_id: str, revision: int, patch: str) -> None:
        row = {"stream_id": stream_id, "revision": revision, "patch": patch}
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_controls).where(_controls.c.stream_id == stream_id))
            connection.execute(sa.insert(_controls).values(row))

    def forget_controls(self, stream_id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_controls).where(_controls.c.stream_id == stream_id))

    def add_event(self, kind: EventKind, stream_id: str, detail: str) -> None:
        row = {"time": self._now(), "kind": kind, "stream_id": stream_id, "detail": detail[:1000]}
        with self._engine.begin() as connection:
            key = connection.execute(sa.insert(_events).values(row)).inserted_primary_key
            event_id = int(key[0]) if key else 0
            connection.execute(sa.delete(_events).where(_events.c.id <= event_id - MAX_EVENTS))

    def events(self, *, stream_id: str | None = None, after: int = 0, limit: int = 200) -> list[EventRow]:
        """The latest ``limit`` events with an id above ``after``, oldest first."""
        query = sa.select(_events).where(_events.c.id > after).order_by(_events.c.id.desc()).limit(limit)
        if stream_id is not None:
            query = query.where(_events.c.stream_id == stream_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [EventRow(**row._mapping) for row in reversed(rows)]


class AsyncStore:
    """The same, off the event loop; writes happen one at a time and in order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._order = asyncio.Lock()

    async def call(self, method: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """``await store.call(Store.add_event, …)``. Not undone by cancellation once it has begun, and over when this
        is: a connection that is used or closed under another thread takes the process along. Raises BabelcastError
        (retryable) when the database fails."""
        async with self._order:
            try:
                return await to_its_end(method, self._store, *args, **kwargs)
            except sa.exc.SQLAlchemyError as error:
                cause = getattr(error, "orig", None) or type(error).__name__
                raise BabelcastError(f"the state database failed: {cause}", retryable=True) from error


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed, pool_pre_ping=True, pool_size=2)
        in_memory = parsed.database in (None, "", ":memory:")
        options: dict[str, Any] = {"poolclass": sa.StaticPool} if in_memory else {}
        engine = sa.create_engine(parsed, connect_args={"check_same_thread": False, "timeout": 5}, **options)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise ConfigError(f"the state database's address can't be used: {type(error).__name__}") from error

    @sa.event.listens_for(engine, "connect")
    def _tune(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine

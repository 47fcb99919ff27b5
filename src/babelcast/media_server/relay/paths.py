"""The paths that are published now, who publishes and who reads them."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from babelcast.errors import RtmpError
from babelcast.media_server.relay.events import EventSender
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.media_server.relay.stream import Stream
from babelcast.rtmp.message import Message
from babelcast.spec import is_output_path

if TYPE_CHECKING:
    from babelcast.media_server.relay.connection import Connection

READY_AFTER_S = 1.0
"""A path whose tracks are not all known is ready this long after its first picture or sound."""
SOURCE_TYPE = "rtmpConn"
_NAME = re.compile(r"[0-9A-Za-z_./-]{1,512}")


class Path:
    """A published path. It is *ready* when its tracks are known: then it is listed and its event is sent."""

    def __init__(self, name: str, publisher: Connection, settings: RelaySettings) -> None:
        self.name = name
        self.publisher = publisher
        self.stream = Stream(settings.gop_bytes, settings.gop_messages)
        self.readers: set[Connection] = set()
        self.ready_since: datetime | None = None
        self.first_media_at: float | None = None
        self._bytes_to_former_readers = 0

    @property
    def bytes_out(self) -> int:
        """Bytes sent to readers, the present ones and those that have left."""
        return self._bytes_to_former_readers + sum(reader.bytes_sent for reader in self.readers)

    def leave(self, reader: Connection) -> None:
        self.readers.discard(reader)
        self._bytes_to_former_readers += reader.bytes_sent

    def dispatch(self, message: Message) -> None:
        """Queue the publisher's message for every reader; :meth:`flush` sends it."""
        packet = self.stream.add(message)
        if packet is None:
            return
        if self.first_media_at is None and self.stream.started:
            self.first_media_at = time.monotonic()
        for reader in self.readers:
            reader.push(packet, self.stream)

    def flush(self) -> None:
        for reader in tuple(self.readers):
            reader.flush()

    def tracks_known(self, now: float) -> bool:
        if self.first_media_at is None:
            return False
        return self.stream.tracks_complete or now - self.first_media_at >= READY_AFTER_S


class Paths:
    """All paths and all connections. One publisher to a path."""

    def __init__(self, settings: RelaySettings, events: EventSender | None) -> None:
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        """Set while there is no connection."""
        self.empty.set()
        self._settings = settings
        self._events = events
        self._paths: dict[str, Path] = {}

    def ready(self) -> list[Path]:
        """The paths that the API lists, by name."""
        return [self._paths[name] for name in sorted(self._paths) if self._paths[name].ready_since is not None]

    def get(self, name: str) -> Path | None:
        path = self._paths.get(name)
        return path if path is not None and path.ready_since is not None else None

    def opened(self, connection: Connection) -> bool:
        """Note a connection; False when there are too many."""
        if len(self.connections) >= self._settings.max_connections:
            return False
        self.connections.add(connection)
        self.empty.clear()
        return True

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self.empty.set()

    def publish(self, name: str, query: str, publisher: Connection) -> Path:
        """Take the path ``name``. Raises RtmpError, the peer told, when it is taken or not allowed."""
        if not valid_name(name):
            raise _refused(publisher, "NetStream.Publish.BadName", "the path name is not valid")
        if not _allowed(query, self._settings.publish_user, self._settings.publish_pass):
            raise _refused(publisher, "NetStream.Publish.Unauthorized", "authentication failed")
        if is_output_path(name) and not publisher.local:
            raise _refused(publisher, "NetStream.Publish.Unauthorized", "only this machine publishes dubbed programmes")
        if name in self._paths:
            raise _refused(publisher, "NetStream.Publish.BadName", f"someone is already publishing to {name}")
        path = self._paths[name] = Path(name, publisher, self._settings)
        return path

    def read(self, name: str, query: str, reader: Connection) -> Path:
        """Join the readers of ``name``. Raises RtmpError, the peer told, when it is absent or not allowed."""
        if not _allowed(query, self._settings.read_user, self._settings.read_pass):
            raise _refused(reader, "NetStream.Play.Failed", "authentication failed")
        path = self._paths.get(name)
        if path is None:
            raise _refused(reader, "NetStream.Play.StreamNotFound", "no stream is available on this path")
        path.readers.add(reader)
        return path

    def unpublish(self, path: Path) -> None:
        """The publisher is gone: its readers are told and closed."""
        self._paths.pop(path.name, None)
        for reader in tuple(path.readers):
            reader.end()
        path.readers.clear()
        if path.ready_since is not None:
            self._notify("not-ready", path)

    def check(self) -> None:
        """What depends on time: called by the ticker."""
        now = time.monotonic()
        for path in self._paths.values():
            if path.ready_since is None and path.tracks_known(now):
                path.ready_since = datetime.now(UTC)
                self._notify("ready", path)
        for connection in tuple(self.connections):
            connection.check(now)

    def _notify(self, event: str, path: Path) -> None:
        if self._events is not None:
            self._events.put(event, path.name, path.publisher.query, SOURCE_TYPE, path.publisher.id)


def valid_name(name: str) -> bool:
    """Letters, digits, ``_ - .`` in segments between single slashes; no ``.`` or ``..`` segment, as in MediaMTX."""
    return _NAME.fullmatch(name) is not None and not {"", ".", ".."} & set(name.split("/"))


def _allowed(query: str, user: str | None, password: str) -> bool:
    if user is None:
        return True
    given = parse_qs(query, keep_blank_values=True)
    # both are compared in any case, so that the time taken tells nothing
    user_ok = hmac.compare_digest(given.get("user", [""])[0].encode(), user.encode())
    password_ok = hmac.compare_digest(given.get("pass", [""])[0].encode(), password.encode())
    return user_ok and password_ok


def _refused(connection: Connection, code: str, reason: str) -> RtmpError:
    connection.refuse(code, reason)
    return RtmpError(reason, code=code)

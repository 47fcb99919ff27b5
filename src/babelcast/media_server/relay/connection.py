"""One TCP connection of the relay: an encoder that publishes, or a player that reads.

Everything runs in transport callbacks; there is no task per connection. Deadlines are kept by the relay's
ticker, which calls :meth:`Connection.check`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING, Literal

from babelcast.errors import RtmpError
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.media_server.relay.stream import Packet, ReaderQueue, Stream
from babelcast.rtmp.keepalive import detect_dead_peer
from babelcast.rtmp.message import Message
from babelcast.rtmp.protocol import Event, PlayRequested, PublishRequested, ServerProtocol, StreamClosed
from babelcast.rtmp.url import LONGER

if TYPE_CHECKING:
    from babelcast.media_server.relay.paths import Path, Paths

log = logging.getLogger(__name__)

_WRITE_HIGH_WATER = 256 * 1024
_WRITE_LIMIT = 1024 * 1024
"""Most that is joined into one write."""

Role = Literal["idle", "publish", "read"]


class Connection(asyncio.Protocol):
    """Roles: idle → publish or read → idle. ``id`` is what the API and the logs call it."""

    def __init__(self, paths: Paths, settings: RelaySettings) -> None:
        self.id = str(uuid.uuid4())
        self.role: Role = "idle"
        self.path: Path | None = None
        self.query = ""
        self.remote = ""
        self.local = False
        """The peer is on this machine."""
        self.bytes_sent = 0
        self.queue = ReaderQueue(settings.queue_bytes, settings.queue_messages)
        self._paths = paths
        self._settings = settings
        self._protocol = ServerProtocol()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._closing = False
        now = time.monotonic()
        self._heard_at = now
        self._moved_at = now
        self._unsent = 0

    @property
    def bytes_received(self) -> int:
        return self._protocol.bytes_received

    # transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.remote = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self.local = isinstance(peer, tuple) and _is_this_machine(peer[0])
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        detect_dead_peer(transport.get_extra_info("socket"), self._settings.timeout_s)
        if not self._paths.opened(self):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard_at = time.monotonic()
        try:
            for event in self._protocol.receive(data):
                self._handle(event)
        except RtmpError as error:
            self._log("closed: %s", error)
            self._send_replies()
            self.close()
            return
        self._send_replies()
        if self.role == "publish" and self.path is not None:
            self.path.flush()

    def pause_writing(self) -> None:
        self._paused = True
        self._moved_at = time.monotonic()
        if self._transport is not None:  # or a peer that asks and asks, and takes no answer, fills the memory
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._heard_at = time.monotonic()  # it could not be heard
        if self._transport is not None:
            self._transport.resume_reading()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.role != "idle":
            self._log("closed: %s", exc or "the peer closed the connection")
        self._leave()
        self._paths.closed(self)

    # what the peer asks for

    def _handle(self, event: Event) -> None:
        if isinstance(event, Message):
            if self.role == "publish" and self.path is not None:
                self.path.dispatch(event)
        elif isinstance(event, PublishRequested):
            self._publish(event)
        elif isinstance(event, PlayRequested):
            self._play(event)
        elif isinstance(event, StreamClosed):
            self._leave()

    def _publish(self, request: PublishRequested) -> None:
        self.query = request.query
        self.path = self._paths.publish(request.path, request.query, self)
        self.role = "publish"
        self._protocol.accept_publish()
        self._log("publishes")

    def _play(self, request: PlayRequested) -> None:
        self.path = self._paths.read(request.path, request.query, self)
        self.role = "read"
        self._protocol.accept_play()
        self._send_replies()
        self._log("reads")
        packets, started = self.path.stream.start_packets(longer=LONGER in request.query.split("&"))
        self.queue.fill(packets, started=started)
        self.flush()

    def refuse(self, code: str, description: str) -> None:
        """Tell the peer no. The caller raises RtmpError, which closes the connection once this is sent."""
        self._protocol.reject(code, description)

    def _leave(self) -> None:
        path, role = self.path, self.role
        self.path, self.role = None, "idle"
        if path is not None and role == "publish":
            self._paths.unpublish(path)
        elif path is not None and role == "read":
            path.leave(self)

    # a reader's side

    def push(self, packet: Packet, stream: Stream) -> None:
        self.queue.push(packet, stream)

    def flush(self) -> None:
        """Write what is queued, until the transport has had enough; ``resume_writing`` comes back here."""
        while not self._paused and self._transport is not None:
            data = self.queue.take(_WRITE_LIMIT)
            if not data:
                return
            self._write(data)

    def end(self) -> None:
        """The publisher has left: give the reader what is queued, say so, and close."""
        self.role, self.path = "idle", None
        self._write(self.queue.take(self._settings.queue_bytes * 2))
        self._protocol.end_play()
        self._send_replies()
        self._say_no_more()

    def close(self) -> None:
        """Close once what is written has left; the ticker ends what does not leave."""
        if self._transport is not None:
            self._leave()
            self._transport.close()

    def _say_no_more(self) -> None:
        """Nothing more comes, once what is written has left; the reader hangs up, or the ticker does.

        A socket that is closed answers what the reader still says (acknowledgements) with a reset, and what was on
        its way to it would be lost. So it is read from, for nothing, until the reader has closed.
        """
        if self._transport is None or self._closing:
            return
        self._closing = True
        self._heard_at = time.monotonic()
        if not self._transport.is_closing():
            try:
                self._transport.write_eof()
                self._transport.resume_reading()
            except OSError:  # it is gone; asyncio hears of it later
                self._transport.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Close a peer that has been silent, or has taken nothing, for too long. Called by the ticker."""
        if self._transport is None:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent or not unsent:
            self._moved_at = now
        self._unsent = unsent
        if self._closing and unsent:
            self._heard_at = now  # it goes when it has all
        if now - self._moved_at > self._settings.timeout_s:
            self._log("closed: took nothing for %g s", self._settings.timeout_s)
            self.abort()
        elif self.role != "read" and now - self._heard_at > self._settings.timeout_s:
            self._log("closed: silent for %g s", self._settings.timeout_s)
            self.abort()

    def _send_replies(self) -> None:
        self._write(self._protocol.data_to_send())

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._closing and not self._transport.is_closing():
            self._transport.write(data)
            self.bytes_sent += len(data)

    def _log(self, message: str, *args: object) -> None:
        path = self.path.name if self.path is not None else None
        log.info(message, *args, extra={"connection": self.id, "remote": self.remote, "path": path})


def _is_this_machine(host: str) -> bool:
    return host.removeprefix("::ffff:") in {"127.0.0.1", "::1"}

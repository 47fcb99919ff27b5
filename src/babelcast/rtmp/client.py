"""RTMP client for asyncio: publish to, or play from, a server (``rtmp://`` and ``rtmps://``)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from babelcast.errors import RtmpError
from babelcast.rtmp.client_protocol import ClientProtocol
from babelcast.rtmp.keepalive import detect_dead_peer
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import (
    Connected,
    Event,
    Started,
    StreamClosed,
    publisher_metadata,
    reader_metadata,
)
from babelcast.rtmp.url import RtmpTarget, parse_url

CONNECT_TIMEOUT_S = 10.0
IO_TIMEOUT_S = 10.0
_WRITE_HIGH_WATER = 512 * 1024
_READ_HIGH_WATER = 2048  # messages; then the socket is paused
_READ_LOW_WATER = 512


class RtmpClient:
    """One connection, for one publish or one play.

    ::

        async with RtmpClient.connect("rtmp://127.0.0.1/live/show/out") as source:
            await source.play()
            async with RtmpClient.connect("rtmps://a.rtmp.example/live2", key="…") as destination:
                await destination.publish()
                async for message in source.messages():
                    await destination.send(message)

    Every failure is an RtmpError: ``code`` is the server's status code where it sent one, ``retryable`` is False
    where no retry helps (refused credentials, unknown application, bad certificate, malformed address).
    """

    def __init__(self, connection: _Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
        io_timeout_s: float = IO_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[RtmpClient]:
        """Connect, shake hands and send ``connect``; say goodbye and close at the end.

        ``url`` is ``rtmp[s]://host[:port]/app…/key[?query]``; with ``key`` given, the whole of the URL's path is
        the application. ``timeout_s`` is for connecting, and for publish or play to be accepted; ``io_timeout_s``
        is how long a write may stall, or a played stream be silent. ``tls`` replaces the default context.
        """
        connection = await _open(parse_url(url, key), timeout_s, io_timeout_s, tls)
        try:
            await connection.expect(Connected, timeout_s)
            yield cls(connection, timeout_s)
        finally:
            await connection.close()

    @property
    def bytes_sent(self) -> int:
        """Bytes handed to the connection's transport, protocol overhead included."""
        return self._connection.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._connection.protocol.bytes_received

    async def publish(self) -> None:
        """Begin to publish. Raises RtmpError when refused."""
        self._connection.protocol.publish()
        await self._connection.expect(Started, self._timeout_s)

    async def play(self) -> None:
        """Begin to play. Raises RtmpError when refused; read :meth:`messages` then."""
        self._connection.protocol.play()
        await self._connection.expect(Started, self._timeout_s)

    async def send(self, message: Message) -> None:
        """Send an audio, video or data message of a published stream.

        Waits while the peer is slower than we are, ``io_timeout_s`` at most. A played ``onMetaData`` is wrapped
        into ``@setDataFrame``, so that what :meth:`messages` gave can be sent as it is.
        """
        if message.type == MessageType.DATA:
            message = message._replace(payload=publisher_metadata(message.payload))
        await self._connection.send(message)

    async def messages(self) -> AsyncIterator[Message]:
        """The audio, video and data messages of a played stream, until the server ends it.

        ``@setDataFrame`` is taken off. Raises RtmpError when the connection is lost or silent for ``io_timeout_s``.
        """
        while (message := await self._connection.next_message()) is not None:
            if message.type == MessageType.DATA:
                message = message._replace(payload=reader_metadata(message.payload))
            yield message


class _Connection(asyncio.Protocol):
    """The transport's side. Callbacks and callers run in the same event loop; ``_changed`` wakes the one waiter.

    Received messages queue up to ``_READ_HIGH_WATER``; then the socket is paused, so the server feels it.
    """

    def __init__(self, target: RtmpTarget, io_timeout_s: float) -> None:
        self.protocol = ClientProtocol(target)
        self._io_timeout_s = io_timeout_s
        self.bytes_sent = 0
        self._transport: asyncio.Transport | None = None
        self._events: deque[Event] = deque()
        self._messages: deque[Message] = deque()
        self._reading_paused = False
        self._writable = asyncio.Event()
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._error: RtmpError | None = None
        self._ended = False

    # transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        detect_dead_peer(transport.get_extra_info("socket"), self._io_timeout_s)
        self._writable.set()
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self.protocol.receive(data)
        except RtmpError as error:
            self._fail(error)
            return
        for event in events:
            if isinstance(event, Message):
                self._messages.append(event)
            elif isinstance(event, StreamClosed):
                self._ended = True
            else:
                self._events.append(event)
        self._flush()
        self._changed.set()
        if len(self._messages) > _READ_HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
            self._reading_paused = True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        # A server that has nothing more to play just closes: the end, not an error, once the messages are read.
        if self._error is None and isinstance(exc, TimeoutError):  # by detect_dead_peer: our own limit, a moment sooner
            self._error = RtmpError(f"the RTMP server took no data for {self._io_timeout_s:g} s")
        elif self._error is None and exc is not None:
            self._error = RtmpError(f"the RTMP connection was lost: {exc}")
        self._ended = True
        self._closed.set()
        self._changed.set()
        self._writable.set()

    # the client's calls

    async def expect(self, kind: type[Event], timeout_s: float) -> None:
        """Wait for the event ``kind``. Raises RtmpError when refused, lost or too slow."""
        self._flush()
        try:
            async with asyncio.timeout(timeout_s):
                while not self._events:
                    self._check()
                    if self._ended:
                        raise RtmpError("the RTMP server closed the connection without an answer")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RtmpError(f"no answer from the RTMP server within {timeout_s:g} s") from None
        event = self._events.popleft()
        if not isinstance(event, kind):
            raise RtmpError(f"unexpected answer from the RTMP server: {type(event).__name__}")

    async def send(self, message: Message) -> None:
        self._check()
        if self._ended:
            raise RtmpError("the RTMP server closed the connection")
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(self._io_timeout_s):
                    await self._writable.wait()
            except TimeoutError:
                raise RtmpError(f"the RTMP server took no data for {self._io_timeout_s:g} s") from None
            self._check()
        self.protocol.send_media(message)
        self._flush()

    async def next_message(self) -> Message | None:
        """The next message; None at the end of the stream."""
        while not self._messages:
            self._check()
            if self._ended:
                return None
            self._changed.clear()
            try:
                async with asyncio.timeout(self._io_timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                raise RtmpError(f"nothing from the RTMP server for {self._io_timeout_s:g} s") from None
        message = self._messages.popleft()
        if self._reading_paused and len(self._messages) < _READ_LOW_WATER and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return message

    async def close(self) -> None:
        """Say goodbye and close; what does not leave within a second is dropped. Not cancelled half-way.

        Where something was published, the server hangs up first: a socket that is closed answers the server's
        acknowledgements with a reset, and what was still on its way would be lost. (TLS does so by itself.)
        """
        transport = self._transport
        if transport is None or self._closed.is_set():
            return
        publishes = self.protocol.publishes
        self.protocol.end()
        self._flush()
        try:
            if publishes and transport.can_write_eof() and not transport.is_closing():
                with contextlib.suppress(OSError):  # it is gone; asyncio hears of it later
                    transport.write_eof()
                transport.resume_reading()
            else:
                transport.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._closed.wait()
        finally:
            transport.abort()

    def _check(self) -> None:
        if self._error is not None and not self._messages:
            raise self._error

    def _fail(self, error: RtmpError) -> None:
        self._error = error
        self._changed.set()
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        data = self.protocol.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            self.bytes_sent += len(data)


@functools.cache
def _system_context() -> ssl.SSLContext:
    """With the system's certificate authorities. Reading them takes tens of milliseconds, in which no other destination
    is supplied: so once."""
    return ssl.create_default_context()


async def _open(target: RtmpTarget, timeout_s: float, io_timeout_s: float, tls: ssl.SSLContext | None) -> _Connection:
    context = (tls or _system_context()) if target.tls else None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(
                lambda: _Connection(target, io_timeout_s), target.host, target.port, ssl=context
            )
    except TimeoutError:
        raise RtmpError(f"can't connect to {target.host}:{target.port} within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        _system_context.cache_clear()  # the authorities may have been renewed since
        raise _bad_certificate(target, error) from None
    except ssl.SSLError as error:
        raise _no_tls(target, (error.reason or str(error)).replace("_", " ").lower()) from None
    except OSError as error:
        # asyncio puts "Connect call failed" and a tuple in the place of the system's own words
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror or str(error)
        if not why:  # asyncio says nothing of a peer that hangs up in the middle of the handshake
            raise _no_tls(target, "it closed the connection in the handshake") from None
        raise RtmpError(f"can't connect to {target.host}:{target.port}: {why}") from None
    return connection


def _no_tls(target: RtmpTarget, why: str) -> RtmpError:
    return RtmpError(f"no TLS with {target.host}:{target.port}: {why}", hint="perhaps it speaks rtmp:// there")


def _bad_certificate(target: RtmpTarget, error: ssl.SSLCertVerificationError) -> RtmpError:
    paths = ssl.get_default_verify_paths()
    missing = not (paths.cafile or paths.capath)
    hint = "this machine has no certificate authorities: apt-get install ca-certificates" if missing else None
    message = f"the certificate of {target.host} is not valid: {error.verify_message}"
    return RtmpError(message, hint=hint, retryable=False)

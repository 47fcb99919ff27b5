"""RTMP as a state machine: bytes in, events and bytes out. No sockets, no clock, no tasks.

:class:`ServerProtocol` is one connection of a server, :class:`babelcast.rtmp.client_protocol.ClientProtocol` one of a
client. Both are driven alike::

    for event in protocol.receive(data): ...
    transport.write(protocol.data_to_send())

Audio, video and data messages come out of ``receive`` as :class:`Message`, their payload untouched, so that
whatever a peer puts into an FLV tag (enhanced RTMP's HEVC, AV1, Opus) passes. A peer that breaks the protocol
raises RtmpError; the connection is then of no further use.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

from babelcast.errors import RtmpError
from babelcast.rtmp import amf0, chunks
from babelcast.rtmp.handshake import Handshake
from babelcast.rtmp.message import Message, MessageType, UserControl
from babelcast.rtmp.url import join_path

CHUNK_SIZE = 65_536
"""Chunk size that we announce and send with: most pictures fit in one chunk."""
WINDOW = 2_500_000
"""Bytes after which an acknowledgement is sent, and asked for."""
STREAM_ID = 1
_CONTROL_CHUNKS, _COMMAND_CHUNKS, _DATA_CHUNKS, _AUDIO_CHUNKS, _VIDEO_CHUNKS, _STATUS_CHUNKS = 2, 3, 4, 4, 6, 5
_MEDIA_CHUNKS = {
    MessageType.AUDIO: _AUDIO_CHUNKS,
    MessageType.VIDEO: _VIDEO_CHUNKS,
    MessageType.DATA: _DATA_CHUNKS,
}
_SET_DATA_FRAME = amf0.encode("@setDataFrame")
SAMPLE_ACCESS = amf0.encode("|RtmpSampleAccess")
_ON_META_DATA = amf0.encode("onMetaData")


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """To be answered by ``accept_publish`` or ``reject``. ``query`` may hold credentials: never log it."""

    path: str
    query: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """To be answered by ``accept_play`` or ``reject``. ``query`` may hold credentials: never log it."""

    path: str
    query: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The peer has ended its publishing or playing (a server's peer), or the stream is over (a client's)."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The server has accepted the application: publish or play may be called."""


@dataclass(frozen=True, slots=True)
class Started:
    """The server has accepted publish or play."""


Event: TypeAlias = Message | PublishRequested | PlayRequested | StreamClosed | Connected | Started


def encode_media(message: Message, chunk_size: int = CHUNK_SIZE) -> bytes:
    """An audio, video or data message as chunks, for any peer that was told ``chunk_size``."""
    return chunks.encode(message._replace(stream_id=STREAM_ID), _MEDIA_CHUNKS[MessageType(message.type)], chunk_size)


def reader_metadata(payload: bytes) -> bytes:
    """A publisher's data payload as readers get it: without the ``@setDataFrame`` in front."""
    return payload.removeprefix(_SET_DATA_FRAME)


def publisher_metadata(payload: bytes) -> bytes:
    """A reader's data payload as a publisher sends it: ``onMetaData`` with ``@setDataFrame`` in front."""
    return _SET_DATA_FRAME + payload if payload.startswith(_ON_META_DATA) else payload


def is_metadata(payload: bytes) -> bool:
    """Whether a reader's data payload is ``onMetaData``."""
    return payload.startswith(_ON_META_DATA)


class BaseProtocol(ABC):
    """What both sides share: handshake, chunks, acknowledgements, ping."""

    def __init__(self, *, server: bool) -> None:
        self._handshake: Handshake | None = Handshake(server=server)
        self._chunks = chunks.ChunkReader()
        self._out: list[bytes] = [self._handshake.first]
        self._out_chunk_size = chunks.DEFAULT_CHUNK_SIZE
        self._window = WINDOW
        self._acknowledged = 0
        self.bytes_received = 0

    def data_to_send(self) -> bytes:
        """All that is to be sent now. Empties the protocol's buffer."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer. Raises RtmpError when it breaks the protocol or refuses."""
        self.bytes_received += len(data)
        if self._handshake is not None:
            self._out.append(self._handshake.feed(data))
            if not self._handshake.done:
                return []
            data = self._handshake.rest
            self._handshake = None
            self._on_handshake()
        events: list[Event] = []
        for message in self._chunks.feed(data):
            self._dispatch(message, events)
        if self.bytes_received - self._acknowledged >= self._window:
            self._acknowledged = self.bytes_received
            self._control(MessageType.ACKNOWLEDGEMENT, (self.bytes_received & 0xFFFFFFFF).to_bytes(4, "big"))
        return events

    def _dispatch(self, message: Message, events: list[Event]) -> None:
        kind = message.type
        if kind in (MessageType.VIDEO, MessageType.AUDIO, MessageType.DATA):
            self._media(message, events)
        elif kind == MessageType.COMMAND:
            self._command(message.payload, message.stream_id, events)
        elif kind == MessageType.COMMAND_AMF3:
            self._command(message.payload[1:], message.stream_id, events)  # AMF0 behind a zero byte
        elif kind == MessageType.DATA_AMF3:
            self._media(message._replace(type=MessageType.DATA, payload=message.payload[1:]), events)
        elif kind == MessageType.AGGREGATE:
            for part in _split_aggregate(message):
                self._dispatch(part, events)
        elif kind == MessageType.WINDOW_ACK_SIZE:
            self._window = max(int.from_bytes(message.payload[:4], "big"), 1024)
        elif kind == MessageType.USER_CONTROL:
            self._user_control(message.payload, events)

    def _media(self, message: Message, events: list[Event]) -> None:
        events.append(message)

    def _user_control(self, payload: bytes, events: list[Event]) -> None:
        event = int.from_bytes(payload[:2], "big")
        if event == UserControl.PING_REQUEST:
            self._control(MessageType.USER_CONTROL, struct.pack("!H", UserControl.PING_RESPONSE) + payload[2:6])

    def _on_handshake(self) -> None:  # noqa: B027 (a server has nothing to do here)
        """Called once, when the handshake is complete."""

    @abstractmethod
    def _command(self, payload: bytes, stream_id: int, events: list[Event]) -> None:
        """Act on an AMF0 command."""

    def _send(self, message: Message, chunk_stream_id: int) -> None:
        self._out.append(chunks.encode(message, chunk_stream_id, self._out_chunk_size))

    def _control(self, kind: MessageType, payload: bytes) -> None:
        self._send(Message(kind, 0, payload), _CONTROL_CHUNKS)

    def _announce_chunk_size(self) -> None:
        self._control(MessageType.SET_CHUNK_SIZE, CHUNK_SIZE.to_bytes(4, "big"))
        self._out_chunk_size = CHUNK_SIZE

    def _call(self, *values: amf0.Value, stream_id: int = 0, chunk_stream_id: int = _COMMAND_CHUNKS) -> None:
        self._send(Message(MessageType.COMMAND, 0, amf0.encode(*values), stream_id), chunk_stream_id)

    def send_media(self, message: Message) -> None:
        """Queue an audio, video or data message for the peer."""
        self._out.append(encode_media(message, self._out_chunk_size))


class _ServerState(Enum):
    NEW = "new"
    CONNECTED = "connected"
    ASKED = "asked"
    PUBLISHING = "publishing"
    PLAYING = "playing"


class ServerProtocol(BaseProtocol):
    """A server's side of one connection; one stream at a time.

    Events: PublishRequested, PlayRequested, then Message (from a publisher), then StreamClosed. Media from a
    peer that does not publish is dropped.
    """

    def __init__(self) -> None:
        super().__init__(server=True)
        self._state = _ServerState.NEW
        self._app = ""
        self._asked: Literal["Publish", "Play"] = "Publish"
        self.flash_version = ""

    def accept_publish(self) -> None:
        self._state = _ServerState.PUBLISHING
        self._stream_event(UserControl.STREAM_BEGIN)
        self._status("status", "NetStream.Publish.Start", "publishing")

    def accept_play(self) -> None:
        self._state = _ServerState.PLAYING
        self._stream_event(UserControl.STREAM_BEGIN)
        self._status("status", "NetStream.Play.Reset", "reset")
        self._status("status", "NetStream.Play.Start", "playing")
        self._send(Message(MessageType.DATA, 0, SAMPLE_ACCESS + amf0.encode(True, True), STREAM_ID), _STATUS_CHUNKS)
        self._status("status", "NetStream.Data.Start", "data")

    def reject(self, code: str, description: str) -> None:
        """Refuse what was asked for, with an RTMP status code (``NetStream.Publish.BadName``)."""
        self._state = _ServerState.CONNECTED
        self._status("error", code, description)

    def end_play(self) -> None:
        """Tell a reader that the stream is over."""
        self._status("status", "NetStream.Play.UnpublishNotify", "the publisher has left")
        self._stream_event(UserControl.STREAM_EOF)
        self._status("status", "NetStream.Play.Stop", "stopped")
        self._state = _ServerState.CONNECTED

    def _stream_event(self, event: UserControl) -> None:
        self._control(MessageType.USER_CONTROL, struct.pack("!HI", event, STREAM_ID))

    def _status(self, level: str, code: str, description: str) -> None:
        info: amf0.Value = {"level": level, "code": code, "description": description}
        self._call("onStatus", 0, None, info, stream_id=STREAM_ID, chunk_stream_id=_STATUS_CHUNKS)

    def _media(self, message: Message, events: list[Event]) -> None:
        if self._state is _ServerState.NEW:
            raise RtmpError("media before connect")
        # An encoder may send on without waiting for the answer to publish; after deleteStream its rest is dropped.
        if self._state in (_ServerState.ASKED, _ServerState.PUBLISHING):
            events.append(message)

    def _command(self, payload: bytes, stream_id: int, events: list[Event]) -> None:
        values = amf0.decode(payload)
        name, transaction = [*values, None, None][:2]
        if not isinstance(name, str) or not isinstance(transaction, float | None):
            raise RtmpError("malformed command")
        argument = values[3] if len(values) > 3 else None
        if name == "connect":
            self._connect(transaction, values[2] if len(values) > 2 else None)
        elif self._state is _ServerState.NEW:
            raise RtmpError(f"command before connect: {name[:40]!r}")
        elif name == "createStream":
            self._call("_result", transaction, None, STREAM_ID)
        elif name == "releaseStream":
            self._call("_result", transaction, None, None)
        elif name == "FCPublish":
            self._call("onFCPublish", 0, None, {"code": "NetStream.Publish.Start", "description": ""})
        elif name == "publish":
            events.append(PublishRequested(*self._ask("Publish", argument)))
        elif name == "play":
            events.append(PlayRequested(*self._ask("Play", argument)))
        elif name in ("deleteStream", "closeStream", "FCUnpublish"):
            self._close_stream(events)
        # Anything else (getStreamLength, FCSubscribe, pause, _checkbw…) needs no answer to go on.

    def _connect(self, transaction: float | None, argument: amf0.Value) -> None:
        if self._state is not _ServerState.NEW or not isinstance(argument, Mapping):
            raise RtmpError("malformed connect")
        app = argument.get("app")
        self._app = app if isinstance(app, str) else ""
        flash_version = argument.get("flashVer")
        self.flash_version = flash_version[:100] if isinstance(flash_version, str) else ""
        self._state = _ServerState.CONNECTED
        self._control(MessageType.WINDOW_ACK_SIZE, WINDOW.to_bytes(4, "big"))
        self._control(MessageType.SET_PEER_BANDWIDTH, WINDOW.to_bytes(4, "big") + b"\x02")
        self._announce_chunk_size()
        properties: dict[str, amf0.Value] = {"fmsVer": "FMS/3,5,7,7009", "capabilities": 31, "mode": 1}
        properties |= _enhanced_capabilities(argument)
        information: amf0.Value = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "connected",
            "objectEncoding": 0,
        }
        self._call("_result", transaction, properties, information)

    def _ask(self, kind: Literal["Publish", "Play"], name: amf0.Value) -> tuple[str, str]:
        if self._state is not _ServerState.CONNECTED:
            raise RtmpError(f"a second {kind.lower()} on one connection")
        if not isinstance(name, str):
            raise RtmpError(f"{kind.lower()} without a stream name")
        self._state = _ServerState.ASKED
        return join_path(self._app, name)

    def _close_stream(self, events: list[Event]) -> None:
        if self._state in (_ServerState.PUBLISHING, _ServerState.PLAYING):
            publishing = self._state is _ServerState.PUBLISHING
            self._state = _ServerState.CONNECTED
            if publishing:
                self._status("status", "NetStream.Unpublish.Success", "unpublished")
            events.append(StreamClosed())


def _enhanced_capabilities(argument: Mapping[str, amf0.Value]) -> dict[str, amf0.Value]:
    """What enhanced RTMP negotiates: every codec passes through here, so the client's own list is the answer."""
    found: dict[str, amf0.Value] = {}
    fourccs = argument.get("fourCcList")
    if isinstance(fourccs, list):
        found["fourCcList"] = [item for item in fourccs if isinstance(item, str)]
    for name in ("videoFourCcInfoMap", "audioFourCcInfoMap"):
        offered = argument.get(name)
        if isinstance(offered, Mapping):
            found[name] = {fourcc: 0x04 for fourcc in offered}  # 4: can forward
    caps = argument.get("capsEx")
    if isinstance(caps, float) and 0 <= caps < 256:
        found["capsEx"] = int(caps) & ~0x01  # all but reconnect requests, which we never send
    return found


def _split_aggregate(message: Message) -> Iterator[Message]:
    """The FLV tags in an aggregate message, on the time scale of the message (section 7.1.6)."""
    payload, at, offset = message.payload, 0, None
    while at + 11 <= len(payload):
        size = int.from_bytes(payload[at + 1 : at + 4], "big")
        time = int.from_bytes(payload[at + 4 : at + 7], "big") | payload[at + 7] << 24
        offset = message.timestamp - time if offset is None else offset
        end = at + 11 + size
        if end > len(payload) or payload[at] == MessageType.AGGREGATE:
            raise RtmpError("malformed aggregate message")
        yield Message(payload[at], (time + offset) & 0xFFFFFFFF, payload[at + 11 : end], message.stream_id)
        at = end + 4  # the back pointer

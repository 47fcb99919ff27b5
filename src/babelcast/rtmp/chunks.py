"""The chunk layer: messages cut into chunks and put together again (RTMP 1.0, section 5.3).

:class:`ChunkReader` takes bytes as they come; :func:`encode` is stateless (every message begins with a full
header), so that one encoded message can be sent to any number of peers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from babelcast.errors import RtmpError
from babelcast.rtmp.message import MAX_MESSAGE, Message, MessageType

DEFAULT_CHUNK_SIZE = 128
MAX_CHUNK_STREAMS = 64
"""Chunk streams that a peer may use at once; real ones use fewer than ten."""
MAX_CHUNK_SIZE = 0x7FFFFFFF

_EXTENDED = 0xFFFFFF
_HEADER_LENGTH = (11, 7, 3, 0)


@dataclass(slots=True)
class _ChunkStream:
    """What the next header of this chunk stream may leave out, and the message that is under way."""

    timestamp: int = 0
    delta: int = 0
    length: int = -1
    type: int = 0
    message_stream: int = 0
    extended: bool = False
    parts: list[bytes] = field(default_factory=list)
    missing: int = 0


class ChunkReader:
    """Chunks in, messages out. Set Chunk Size and Abort are obeyed here; all other messages are returned.

    Memory is bounded: one chunk that is not complete plus at most :data:`MAX_MESSAGE` bytes of messages under
    way over all chunk streams.
    """

    def __init__(self) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self._buffer = bytearray()
        self._streams: dict[int, _ChunkStream] = {}
        self._held = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. Raises RtmpError; the reader is then of no further use."""
        self._buffer += data
        messages: list[Message] = []
        at = 0
        while (end := self._chunk(at, messages)) is not None:
            at = end
        del self._buffer[:at]
        return messages

    def _chunk(self, at: int, messages: list[Message]) -> int | None:
        """Read the chunk at ``at``; its end, or None when it is not all there."""
        buffer = self._buffer
        header = self._basic_header(at)
        if header is None:
            return None
        fmt, chunk_stream_id, at = header
        if len(buffer) < at + _HEADER_LENGTH[fmt]:
            return None
        stream = self._streams.get(chunk_stream_id) or self._open(chunk_stream_id, fmt)
        if fmt != 3 and stream.missing:
            raise RtmpError(f"message on chunk stream {chunk_stream_id} interrupted by another")
        length = int.from_bytes(buffer[at + 3 : at + 6], "big") if fmt < 2 else stream.length
        time = int.from_bytes(buffer[at : at + 3], "big") if fmt < 3 else 0
        extended = time == _EXTENDED if fmt < 3 else stream.extended
        body = at + _HEADER_LENGTH[fmt]
        if extended:
            if len(buffer) < body + 4:
                return None
            ext_time = int.from_bytes(buffer[body : body + 4], "big")
            # Some encoders leave the extended timestamp out of continuation chunks: then these 4 bytes are media.
            if fmt < 3 or not stream.missing or ext_time == stream.delta:
                body += 4
                time = ext_time
        size = min(stream.missing or length, self.chunk_size)
        if len(buffer) < body + size:
            return None
        if not stream.missing:
            self._begin(stream, fmt, at, time, extended, length)
        self._append(stream, bytes(buffer[body : body + size]), messages)
        return body + size

    def _basic_header(self, at: int) -> tuple[int, int, int] | None:
        """Format, chunk stream id and the end of the basic header."""
        buffer = self._buffer
        if len(buffer) <= at:
            return None
        first = buffer[at]
        low = first & 0x3F
        if low >= 2:
            return first >> 6, low, at + 1
        if len(buffer) < at + 2 + low:
            return None
        if low == 0:
            return first >> 6, buffer[at + 1] + 64, at + 2
        return first >> 6, buffer[at + 1] + (buffer[at + 2] << 8) + 64, at + 3

    def _open(self, chunk_stream_id: int, fmt: int) -> _ChunkStream:
        if fmt >= 2:
            raise RtmpError(f"chunk stream {chunk_stream_id} begins without a message length")
        if len(self._streams) >= MAX_CHUNK_STREAMS:
            raise RtmpError(f"more than {MAX_CHUNK_STREAMS} chunk streams")
        stream = self._streams[chunk_stream_id] = _ChunkStream()
        return stream

    def _begin(self, stream: _ChunkStream, fmt: int, at: int, time: int, extended: bool, length: int) -> None:
        buffer = self._buffer
        if fmt == 0:
            stream.message_stream = int.from_bytes(buffer[at + 7 : at + 11], "little")
            stream.timestamp = 0
        if fmt < 2:
            stream.type = buffer[at + 6]
            stream.length = length
        if fmt < 3:
            stream.extended = extended
            stream.delta = time
        # A type 3 chunk that begins a message repeats the last time field, even an absolute one (5.3.1.2.4).
        stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
        stream.missing = stream.length

    def _append(self, stream: _ChunkStream, part: bytes, messages: list[Message]) -> None:
        stream.parts.append(part)
        stream.missing -= len(part)
        if stream.missing:
            self._held += len(part)
            if self._held > MAX_MESSAGE:
                raise RtmpError("too much data in messages that are not complete")
            return
        payload = part if len(stream.parts) == 1 else b"".join(stream.parts)
        self._held -= len(payload) - len(part)
        stream.parts.clear()
        message = Message(stream.type, stream.timestamp, payload, stream.message_stream)
        if message.type == MessageType.SET_CHUNK_SIZE:
            self._set_chunk_size(message.payload)
        elif message.type == MessageType.ABORT:
            self._abort(message.payload)
        else:
            messages.append(message)

    def _set_chunk_size(self, payload: bytes) -> None:
        size = int.from_bytes(payload[:4], "big")
        if len(payload) < 4 or not 1 <= size <= MAX_CHUNK_SIZE:
            raise RtmpError(f"chunk size {size} is not allowed")
        self.chunk_size = min(size, MAX_MESSAGE)

    def _abort(self, payload: bytes) -> None:
        stream = self._streams.get(int.from_bytes(payload[:4], "big"))
        if stream is not None and stream.missing:
            self._held -= sum(map(len, stream.parts))
            stream.parts.clear()
            stream.missing = 0


def encode(message: Message, chunk_stream_id: int, chunk_size: int) -> bytes:
    """``message`` as chunks: a type 0 chunk, then type 3 chunks. ``chunk_stream_id`` is 2 to 63."""
    payload = message.payload
    length = len(payload)
    if length > MAX_MESSAGE:
        raise RtmpError(f"message of {length} bytes is too long")
    timestamp = message.timestamp & 0xFFFFFFFF
    extended = timestamp.to_bytes(4, "big") if timestamp >= _EXTENDED else b""
    head = (
        bytes((chunk_stream_id,))
        + min(timestamp, _EXTENDED).to_bytes(3, "big")
        + length.to_bytes(3, "big")
        + bytes((message.type,))
        + message.stream_id.to_bytes(4, "little")
        + extended
    )
    if length <= chunk_size:
        return head + payload
    next_head = bytes((0xC0 | chunk_stream_id,)) + extended
    parts = [head, payload[:chunk_size]]
    for at in range(chunk_size, length, chunk_size):
        parts += (next_head, payload[at : at + chunk_size])
    return b"".join(parts)

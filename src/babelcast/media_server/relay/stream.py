"""One published stream and the queues of its readers. Pure: no sockets, no clock.

A message is encoded once, into a :class:`Packet`; readers share its bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from babelcast.errors import RtmpError
from babelcast.media_server.relay.tracks import Track, track_of
from babelcast.rtmp import amf0
from babelcast.rtmp.flv import Tag, inspect_audio, inspect_video
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import encode_media, is_metadata, reader_metadata

VIDEO_GONE_MS = 5_000
"""A stream without a picture for this long is treated as sound only: its readers don't wait for a key frame."""
_MAX_HEADERS = 32
_MAX_HEADER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """A message, encoded. ``key`` is a picture to start with; ``header`` is what a late reader needs first."""

    message: Message
    data: bytes
    key: bool
    header: bool


class _State(Enum):
    STARTING = "starting"  # no key frame yet
    RUNNING = "running"
    SKIPPING = "skipping"  # overflowed; waits for a key frame


@dataclass(slots=True)
class ReaderQueue:
    """What one reader has yet to get. Full policy: *drop all, skip to the next key frame, count*.

    Headers are never lost by a skip: those in force are sent again before the key frame. A stream without
    pictures needs no key frame.
    """

    max_bytes: int
    max_messages: int
    bytes_queued: int = 0
    dropped: int = 0
    skips: int = 0
    _state: _State = _State.STARTING
    _packets: deque[Packet] = field(default_factory=deque)

    def fill(self, packets: Iterable[Packet], *, started: bool) -> None:
        """Queue what a late reader begins with; ``started`` when a key frame is among it."""
        for packet in packets:
            self._append(packet)
        if started:
            self._state = _State.RUNNING

    def push(self, packet: Packet, stream: Stream) -> None:
        """Queue ``packet`` of ``stream``, or drop it."""
        if self._state is _State.STARTING:
            if packet.key:
                self._state = _State.RUNNING
            elif stream.has_video and not packet.header:
                return
        elif self._state is _State.SKIPPING:
            if stream.has_video and not packet.key:
                self.dropped += 1
                return
            self._state = _State.RUNNING
            for header in stream.headers:
                self._append(header)
        if self.bytes_queued + len(packet.data) > self.max_bytes or len(self._packets) >= self.max_messages:
            self._skip()
        else:
            self._append(packet)

    def take(self, limit: int) -> bytes:
        """The next packets, joined: at least one where there is one, and no more than about ``limit`` bytes."""
        parts: list[bytes] = []
        size = 0
        while self._packets and size < limit:
            data = self._packets.popleft().data
            parts.append(data)
            size += len(data)
        self.bytes_queued -= size
        return b"".join(parts)

    def _append(self, packet: Packet) -> None:
        self._packets.append(packet)
        self.bytes_queued += len(packet.data)

    def _skip(self) -> None:
        self.dropped += len(self._packets) + 1
        self.skips += 1
        self._packets.clear()
        self.bytes_queued = 0
        self._state = _State.SKIPPING


class Stream:
    """The state of a publisher's stream: headers, tracks, the latest group of pictures and the one before it."""

    def __init__(self, gop_bytes: int, gop_messages: int) -> None:
        self._max_gop_bytes = gop_bytes
        self._max_gop_messages = gop_messages
        self._headers: dict[tuple[int, int], Packet] = {}
        self._gop: list[Packet] = []
        self._gop_headers: tuple[Packet, ...] = ()
        self._previous: list[Packet] = []
        self._previous_headers: tuple[Packet, ...] = ()
        self._gop_size = 0
        self._last_ms = 0
        self._last_video_ms: int | None = None
        self._metadata: Mapping[str, amf0.Value] = {}
        self._tracks: dict[tuple[int, int], Track] = {}
        self.bytes_in = 0
        self.started = False
        """Whether audio or video has come."""

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Video first, as MediaMTX lists them."""
        return tuple(self._tracks[place] for place in sorted(self._tracks, key=lambda place: (-place[0], place[1])))

    @property
    def tracks_complete(self) -> bool:
        """Whether all tracks are known that the metadata promises (both kinds, where it promises nothing)."""
        kinds = {kind for kind, _ in self._tracks}
        wanted = {MessageType.VIDEO: "videocodecid", MessageType.AUDIO: "audiocodecid"}
        promised = {kind for kind, name in wanted.items() if self._metadata.get(name)}
        return bool(kinds) and kinds >= (promised or set(wanted))

    @property
    def has_video(self) -> bool:
        if self._last_video_ms is None:
            return False
        since = (self._last_ms - self._last_video_ms) & 0xFFFFFFFF
        return since < VIDEO_GONE_MS or since > 0x80000000  # sound may be a little older than the latest picture

    @property
    def headers(self) -> tuple[Packet, ...]:
        """Metadata and codec headers in force, at the time of the latest message."""
        return tuple(_at(packet, self._last_ms) for packet in self._headers_in_order())

    def add(self, message: Message) -> Packet | None:
        """Take the publisher's next message; the packet that readers get, or None when it is empty."""
        self.bytes_in += len(message.payload)
        if not message.payload:
            return None
        if message.type == MessageType.DATA:
            return self._add_data(message._replace(payload=reader_metadata(message.payload)))
        tag = inspect_video(message.payload) if message.type == MessageType.VIDEO else inspect_audio(message.payload)
        self.started = True
        self._last_ms = message.timestamp
        packet = Packet(message, encode_media(message), tag.key, tag.header)
        self._note_track(message, tag)
        if tag.header:
            self._keep_header((message.type, tag.slot), packet)
        elif message.type == MessageType.VIDEO:
            self._last_video_ms = message.timestamp
        self._cache(packet)
        return packet

    def start_packets(self, *, longer: bool = False) -> tuple[list[Packet], bool]:
        """What a late reader begins with, and whether a key frame is among it. ``longer``: from the group of pictures
        before the latest one on, where it was kept."""
        if self._gop and longer and self._previous:
            start = self._previous[0].message.timestamp
            headers = (_at(packet, start) for packet in self._previous_headers)
            return [*headers, *self._previous, *self._gop], True
        if self._gop:
            start = self._gop[0].message.timestamp
            return [*(_at(packet, start) for packet in self._gop_headers), *self._gop], True
        return list(self.headers), False

    def _add_data(self, message: Message) -> Packet:
        header = is_metadata(message.payload)
        if header:  # ffmpeg takes metadata with another time than 0 for a subtitle track
            message = message._replace(timestamp=0)
        packet = Packet(message, encode_media(message), key=False, header=header)
        if header:
            self._keep_header((MessageType.DATA, 0), packet)
            self._read_metadata(message.payload)
        self._cache(packet)
        return packet

    def _headers_in_order(self) -> tuple[Packet, ...]:
        """Metadata, then video, then audio."""
        return tuple(self._headers[slot] for slot in sorted(self._headers, reverse=True))

    def _keep_header(self, slot: tuple[int, int], packet: Packet) -> None:
        """Keep for late readers. What is too large or too many for codec headers passes, but is not kept."""
        if len(packet.data) <= _MAX_HEADER_BYTES and (slot in self._headers or len(self._headers) < _MAX_HEADERS):
            self._headers[slot] = packet

    def _read_metadata(self, payload: bytes) -> None:
        try:
            values = amf0.decode(payload)
        except RtmpError:  # odd metadata is passed on; here it is only a hint
            return
        if len(values) > 1 and isinstance(values[1], Mapping):
            self._metadata = values[1]

    def _note_track(self, message: Message, tag: Tag) -> None:
        place = (message.type, tag.slot % 1000)
        if place not in self._tracks and len(self._tracks) >= _MAX_HEADERS:
            return
        if tag.codec and (tag.config_at is not None or place not in self._tracks):
            self._tracks[place] = track_of(tag, message.payload, self._metadata)

    def _cache(self, packet: Packet) -> None:
        if packet.key:
            self._previous, self._previous_headers = self._gop, self._gop_headers
            self._gop_headers = self._headers_in_order()
            self._gop = [packet]
            self._gop_size = len(packet.data)
        elif self._gop:
            self._gop.append(packet)
            self._gop_size += len(packet.data)
            if self._gop_size > self._max_gop_bytes or len(self._gop) > self._max_gop_messages:
                self._gop = []  # late readers wait for the next key frame


def _at(packet: Packet, timestamp: int) -> Packet:
    """A codec header as if sent at ``timestamp``: readers that see a jump from 0 resynchronise."""
    if packet.message.type == MessageType.DATA:
        return packet
    message = packet.message._replace(timestamp=timestamp)
    return Packet(message, encode_media(message), packet.key, packet.header)

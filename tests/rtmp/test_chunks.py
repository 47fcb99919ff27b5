from __future__ import annotations

import random

import pytest

from babelcast.errors import RtmpError
from babelcast.rtmp import chunks
from babelcast.rtmp.chunks import ChunkReader, encode
from babelcast.rtmp.message import MAX_MESSAGE, Message, MessageType

pytestmark = pytest.mark.unit


def header(fmt: int, csid: int, time: int = 0, length: int = 0, kind: int = 9, stream: int = 1) -> bytes:
    """A chunk header, cut to what ``fmt`` carries; the extended time is not written."""
    full = time.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes((kind,)) + stream.to_bytes(4, "little")
    return bytes((fmt << 6 | csid,)) + full[: (11, 7, 3, 0)[fmt]]


def read(data: bytes, piece: int | None = None) -> list[Message]:
    reader = ChunkReader()
    piece = piece or len(data) or 1
    return [message for at in range(0, len(data), piece) for message in reader.feed(data[at : at + piece])]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 256, 1000])
@pytest.mark.parametrize("timestamp", [0, 40, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0xFFFFFFFF])
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_messages_survive_a_round_trip_however_the_bytes_are_cut(length: int, timestamp: int, piece: int) -> None:
    messages = [
        Message(MessageType.VIDEO, timestamp, bytes(i % 251 for i in range(length)), 1),
        Message(MessageType.AUDIO, timestamp, b"sound", 1),
    ]
    data = b"".join(encode(message, 4 + index, 128) for index, message in enumerate(messages))
    assert read(data, piece) == messages


def test_set_chunk_size_holds_from_the_next_chunk() -> None:
    message = Message(9, 0, bytes(5000), 1)
    resize = encode(Message(MessageType.SET_CHUNK_SIZE, 0, (4096).to_bytes(4, "big")), 2, 128)
    assert read(encode(message, 6, 128) + resize + encode(message, 6, 4096)) == [message, message]


def test_all_header_types_carry_time_on() -> None:
    data = (
        header(0, 6, 1000, 3) + b"abc"
        + header(1, 6, 40, 2) + b"de"
        + header(2, 6, 20) + b"fg"
        + header(3, 6) + b"hi"
    )  # fmt: skip
    assert [(m.timestamp, m.payload) for m in read(data)] == [
        (1000, b"abc"),
        (1040, b"de"),
        (1060, b"fg"),
        (1080, b"hi"),
    ]


def test_type_3_after_type_0_takes_its_time_as_the_delta() -> None:
    assert [m.timestamp for m in read(header(0, 6, 500, 1) + b"a" + header(3, 6) + b"b")] == [500, 1000]


def test_time_wraps_at_32_bits() -> None:
    data = header(0, 6, 0xFFFFFF, 1) + (0xFFFFFFF0).to_bytes(4, "big") + b"a" + header(1, 6, 0x20, 1) + b"b"
    assert [m.timestamp for m in read(data)] == [0xFFFFFFF0, 0x10]


def test_extended_delta() -> None:
    data = header(0, 6, 5, 1) + b"a" + header(1, 6, 0xFFFFFF, 1) + (0x1000000).to_bytes(4, "big") + b"b"
    assert [m.timestamp for m in read(data)] == [5, 0x1000005]


def test_continuation_chunks_with_and_without_the_extended_time() -> None:
    time = 0x1234567
    payload = bytes(range(200))
    first = header(0, 6, 0xFFFFFF, 200) + time.to_bytes(4, "big") + payload[:128]
    with_time = first + header(3, 6) + time.to_bytes(4, "big") + payload[128:]
    without = first + header(3, 6) + payload[128:]
    for data in (with_time, without):
        assert [(m.timestamp, m.payload) for m in read(data, 11)] == [(time, payload)]


def test_interleaved_chunk_streams() -> None:
    video, audio = bytes(range(200)), b"A" * 150
    data = (
        header(0, 6, 10, 200) + video[:128] + header(0, 4, 11, 150, 8) + audio[:128]
        + header(3, 6) + video[128:] + header(3, 4) + audio[128:]
    )  # fmt: skip
    assert [(m.type, m.payload) for m in read(data)] == [(9, video), (8, audio)]


@pytest.mark.parametrize("csid", [2, 63, 64, 319, 320, 65_599])
def test_long_chunk_stream_ids(csid: int) -> None:
    basic = (
        bytes((csid,))
        if csid < 64
        else bytes((0, csid - 64))
        if csid < 320
        else bytes((1, (csid - 64) & 255, (csid - 64) >> 8))
    )
    assert [m.payload for m in read(basic + header(0, 0, 0, 1)[1:] + b"x", 1)] == [b"x"]


def test_abort_drops_what_is_under_way() -> None:
    abort = encode(Message(MessageType.ABORT, 0, (6).to_bytes(4, "big")), 2, 128)
    data = header(0, 6, 0, 200) + bytes(128) + abort + header(0, 6, 7, 1) + b"x"
    assert [(m.timestamp, m.payload) for m in read(data)] == [(7, b"x")]


@pytest.mark.parametrize(
    "data",
    [
        header(2, 6) + b"x",
        header(3, 6) + b"x",
        header(0, 6, 0, 200) + bytes(128) + header(0, 6, 0, 1),
        encode(Message(MessageType.SET_CHUNK_SIZE, 0, bytes(4)), 2, 128),
        encode(Message(MessageType.SET_CHUNK_SIZE, 0, b"\xff\xff\xff\xff"), 2, 128),
        encode(Message(MessageType.SET_CHUNK_SIZE, 0, b"\x01"), 2, 128),
        b"".join(header(0, csid, 0, 1) + b"x" for csid in range(2, 60))
        + b"".join(bytes((0, extra)) + header(0, 0, 0, 1)[1:] + b"x" for extra in range(20)),
    ],
)
def test_broken_chunks_are_rtmp_errors(data: bytes) -> None:
    with pytest.raises(RtmpError):
        read(data)


def test_messages_under_way_are_bounded_over_all_chunk_streams() -> None:
    reader = ChunkReader()
    size = 4 * 1024 * 1024
    reader.feed(encode(Message(MessageType.SET_CHUNK_SIZE, 0, size.to_bytes(4, "big")), 2, 128))
    chunk = bytes(size)
    with pytest.raises(RtmpError, match="not complete"):
        for csid in range(3, 9):
            reader.feed(header(0, csid, 0, MAX_MESSAGE) + chunk)


def test_what_is_too_long_is_not_encoded() -> None:
    with pytest.raises(RtmpError, match="too long"):
        encode(Message(9, 0, bytes(MAX_MESSAGE + 1), 1), 6, 65_536)


def test_random_bytes_raise_nothing_but_rtmp_error() -> None:
    source = random.Random(2)
    valid = b"".join(encode(Message(9, i * 40, source.randbytes(300), 1), 4 + i % 3, 128) for i in range(5))
    survived = 0
    for _ in range(1_500):
        data = bytearray(valid if source.random() < 0.6 else source.randbytes(400))
        for _ in range(source.randrange(4)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            read(bytes(data), source.choice((1, 13, 400)))
            survived += 1
        except RtmpError:
            pass
    assert 0 < survived < 1_500
    assert chunks.MAX_CHUNK_STREAMS <= 64

from __future__ import annotations

import pytest

from babelcast.media_server.relay.stream import Packet, ReaderQueue, Stream
from babelcast.rtmp import amf0
from babelcast.rtmp.chunks import ChunkReader, encode
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import CHUNK_SIZE
from tests.media_server.relay.peers import AAC, AVC, HEADERS, METADATA, inter_frame, key_frame, plain, sound

pytestmark = pytest.mark.unit


def decoded(data: bytes) -> list[tuple[int, int, bytes]]:
    reader = ChunkReader()
    reader.feed(encode(Message(MessageType.SET_CHUNK_SIZE, 0, CHUNK_SIZE.to_bytes(4, "big")), 2, 128))
    return plain(reader.feed(data))


def contents(packets: list[Packet]) -> list[tuple[int, int, bytes]]:
    return plain([packet.message for packet in packets])


def new_stream(*messages: Message, gop_bytes: int = 10_000, gop_messages: int = 100) -> Stream:
    stream = Stream(gop_bytes, gop_messages)
    for message in messages:
        stream.add(message)
    return stream


def test_late_reader_starts_with_headers_and_the_latest_group_of_pictures() -> None:
    group = [key_frame(2000), sound(2010), inter_frame(2040)]
    stream = new_stream(*HEADERS, key_frame(0), inter_frame(40), *group)
    packets, started = stream.start_packets()
    assert started
    headers = [METADATA, AVC._replace(timestamp=2000), AAC._replace(timestamp=2000)]
    assert contents(packets) == plain([*headers, *group])


def test_who_asks_for_more_begins_a_group_earlier() -> None:
    before, group = [key_frame(1000), inter_frame(1040)], [key_frame(2000), sound(2010)]
    stream = new_stream(*HEADERS, key_frame(0), *before, *group)
    packets, started = stream.start_packets(longer=True)
    assert started
    headers = [METADATA, AVC._replace(timestamp=1000), AAC._replace(timestamp=1000)]
    assert contents(packets) == plain([*headers, *before, *group])
    assert new_stream(*HEADERS, *group).start_packets(longer=True)[0], "where there is no other, the latest"


def test_headers_that_change_within_a_group_are_given_in_their_order() -> None:
    changed = AAC._replace(timestamp=2020, payload=b"\xaf\x00\x12\x10")
    stream = new_stream(*HEADERS, key_frame(2000), changed, sound(2030))
    packets, _ = stream.start_packets()
    assert contents(packets)[2] == plain([AAC._replace(timestamp=2000)])[0]
    assert contents(packets)[4:] == plain([changed, sound(2030)])
    assert contents(list(stream.headers))[2] == plain([changed._replace(timestamp=2030)])[0]


@pytest.mark.parametrize("limits", [{"gop_bytes": 300}, {"gop_messages": 3}])
def test_group_that_passes_its_bound_is_not_kept(limits: dict[str, int]) -> None:
    stream = new_stream(*HEADERS, key_frame(0), *(inter_frame(40 * n) for n in range(1, 5)), **limits)
    packets, started = stream.start_packets()
    assert not started
    assert len(packets) == len(HEADERS)
    stream.add(key_frame(400))
    assert stream.start_packets()[1]


def test_tracks_with_the_names_and_properties_of_mediamtx() -> None:
    video, audio = new_stream(*HEADERS).tracks
    assert (video.codec, video.props) == ("H264", {"width": 64, "height": 48, "profile": "High", "level": "3.1"})
    assert (audio.codec, audio.props) == ("MPEG-4 Audio", {"sampleRate": 48000, "channelCount": 2})


@pytest.mark.parametrize(
    ("kind", "payload", "codec"),
    [
        (MessageType.VIDEO, b"\x90hvc1" + bytes(20), "H265"),
        (MessageType.VIDEO, b"\x90av01\x81\x05\x0c\x00", "AV1"),
        (MessageType.AUDIO, b"\x90OpusOpusHead\x01\x02" + bytes(9), "Opus"),
        (MessageType.AUDIO, b"\x2f\xff\xfb", "MPEG-1/2 Audio"),
    ],
)
def test_tracks_of_enhanced_and_older_codecs(kind: MessageType, payload: bytes, codec: str) -> None:
    assert [track.codec for track in new_stream(Message(kind, 0, payload)).tracks] == [codec]


def test_tracks_are_complete_when_all_that_the_metadata_promises_is_there() -> None:
    assert not new_stream(METADATA, AVC).tracks_complete
    assert new_stream(METADATA, AVC, AAC).tracks_complete
    only_video = Message(MessageType.DATA, 0, amf0.encode("@setDataFrame", "onMetaData", {"videocodecid": 7.0}))
    assert new_stream(only_video, AVC).tracks_complete
    assert not new_stream(AVC).tracks_complete
    assert not new_stream().tracks_complete


def test_metadata_reaches_readers_without_set_data_frame_and_at_time_0() -> None:
    sent = Message(MessageType.DATA, 500, amf0.encode("@setDataFrame") + METADATA.payload)
    packet = new_stream().add(sent)
    assert packet is not None
    assert decoded(packet.data) == plain([METADATA])


def test_odd_metadata_is_passed_on() -> None:
    stream = new_stream()
    odd = Message(MessageType.DATA, 0, amf0.encode("onMetaData") + b"\xff\xff")
    packet = stream.add(odd)
    assert packet is not None
    assert decoded(packet.data) == plain([odd])


def test_headers_are_bounded_in_number_and_size() -> None:
    stream = new_stream(*(Message(MessageType.VIDEO, 0, b"\x96\x00hvc1" + bytes((n, 0))) for n in range(256)))
    assert len(stream.headers) == 32
    assert new_stream(Message(MessageType.VIDEO, 0, b"\x17\x00" + bytes(300_000))).headers == ()


def run(queue: ReaderQueue, stream: Stream, *messages: Message) -> None:
    for message in messages:
        packet = stream.add(message)
        assert packet is not None
        queue.push(packet, stream)


def test_slow_reader_skips_to_the_next_key_frame_with_the_headers_in_force() -> None:
    stream = new_stream()
    queue = ReaderQueue(max_bytes=10_000, max_messages=6)
    new_aac = AAC._replace(timestamp=120, payload=b"\xaf\x00\x12\x10")
    run(queue, stream, *HEADERS, key_frame(0), inter_frame(40), sound(50))
    run(queue, stream, inter_frame(80))  # one too many
    assert (queue.dropped, queue.skips, queue.bytes_queued) == (7, 1, 0)
    run(queue, stream, sound(90), new_aac, inter_frame(160))
    assert (queue.dropped, queue.skips) == (10, 1)
    assert queue.take(10_000) == b""
    run(queue, stream, key_frame(200), sound(210))
    expected = [METADATA, AVC._replace(timestamp=200), new_aac._replace(timestamp=200), key_frame(200), sound(210)]
    assert decoded(queue.take(10_000)) == plain(expected)
    assert (queue.dropped, queue.skips, queue.bytes_queued) == (10, 1, 0)


def test_queue_is_bounded_in_bytes() -> None:
    stream = new_stream()
    queue = ReaderQueue(max_bytes=1_000, max_messages=1_000)
    for n in range(100):
        run(queue, stream, key_frame(40 * n, size=150))
        assert queue.bytes_queued <= 1_000
    assert queue.skips > 10


def test_sound_only_stream_needs_no_key_frame_after_a_skip() -> None:
    stream = new_stream()
    queue = ReaderQueue(max_bytes=10_000, max_messages=3)
    run(queue, stream, AAC, sound(0), sound(20), sound(40), sound(60))
    assert (queue.dropped, queue.skips) == (4, 1)
    assert decoded(queue.take(10_000)) == plain([AAC._replace(timestamp=60), sound(60)])


def test_reader_without_a_group_waits_for_the_key_frame() -> None:
    stream = new_stream(*HEADERS, inter_frame(0))
    queue = ReaderQueue(max_bytes=10_000, max_messages=100)
    packets, started = stream.start_packets()
    queue.fill(packets, started=started)
    queue.take(10_000)
    run(queue, stream, inter_frame(40), sound(50), key_frame(80), sound(90))
    assert decoded(queue.take(10_000)) == plain([key_frame(80), sound(90)])
    assert queue.dropped == 0


def test_reader_of_a_stream_whose_pictures_have_stopped_hears_the_sound() -> None:
    stream = new_stream(*HEADERS, key_frame(0), *(sound(20 * n) for n in range(400)))
    assert not stream.has_video
    queue = ReaderQueue(max_bytes=10_000, max_messages=100)
    queue.fill([], started=False)
    run(queue, stream, sound(8_000))
    assert decoded(queue.take(10_000)) == plain([sound(8_000)])


def test_take_is_limited_but_gives_at_least_one() -> None:
    stream = new_stream()
    queue = ReaderQueue(max_bytes=10_000, max_messages=100)
    run(queue, stream, key_frame(0, 500), inter_frame(40, 500), inter_frame(80, 500))
    assert len(decoded(queue.take(1))) == 1
    assert len(decoded(queue.take(600))) == 2
    assert queue.bytes_queued == 0


def test_sound_that_is_a_little_older_than_the_picture_does_not_end_a_skip() -> None:
    stream = new_stream()
    queue = ReaderQueue(max_bytes=10_000, max_messages=2)
    run(queue, stream, AVC, key_frame(0), inter_frame(40))
    run(queue, stream, inter_frame(80), sound(70))
    assert stream.has_video
    assert queue.take(10_000) == b""

from __future__ import annotations

import random

import pytest

from babelcast.errors import RtmpError
from babelcast.rtmp import amf0, chunks
from babelcast.rtmp.chunks import ChunkReader
from babelcast.rtmp.client_protocol import ClientProtocol
from babelcast.rtmp.handshake import Handshake
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import (
    WINDOW,
    Connected,
    Event,
    PlayRequested,
    PublishRequested,
    ServerProtocol,
    Started,
    StreamClosed,
    publisher_metadata,
    reader_metadata,
)
from babelcast.rtmp.url import parse_url

pytestmark = pytest.mark.unit


class Pair:
    """A client and a server, wired back to back; ``cut`` bytes at a time."""

    def __init__(self, url: str = "rtmp://h/live/x/in?user=u", cut: int | None = None) -> None:
        self.client = ClientProtocol(parse_url(url))
        self.server = ServerProtocol()
        self.cut = cut

    def exchange(self) -> tuple[list[Event], list[Event]]:
        """Pass bytes until both are silent; what the client and the server saw."""
        seen_by_client: list[Event] = []
        seen_by_server: list[Event] = []
        while True:
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if not up and not down:
                return seen_by_client, seen_by_server
            for part in self._parts(up):
                seen_by_server += self.server.receive(part)
            for part in self._parts(down):
                seen_by_client += self.client.receive(part)

    def _parts(self, data: bytes) -> list[bytes]:
        size = self.cut or max(len(data), 1)
        return [data[at : at + size] for at in range(0, len(data), size)]

    def publishing(self) -> Pair:
        self.exchange()
        self.client.publish()
        self.exchange()
        self.server.accept_publish()
        assert self.exchange()[0] == [Started()]
        return self

    def playing(self) -> Pair:
        self.exchange()
        self.client.play()
        self.exchange()
        self.server.accept_play()
        assert self.exchange()[0] == [Started()]
        return self


@pytest.mark.parametrize("cut", [None, 1, 1000])
def test_publish_from_handshake_to_goodbye(cut: int | None) -> None:
    pair = Pair(cut=cut)
    assert pair.exchange() == ([Connected()], [])
    pair.client.publish()
    assert pair.exchange() == ([], [PublishRequested("live/x/in", "user=u")])
    pair.server.accept_publish()
    assert pair.exchange() == ([Started()], [])
    sent = [
        Message(9, 0, b"\x17\x00v", 1),
        Message(8, 20, b"\xaf\x01" + bytes(100_000), 1),
        Message(18, 20, b"\x02", 1),
    ]
    for message in sent:
        pair.client.send_media(message)
    assert pair.exchange() == ([], sent)
    pair.client.end()
    assert pair.exchange()[1] == [StreamClosed()]


def test_play_and_its_end() -> None:
    pair = Pair("rtmp://h/live/x/out")
    pair.exchange()
    pair.client.play()
    assert pair.exchange()[1] == [PlayRequested("live/x/out", "")]
    pair.server.accept_play()
    assert pair.exchange()[0] == [Started()]
    message = Message(9, 0x1000001, bytes(200_000), 1)
    pair.server.send_media(message)
    pair.server.end_play()
    seen, _ = pair.exchange()
    assert seen[0] == message
    assert StreamClosed() in seen


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("NetStream.Publish.BadName", True),
        ("NetStream.Publish.Unauthorized", False),
        ("NetStream.Publish.Denied", False),
    ],
)
def test_refusal_has_a_code_and_says_whether_to_retry(code: str, retryable: bool) -> None:
    pair = Pair()
    pair.exchange()
    pair.client.publish()
    pair.exchange()
    pair.server.reject(code, "no")
    with pytest.raises(RtmpError, match="no") as caught:
        pair.exchange()
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


def test_connect_refused() -> None:
    client = ClientProtocol(parse_url("rtmp://h/app/key"))
    server = Handshake(server=True)
    client.receive(server.feed(client.data_to_send()))
    answer = amf0.encode("_error", 1, None, {"level": "error", "code": "NetConnection.Connect.InvalidApp"})
    with pytest.raises(RtmpError) as caught:
        client.receive(chunks.encode(Message(MessageType.COMMAND, 0, answer), 3, 128))
    assert caught.value.code == "NetConnection.Connect.InvalidApp"
    assert not caught.value.retryable


def test_ping_is_answered() -> None:
    pair = Pair().publishing()
    pair.server._control(MessageType.USER_CONTROL, b"\x00\x06\x01\x02\x03\x04")
    pair.client.receive(pair.server.data_to_send())
    (pong,) = ChunkReader().feed(pair.client.data_to_send())
    assert (pong.type, pong.payload) == (MessageType.USER_CONTROL, b"\x00\x07\x01\x02\x03\x04")


def test_received_bytes_are_acknowledged() -> None:
    pair = Pair().publishing()
    message = Message(9, 0, bytes(WINDOW // 2), 1)
    for _ in range(3):
        pair.client.send_media(message)
    received = len(pair.client.data_to_send())
    pair = Pair().publishing()
    for _ in range(3):
        pair.client.send_media(message)
    pair.server.receive(pair.client.data_to_send())
    (ack,) = ChunkReader().feed(pair.server.data_to_send())
    assert ack.type == MessageType.ACKNOWLEDGEMENT
    assert int.from_bytes(ack.payload, "big") == pair.server.bytes_received > received


def client_says(*messages: Message) -> ServerProtocol:
    """A server that has shaken hands and heard ``messages``."""
    server = ServerProtocol()
    client = Handshake(server=False)
    server.receive(client.first)
    server.receive(bytes(1536))
    server.data_to_send()
    for message in messages:
        server.receive(chunks.encode(message, 3, 128))
    return server


def command(*values: amf0.Value) -> Message:
    return Message(MessageType.COMMAND, 0, amf0.encode(*values))


def test_enhanced_capabilities_are_echoed() -> None:
    options: amf0.Value = {
        "app": "live",
        "fourCcList": ["hvc1", "av01"],
        "videoFourCcInfoMap": {"hvc1": 7.0},
        "capsEx": 3.0,
    }
    server = client_says(command("connect", 1, options))
    reader = ChunkReader()
    replies = reader.feed(server.data_to_send())
    (result,) = [amf0.decode(reply.payload) for reply in replies if reply.type == MessageType.COMMAND]
    assert result[:2] == ["_result", 1.0]
    properties = result[2]
    assert isinstance(properties, dict)
    assert properties["fourCcList"] == ["hvc1", "av01"]
    assert properties["videoFourCcInfoMap"] == {"hvc1": 4.0}
    assert properties["capsEx"] == 2.0


def test_amf3_commands_and_data_are_understood() -> None:
    connect = Message(MessageType.COMMAND_AMF3, 0, b"\0" + amf0.encode("connect", 1, {"app": "live/x"}))
    server = client_says(connect)
    publish = Message(MessageType.COMMAND_AMF3, 0, b"\0" + amf0.encode("publish", 2, None, "in", "live"))
    assert server.receive(chunks.encode(publish, 3, 128)) == [PublishRequested("live/x/in", "")]
    server.accept_publish()
    data = Message(MessageType.DATA_AMF3, 5, b"\0" + amf0.encode("onMetaData"), 1)
    assert server.receive(chunks.encode(data, 4, 128)) == [Message(MessageType.DATA, 5, amf0.encode("onMetaData"), 1)]


def test_aggregate_is_split_on_the_time_of_the_message() -> None:
    def tag(kind: int, time: int, body: bytes) -> bytes:
        head = bytes((kind,)) + len(body).to_bytes(3, "big") + time.to_bytes(3, "big") + bytes(4)
        return head + body + (11 + len(body)).to_bytes(4, "big")

    pair = Pair().publishing()
    payload = tag(9, 100, b"video") + tag(8, 120, b"audio")
    seen = pair.server.receive(chunks.encode(Message(MessageType.AGGREGATE, 5000, payload, 1), 6, 65_536))
    assert seen == [Message(9, 5000, b"video", 1), Message(8, 5020, b"audio", 1)]
    with pytest.raises(RtmpError, match="aggregate"):
        pair.server.receive(chunks.encode(Message(MessageType.AGGREGATE, 0, payload[:-6], 1), 6, 65_536))


@pytest.mark.parametrize(
    "message",
    [
        command("createStream", 1),
        command("publish", 1, None, "x"),
        Message(MessageType.VIDEO, 0, b"\x17\x01", 1),
        command("connect", 1),
        command("connect", 1, None),
        command(5.0),
        Message(MessageType.COMMAND, 0, b"\xff"),
    ],
)
def test_what_must_not_come_before_connect(message: Message) -> None:
    with pytest.raises(RtmpError):
        client_says(message)


def test_one_stream_at_a_time() -> None:
    pair = Pair().publishing()
    with pytest.raises(RtmpError, match="second"):
        pair.server.receive(chunks.encode(command("play", 9, None, "y"), 3, 65_536))


def test_media_of_a_player_is_dropped() -> None:
    pair = Pair().playing()
    pair.client.send_media(Message(9, 0, b"\x17\x01x", 1))
    assert pair.exchange() == ([], [])


def test_unknown_commands_and_pause_are_tolerated() -> None:
    pair = Pair().playing()
    for name in ("pause", "getStreamLength", "_checkbw", "FCSubscribe"):
        assert pair.server.receive(chunks.encode(command(name, 7, None, True), 3, 65_536)) == []


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00", b"\x06", b"\x00" * 2000])
def test_garbage_handshake(first: bytes) -> None:
    with pytest.raises(RtmpError, match="handshake"):
        ServerProtocol().receive(first)
    with pytest.raises(RtmpError, match="handshake"):
        ClientProtocol(parse_url("rtmp://h/a/b")).receive(first)


def test_metadata_is_wrapped_for_servers_and_unwrapped_for_readers() -> None:
    plain = amf0.encode("onMetaData", {"width": 1.0})
    wrapped = amf0.encode("@setDataFrame", "onMetaData", {"width": 1.0})
    assert publisher_metadata(plain) == wrapped
    assert publisher_metadata(wrapped) == wrapped
    assert reader_metadata(wrapped) == plain
    assert reader_metadata(plain) == plain


def test_random_bytes_raise_nothing_but_rtmp_error() -> None:
    source = random.Random(4)
    pair = Pair()
    pair.exchange()
    pair.client.publish()
    valid = pair.client.data_to_send() + chunks.encode(command("publish", 5, None, "in", "live"), 3, 65_536)
    for _ in range(600):
        server = client_says(command("connect", 1, {"app": "live"}))
        data = bytearray(valid if source.random() < 0.7 else source.randbytes(300))
        for _ in range(1 + source.randrange(4)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            for event in server.receive(bytes(data)):
                if isinstance(event, PublishRequested):
                    server.accept_publish()
        except RtmpError:
            pass
        server.data_to_send()

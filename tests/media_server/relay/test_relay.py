"""The relay with peers made of our own client, and with peers that misbehave."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from babelcast.errors import MediaServerError, RtmpError
from babelcast.media_server.base import MediaServer
from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from babelcast.rtmp.chunks import encode
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType
from babelcast.rtmp.protocol import StreamClosed
from tests.fakes.elsewhere import from_elsewhere
from tests.media_server.relay.peers import (
    AAC,
    AVC,
    HEADERS,
    METADATA,
    Peer,
    closed_by_peer,
    inter_frame,
    key_frame,
    plain,
    settings,
    sound,
)

pytestmark = pytest.mark.integration

PATH = "live/show/in"


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(settings()) as running:
        yield running


@pytest.fixture
async def server(relay: Relay) -> AsyncIterator[MediaServer]:
    client = RelayClient(relay.api_url, relay.rtmp_url)
    yield client
    await client.aclose()


async def eventually(check: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.02)


async def until_online(server: MediaServer, path: str, online: bool = True) -> None:
    async with asyncio.timeout(10):
        while (await server.get_path(path) is not None) != online:
            await asyncio.sleep(0.02)


async def get_json(url: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as response:
        return response.status, await response.json()


async def metrics(relay: Relay) -> dict[str, float]:
    """Sums over all labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{relay.api_url}/metrics") as response:
        text = await response.text()
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = line.split("{")[0].split(" ")[0]
            sums[name] = sums.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return sums


async def send(client: RtmpClient, *messages: Message) -> None:
    for message in messages:
        await client.send(message)


@pytest.mark.parametrize(
    ("url_path", "key"), [("live/show/in", None), ("live", "show/in"), ("live/show", "in"), ("/live/show/in/", "")]
)
async def test_nested_path_however_application_and_key_are_split(
    relay: Relay, server: MediaServer, url_path: str, key: str | None
) -> None:
    async with RtmpClient.connect(f"{relay.rtmp_url}/{url_path}", key=key) as publisher:
        await publisher.publish()
        await send(publisher, *HEADERS)
        await until_online(server, PATH)


async def test_late_reader_gets_headers_then_the_key_frame_and_then_what_comes(relay: Relay) -> None:
    async with (
        RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher,
        Peer.open(f"{relay.rtmp_url}/{PATH}") as late,
    ):
        await publisher.publish()
        await send(publisher, *HEADERS, key_frame(0), inter_frame(40), key_frame(2000), sound(2010))
        await asyncio.sleep(0.1)
        await late.play()
        await send(publisher, inter_frame(2040), AAC._replace(timestamp=2050), sound(2060))
        while len(late.messages()) < 8:
            await late.step()
    assert plain([m._replace(timestamp=0) for m in late.messages()[:3]]) == plain(list(HEADERS))
    expected = [key_frame(2000), sound(2010), inter_frame(2040), AAC._replace(timestamp=2050), sound(2060)]
    assert plain(late.messages()[3:]) == plain(expected)


@pytest.mark.parametrize(
    ("frames", "tracks"),
    [
        ([AVC, key_frame(0), inter_frame(40)], ("H264",)),
        ([AAC, sound(0), sound(20)], ("MPEG-4 Audio",)),
        (
            [
                Message(MessageType.VIDEO, 0, b"\x90hvc1" + bytes(30)),
                Message(MessageType.AUDIO, 0, b"\x90OpusOpusHead\x01\x02" + bytes(9)),
                Message(MessageType.VIDEO, 0, b"\x91hvc1\0\0\0" + bytes(range(256)) * 400),
                Message(MessageType.AUDIO, 3, b"\x91Opus" + bytes(50)),
                Message(MessageType.VIDEO, 40, b"\xa3hvc1" + bytes(50)),
            ],
            ("H265", "Opus"),
        ),
        (
            [
                Message(MessageType.VIDEO, 0, b"\x90av01\x81\x05\x0c\x00"),
                Message(MessageType.VIDEO, 0, b"\x91av01" + bytes(500)),
            ],
            ("AV1",),
        ),
    ],
    ids=["video only", "audio only", "enhanced HEVC and Opus", "enhanced AV1"],
)
async def test_whatever_the_tracks_are_they_pass_untouched_and_are_named(
    relay: Relay, server: MediaServer, frames: list[Message], tracks: tuple[str, ...]
) -> None:
    async with Peer.open(f"{relay.rtmp_url}/{PATH}") as reader:
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
            await publisher.publish()
            await reader.play()
            await send(publisher, *frames)
            await until_online(server, PATH)
            info = await server.get_path(PATH)
            assert info is not None
            assert (info.tracks, info.readers, info.source_type) == (tracks, 1, "rtmpConn")
        assert plain(await reader.drain()) == plain(frames)


async def test_readers_are_told_and_closed_when_the_publisher_leaves(relay: Relay, server: MediaServer) -> None:
    async with Peer.open(f"{relay.rtmp_url}/{PATH}") as reader:
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
            await publisher.publish()
            await reader.play()
            await send(publisher, *HEADERS, key_frame(0))
        assert plain(await reader.drain()) == plain([*HEADERS, key_frame(0)])
        assert StreamClosed() in reader.seen
        assert await closed_by_peer(reader.reader)
    await until_online(server, PATH, online=False)


async def test_absent_path_is_refused(relay: Relay) -> None:
    async with RtmpClient.connect(f"{relay.rtmp_url}/live/none/in") as client:
        with pytest.raises(RtmpError) as caught:
            await client.play()
    assert caught.value.code == "NetStream.Play.StreamNotFound"
    assert caught.value.retryable


async def test_second_publisher_is_refused_and_the_first_goes_on(relay: Relay) -> None:
    async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as first, Peer.open(f"{relay.rtmp_url}/{PATH}") as reader:
        await first.publish()
        await reader.play()
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as second:
            with pytest.raises(RtmpError) as caught:
                await second.publish()
        assert caught.value.code == "NetStream.Publish.BadName"
        await send(first, *HEADERS, key_frame(0))
        while len(reader.messages()) < 4:
            await reader.step()


async def test_path_is_free_again_at_once_after_goodbye_and_after_a_broken_connection(relay: Relay) -> None:
    for _ in range(2):
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
            await publisher.publish()
    async with Peer.open(f"{relay.rtmp_url}/{PATH}") as broken:
        await broken.publish()
    await asyncio.sleep(0.1)
    async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
        await publisher.publish()


@pytest.mark.parametrize("name", ["live/../etc", "live/a b", "live//in", "live/" + "x" * 600])
async def test_path_names_that_are_not_allowed(relay: Relay, name: str) -> None:
    async with RtmpClient.connect(f"{relay.rtmp_url}/app", key=f"../{name}") as client:
        with pytest.raises(RtmpError) as caught:
            await client.publish()
    assert caught.value.code == "NetStream.Publish.BadName"


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(600), bytes(4000)])
async def test_garbage_is_closed_at_once_and_others_are_served(relay: Relay, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.rtmp_port)
    writer.write(garbage)
    assert await closed_by_peer(reader)
    writer.close()
    async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
        await publisher.publish()


@pytest.mark.parametrize("said", [b"", b"\x03", b"\x03" + bytes(1536), b"\x03" + bytes(3072)])
async def test_half_open_socket_is_closed(said: bytes) -> None:
    async with Relay(settings(timeout_s=0.5)) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.rtmp_port)
        writer.write(said)
        started = time.monotonic()
        assert await closed_by_peer(reader)
        assert time.monotonic() - started > 0.3
        writer.close()


async def test_publisher_that_falls_silent_is_reaped_and_its_readers_are_told() -> None:
    async with (
        Relay(settings(timeout_s=0.6)) as relay,
        Peer.open(f"{relay.rtmp_url}/{PATH}") as silent,
        Peer.open(f"{relay.rtmp_url}/{PATH}") as reader,
    ):
        await silent.publish()
        await reader.play()
        assert StreamClosed() in (await reader.drain(), reader.seen)[1]
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
            await publisher.publish()


async def test_quiet_reader_of_a_live_stream_is_not_reaped() -> None:
    async with (
        Relay(settings(timeout_s=0.4)) as relay,
        RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher,
        Peer.open(f"{relay.rtmp_url}/{PATH}") as reader,
    ):
        await publisher.publish()
        await reader.play()
        for n in range(10):
            await publisher.send(sound(n * 100))
            await asyncio.sleep(0.1)
        while len(reader.messages()) < 10:
            await reader.step()


async def collect(client: RtmpClient, into: list[Message]) -> None:
    async for message in client.messages():
        into.append(message)


async def test_slow_reader_skips_to_a_key_frame_and_slows_nobody() -> None:
    limits = {"queue_bytes": 2_000_000, "queue_messages": 64, "gop_bytes": 1_000_000, "timeout_s": 30.0}
    sent = [(inter_frame if n % 10 else key_frame)(n * 40, 100_000) for n in range(440)]
    got: list[Message] = []
    async with Relay(settings(**limits)) as relay:
        url = f"{relay.rtmp_url}/{PATH}"
        async with Peer.open(url, receive_buffer=65_536) as slow:
            async with RtmpClient.connect(url) as publisher, RtmpClient.connect(url) as fast:
                await publisher.publish()
                await slow.play()
                await fast.play()
                reading = asyncio.create_task(collect(fast, got))
                await send(publisher, *HEADERS)
                for n, message in enumerate(sent):  # 40 MB while slow reads nothing: more than its sockets can hold
                    if n == 400:
                        catching_up = asyncio.create_task(slow.drain())
                    await publisher.send(message)
                    while len(got) < n:
                        await asyncio.sleep(0.001)
                await eventually(lambda: len(got) == 3 + len(sent))
                counted = await metrics(relay)
            await asyncio.gather(reading, catching_up)
    assert plain(got[3:]) == plain(sent), "the fast one has all"
    assert counted["rtmp_conns_outbound_frames_discarded"] > 100
    assert counted["rtmp_conns_outbound_skips"] >= 1
    received = [m for m in slow.messages() if m.type == MessageType.VIDEO and m.payload[1] == 1]
    times = [m.timestamp for m in received]
    assert times == sorted(set(times)), "in order, nothing twice"
    after_gaps = [b for a, b in itertools.pairwise(received) if b.timestamp - a.timestamp != 40]
    assert after_gaps, "it did skip"
    assert all(message.payload[0] == 0x17 for message in after_gaps), "to key frames only"


async def test_reader_behind_that_still_talks_gets_the_end_of_the_stream(relay: Relay, server: MediaServer) -> None:
    sent = [key_frame(0, 400_000), *(inter_frame(n * 40, 100_000) for n in range(1, 9))]
    async with Peer.open(f"{relay.rtmp_url}/{PATH}", receive_buffer=65_536) as slow:
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
            await publisher.publish()
            await slow.play()
            await send(publisher, *HEADERS, *sent)
            await until_online(server, PATH)
        await until_online(server, PATH, online=False)
        # a closed socket answers what comes in with a reset, and what was still to be sent is lost
        slow.writer.write(encode(Message(MessageType.ACKNOWLEDGEMENT, 0, bytes(4)), 2, 65_536))
        await asyncio.sleep(0.1)
        received = await slow.drain()
        assert await closed_by_peer(slow.reader)
    assert plain(received[3:]) == plain(sent)


async def test_reader_that_is_gone_already_keeps_no_other_from_its_end(
    relay: Relay, server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs up at once, having heard of the end, can be gone before the relay has closed its side."""
    url = f"{relay.rtmp_url}/{PATH}"
    async with Peer.open(url) as one, Peer.open(url) as other:
        async with RtmpClient.connect(url) as publisher:
            await publisher.publish()
            await one.play()
            await other.play()
            await send(publisher, *HEADERS, key_frame(0))
            await until_online(server, PATH)
            gone = Mock(side_effect=OSError(errno.ENOTCONN, "Transport endpoint is not connected"))
            monkeypatch.setattr(type(one.writer.transport), "write_eof", gone)
        for reader in (one, other):
            assert plain(await reader.drain()) == plain([*HEADERS, key_frame(0)])
            assert await closed_by_peer(reader.reader)


async def test_reader_that_takes_nothing_is_cut_off() -> None:
    async with Relay(settings(timeout_s=0.6)) as relay:
        url = f"{relay.rtmp_url}/{PATH}"
        async with RtmpClient.connect(url) as publisher, Peer.open(url, receive_buffer=65_536) as stalled:
            await publisher.publish()
            await stalled.play()
            await send(publisher, AVC)
            async with asyncio.timeout(20):
                while (await metrics(relay))["rtmp_conns"] > 1:
                    await send(publisher, *(key_frame(n, 200_000) for n in range(10)))
                    await asyncio.sleep(0.02)


async def test_peer_that_asks_and_takes_no_answer_is_not_listened_to_any_more() -> None:
    async with (
        Relay(settings(timeout_s=1.0)) as relay,
        Peer.open(f"{relay.rtmp_url}/{PATH}", receive_buffer=65_536) as peer,
    ):
        await peer.publish()
        ping = encode(Message(MessageType.USER_CONTROL, 0, b"\x00\x06\x00\x00\x00\x00"), 2, 65_536) * 10_000
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(20):
                while True:
                    peer.writer.write(ping)
                    await peer.writer.drain()


async def test_api_lists_pages_and_names_like_mediamtx(relay: Relay, server: MediaServer) -> None:
    assert await get_json(f"{relay.api_url}/v3/paths/list") == (200, {"itemCount": 0, "pageCount": 0, "items": []})
    async with (
        RtmpClient.connect(f"{relay.rtmp_url}/live/a/in") as first,
        RtmpClient.connect(f"{relay.rtmp_url}/live/b/out/es") as second,
    ):
        await first.publish()
        await second.publish()
        assert await server.list_paths() == []  # held, but nothing has come: not ready
        await send(first, *HEADERS, key_frame(0))
        await send(second, *HEADERS)
        await until_online(server, "live/a/in")
        await until_online(server, "live/b/out/es")
        assert [path.name for path in await server.list_paths()] == ["live/a/in", "live/b/out/es"]
        status, page = await get_json(f"{relay.api_url}/v3/paths/list?page=1&itemsPerPage=1")
        assert (page["itemCount"], page["pageCount"]) == (2, 2)
        assert [item["name"] for item in page["items"]] == ["live/b/out/es"]
        status, path = await get_json(f"{relay.api_url}/v3/paths/get/{quote('live/a/in', safe='')}")
        assert status == 200
        expected = {
            "name", "confName", "ready", "readyTime", "available", "availableTime", "online", "onlineTime", "source",
            "tracks", "tracks2", "readers", "inboundBytes", "outboundBytes", "inboundFramesInError", "bytesReceived",
            "bytesSent",
        }  # fmt: skip
        assert set(path) == expected
        assert path["tracks"] == ["H264", "MPEG-4 Audio"]
        assert path["inboundBytes"] == path["bytesReceived"] != 0
        assert await get_json(f"{relay.api_url}/v3/paths/get/live%2Fnone%2Fin") == (
            404,
            {"status": "error", "error": "path not found"},
        )
        assert (await get_json(f"{relay.api_url}/v3/paths/list?page=x"))[0] == 400
        assert (await get_json(f"{relay.api_url}/v3/paths/list?itemsPerPage=0"))[0] == 400
        assert (await get_json(f"{relay.api_url}/healthz"))[0] == 200
        counted = await metrics(relay)
        assert (counted["paths"], counted["rtmp_conns"]) == (2, 2)


async def test_client_names_urls_and_refuses_other_protocols(relay: Relay, server: MediaServer) -> None:
    assert server.name == "relay"
    assert server.publish_url(PATH) == server.read_url(PATH) == f"rtmp://127.0.0.1:{relay.rtmp_port}/{PATH}"
    with pytest.raises(MediaServerError, match="RTSP"):
        server.read_url(PATH, "rtsp")


async def test_credentials_where_they_are_configured(relay: Relay) -> None:
    secret = {"publish_user": "pub", "publish_pass": "p1", "read_user": "red", "read_pass": "p2"}
    async with Relay(settings(**secret)) as guarded:
        url = f"{guarded.rtmp_url}/{PATH}"
        for query in ("", "?user=pub", "?user=pub&pass=p2", "?user=red&pass=p2"):
            async with RtmpClient.connect(url + query) as client:
                with pytest.raises(RtmpError) as caught:
                    await client.publish()
            assert caught.value.code == "NetStream.Publish.Unauthorized"
            assert not caught.value.retryable
        async with RtmpClient.connect(f"{url}?user=pub&pass=p1") as publisher:
            await publisher.publish()
            async with RtmpClient.connect(url) as client:
                with pytest.raises(RtmpError, match="authentication"):
                    await client.play()
            async with RtmpClient.connect(f"{url}?user=red&pass=p2") as reader:
                await reader.play()


async def test_connections_are_bounded() -> None:
    async with Relay(settings(max_connections=1)) as relay:
        async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}") as publisher:
            await publisher.publish()
            with pytest.raises(RtmpError):
                async with RtmpClient.connect(f"{relay.rtmp_url}/{PATH}"):
                    pass


async def test_port_that_is_taken_is_said(relay: Relay) -> None:
    with pytest.raises(MediaServerError, match=str(relay.rtmp_port)):
        async with Relay(settings(rtmp_port=relay.rtmp_port)):
            pass
    with pytest.raises(MediaServerError, match=str(relay.api_port)):
        async with Relay(settings(api_port=relay.api_port)):
            pass


async def test_ends_within_two_seconds_with_peers_that_do_not_go(relay: Relay) -> None:
    async with Relay(settings()) as ending:
        url = f"{ending.rtmp_url}/{PATH}"
        async with Peer.open(url) as publisher, Peer.open(url, receive_buffer=65_536) as stalled:
            await publisher.publish()
            await stalled.play()
            for n in range(100):
                publisher.protocol.send_media(key_frame(n, 100_000))
            publisher.writer.write(publisher.protocol.data_to_send())
            await asyncio.sleep(0.3)
            started = time.monotonic()
            await ending.__aexit__(None, None, None)
            assert time.monotonic() - started < 2.0
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", ending.rtmp_port)) != 0


async def test_metadata_that_changes_reaches_present_and_late_readers(relay: Relay) -> None:
    url = f"{relay.rtmp_url}/{PATH}"
    async with RtmpClient.connect(url) as publisher, Peer.open(url) as present, Peer.open(url) as late:
        await publisher.publish()
        await present.play()
        changed = METADATA._replace(payload=METADATA.payload.replace(b"width", b"Width"))
        await send(publisher, *HEADERS, key_frame(0), changed, key_frame(2000))
        while len(present.messages()) < 6:
            await present.step()
        assert plain(present.messages())[4] == plain([changed])[0]
        await late.play()
        while len(late.messages()) < 4:
            await late.step()
        assert plain(late.messages())[0] == plain([changed])[0]


async def test_only_this_machine_publishes_a_dubbed_programme(relay: Relay) -> None:
    async with from_elsewhere(relay.rtmp_port) as far:
        for path in ("live/show/out", "live/show/out/es"):
            async with RtmpClient.connect(f"rtmp://127.0.0.1:{far}/{path}") as client:
                with pytest.raises(RtmpError, match="only this machine"):
                    await client.publish()
            async with RtmpClient.connect(f"{relay.rtmp_url}/{path}") as client:
                await client.publish()
        async with RtmpClient.connect(f"rtmp://127.0.0.1:{far}/live/show/in") as client:
            await client.publish()

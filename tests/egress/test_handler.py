"""The forwarder against destinations that accept, refuse, hang, stop reading and hang up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import SecretStr
from tests.egress.rig import (
    KEY,
    PATH,
    expected_payloads,
    forwarding,
    pictures,
    programme,
    reaches,
    state_of,
    until,
)
from tests.fakes.programme import AUDIO_HEADER, METADATA, VIDEO_HEADER, number_of
from tests.fakes.rtmp_destination import FakeDestination

from babelcast.config import Destination
from babelcast.egress.handler import EgressHandler
from babelcast.egress.settings import EgressSettings
from babelcast.egress.slate import PictureFormat
from babelcast.egress.source import play_forever
from babelcast.egress.wire import SlateSpec
from babelcast.errors import RtmpError
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType

pytestmark = pytest.mark.integration


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


async def test_a_fault_of_ours_does_not_end_a_forwarder(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [IndexError("a fault of ours")]

    async def play(*arguments: Any) -> None:
        if faults:
            raise faults.pop()
        await play_forever(*arguments)

    monkeypatch.setattr("babelcast.egress.handler.play_forever", play)
    async with FakeDestination().listening() as third, forwarding(relay, third.url) as handler, programme(relay):
        await until(lambda: bool(third.sessions) and len(third.sessions[0].messages) > 100)
    assert handler.status.state == "stopped" and "it begins again" in caplog.text


async def test_a_fault_of_ours_in_the_making_of_a_slate_costs_no_session(relay: Relay) -> None:
    asked = 0

    async def broken(spec: SlateSpec, wanted: PictureFormat) -> NoReturn:
        nonlocal asked
        asked += 1
        raise RuntimeError("a fault of ours")

    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, slate=SlateSpec(), slates=broken) as handler,
        programme(relay),
    ):
        await until(lambda: bool(asked and third.sessions) and len(third.sessions[0].messages) > 100)
        assert (len(third.sessions), handler.status.last_error) == (1, None)


async def test_a_programme_is_copied_byte_for_byte(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeDestination().listening() as third, forwarding(relay, third.url) as handler:
        assert state_of(handler) == "idle"
        assert third.attempts == 0, "nobody is bothered before there is something to send"
        async with programme(relay):
            await until(lambda: bool(third.sessions) and len(third.sessions[0].messages) > 100)
            status = await reaches(handler, "live")
        await handler.stop()
    session = third.sessions[0]
    assert session.path == f"app/{KEY}"
    assert session.said_goodbye
    head, media = session.messages[:3], session.messages[3:]
    assert head[0].payload.endswith(METADATA)
    assert [message.payload for message in head[1:]] == [VIDEO_HEADER, AUDIO_HEADER]
    assert [m.payload for m in media] == expected_payloads(session)[: len(media)]
    assert pictures(session)[0] % 10 == 0
    assert [m.timestamp for m in media[:4]] == [0, 1, 40, 41]
    assert status.connected_since is not None
    assert status.bytes_sent > 10_000
    assert status.reconnects == status.dropped_tags == 0
    assert status.last_error is None
    assert state_of(handler) == "stopped"
    assert KEY not in caplog.text
    assert KEY not in status.model_dump_json()
    assert status.url == third.url


async def test_the_destination_stays_connected_while_the_programme_is_re_opened(relay: Relay) -> None:
    async with FakeDestination().listening() as third, forwarding(relay, third.url) as handler:
        async with programme(relay):
            await until(lambda: bool(third.sessions) and len(third.sessions[0].messages) > 40)
        status = await reaches(handler, "stalled")
        assert status.connected_since is not None
        seen = len(third.sessions[0].messages)
        async with programme(relay, first=500):
            await until(lambda: len(third.sessions[0].messages) > seen + 40)
            await reaches(handler, "live")
        assert handler.status.reconnects == 0
    assert third.attempts == 1
    messages = third.sessions[0].messages
    again = next(at for at, message in enumerate(messages) if at > 10 and message.payload.endswith(METADATA))
    assert [message.payload for message in messages[again + 1 : again + 3]] == [VIDEO_HEADER, AUDIO_HEADER]
    assert number_of(messages[again + 3]) == 500
    for kind in (MessageType.VIDEO, MessageType.AUDIO):
        times = [message.timestamp for message in messages if message.type == kind]
        assert times == sorted(times)
    gap_ms = messages[again].timestamp - messages[again - 1].timestamp
    assert 300 <= gap_ms <= 10_000, "the time that passed is in the timestamps"


async def test_a_programme_that_stays_away_lets_the_destination_go(relay: Relay) -> None:
    settings = EgressSettings(hold_s=0.4, source_retry_s=0.05, stalled_after_s=0.1)
    async with FakeDestination().listening() as third, forwarding(relay, third.url, settings) as handler:
        async with programme(relay):
            await reaches(handler, "live")
            await until(lambda: len(third.sessions[0].messages) > 20)
        status = await reaches(handler, "idle")
        assert status.connected_since is None
        assert status.last_error is None
        await until(lambda: third.sessions[0].said_goodbye)
        async with programme(relay):
            await until(lambda: len(third.sessions) == 2 and len(third.sessions[1].messages) > 20)
        assert handler.status.reconnects == 1
        assert [m.timestamp for m in third.sessions[1].messages[3:5]] == [0, 1], "a new session begins at 0"


async def test_a_refused_key_is_said_and_tried_again(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeDestination(behaviour="refuse").listening() as third, forwarding(relay, third.url) as handler:
        async with programme(relay):
            status = await reaches(handler, "retrying")
            assert status.last_error is not None
            assert "NetStream.Publish.BadName" in status.last_error
            assert status.last_error_at is not None
            status = await reaches(handler, "failed")
            assert third.attempts >= 3
            third.behaviour = "accept"
            await reaches(handler, "live")
            await until(lambda: len(third.sessions[0].messages) > 20)
    assert KEY not in caplog.text, "the server quoted the key"
    assert KEY not in status.model_dump_json()


async def test_nobody_listens_and_then_somebody_does(
    relay: Relay, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    third = FakeDestination(port=free_port())
    async with forwarding(relay, third.url) as handler, programme(relay):
        status = await reaches(handler, "failed")
        assert "can't connect" in str(status.last_error)
        assert status.bytes_sent == 0
        assert caplog.text.count("next attempt in") == 1, "the same is not said at every attempt"
        await _programme_has_passed(relay, 20)
        async with third.listening():
            await reaches(handler, "live")
            await until(lambda: len(third.sessions[0].messages) > 20)
            assert pictures(third.sessions[0])[0] > 0, "the live edge, not the past"


async def test_a_destination_that_hangs_up_is_connected_again(relay: Relay) -> None:
    async with FakeDestination().listening() as third, forwarding(relay, third.url) as handler, programme(relay):
        for count in range(1, 4):
            await until(lambda: len(third.sessions) == count and len(third.sessions[-1].messages) > 20)  # noqa: B023
            assert [m.payload for m in third.sessions[-1].messages[1:3]] == [VIDEO_HEADER, AUDIO_HEADER]
            third.hang_up()
        await reaches(handler, "live")
        assert handler.status.reconnects >= 2
        assert handler.status.last_error is not None


async def test_a_destination_that_stops_reading_is_shown_skipped_and_reconnected(relay: Relay) -> None:
    settings = EgressSettings(
        write_timeout_s=2.0, stalled_after_s=0.2, backoff_first_s=0.05, source_retry_s=0.05, queue_items=40
    )
    async with FakeDestination(behaviour="stop reading").listening() as third:
        async with forwarding(relay, third.url, settings) as handler, programme(relay, size=200_000):
            await reaches(handler, "stalled")
            await until(lambda: handler.status.dropped_tags > 0)
            status = await reaches(handler, "retrying")
            assert "took no data" in str(status.last_error)
            third.behaviour = "accept"
            await until(lambda: len(third.sessions) >= 2 and len(pictures(third.sessions[-1])) > 20)
            assert pictures(third.sessions[-1])[0] % 10 == 0


async def test_one_that_is_stuck_costs_the_others_nothing(relay: Relay) -> None:
    async with FakeDestination(behaviour="stop reading").listening() as stuck, FakeDestination().listening() as good:
        async with (
            forwarding(relay, stuck.url, name="stuck") as slow,
            forwarding(relay, good.url, name="good") as fast,
            programme(relay, size=100_000),
        ):
            await until(lambda: slow.status.dropped_tags + slow.status.reconnects > 0 or slow.status.state != "live")
            await until(lambda: bool(good.sessions) and len(pictures(good.sessions[0])) > 150)
            assert fast.status.dropped_tags == 0
            got = pictures(good.sessions[0])
            assert got == list(range(got[0], got[0] + len(got)))


async def test_stop_does_not_wait_for_a_destination_that_says_nothing(relay: Relay) -> None:
    settings = EgressSettings(connect_timeout_s=30, source_retry_s=0.05)
    async with FakeDestination(behaviour="mute").listening() as third:
        async with forwarding(relay, third.url, settings) as handler, programme(relay):
            await until(lambda: third.attempts == 1)
            assert state_of(handler) == "connecting"
        assert state_of(handler) == "stopped"  # forwarding() allows 3 s
        await handler.stop()


def make_certificate(folder: Path, name: str = "IP:127.0.0.1") -> Path:
    """A self-signed certificate with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    subject = f"-subj /CN=destination -addext subjectAltName={name} -days 2"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes {subject} -keyout {folder}/key.pem -out {folder}/cert.pem"
    subprocess.run(command.split(), check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


async def test_rtmps(relay: Relay, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with FakeDestination().listening(served) as third:
        url = third.url.replace("rtmp:", "rtmps:")
        async with forwarding(relay, url, tls=trusting), programme(relay):
            await until(lambda: bool(third.sessions) and len(third.sessions[0].messages) > 20)
        async with forwarding(relay, url) as handler, programme(relay):
            status = await reaches(handler, "failed")
            assert status.last_error == "the certificate of 127.0.0.1 is not valid: self-signed certificate"


async def test_a_certificate_of_another_host(relay: Relay, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "DNS:elsewhere.example")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with FakeDestination().listening(served) as third:
        url = third.url.replace("rtmp:", "rtmps:")
        async with forwarding(relay, url, tls=trusting) as handler, programme(relay):
            status = await reaches(handler, "failed")  # at once: no retry mends it, though it is tried
    assert "the certificate of 127.0.0.1 is not valid: IP address mismatch" in str(status.last_error)


async def test_rtmps_to_a_port_without_tls(relay: Relay) -> None:
    async with FakeDestination().listening() as third:
        async with forwarding(relay, third.url.replace("rtmp:", "rtmps:")) as handler, programme(relay):
            status = await reaches(handler, "retrying", "failed")
            assert "no TLS with 127.0.0.1" in str(status.last_error)
    assert third.sessions == []


@pytest.mark.unit
@pytest.mark.parametrize(
    ("url", "key", "shown"),
    [
        ("rtmps://a.example/live2", KEY, "rtmps://a.example/live2"),
        (f"rtmp://a.example/app/{KEY}", None, "rtmp://a.example/app/***"),
        (f"rtmp://a.example/{KEY}", None, "rtmp://a.example/***"),
        (f"rtmp://me:{KEY}@a.example/app", KEY, "rtmp://***@a.example/app"),
    ],
)
def test_the_address_is_shown_without_its_key(url: str, key: str | None, shown: str) -> None:
    destination = Destination(name="x", url=url, key=SecretStr(key) if key else None)
    status = EgressHandler("show", "rtmp://127.0.0.1/live/show/out", destination).status
    assert status.url == shown
    assert KEY not in status.model_dump_json()


async def _record(url: str, out: list[Message]) -> None:
    async with RtmpClient.connect(url) as client:
        await client.play()
        async for message in client.messages():
            out.append(message)


async def _programme_has_passed(relay: Relay, number: int) -> None:
    """Its picture of that number is on air."""
    seen: list[Message] = []
    reading = asyncio.create_task(_until_playable(lambda: _record(f"{relay.rtmp_url}/{PATH}", seen)))
    shown = (MessageType.VIDEO, 1)
    try:
        await until(lambda: any(number_of(m) > number for m in seen if (m.type, m.payload[1]) == shown))
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _until_playable(play: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await play()
        except RtmpError:
            await asyncio.sleep(0.1)


async def test_a_real_encoder_through_to_a_real_third_party(relay: Relay, tmp_path: Path) -> None:
    """ffmpeg → media server → forwarder → another relay: the same tags arrive there."""
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as third:
        async with forwarding(relay, f"{third.rtmp_url}/app") as handler:
            encode = "-t 6 -c:v libx264 -preset ultrafast -bf 2 -g 25 -c:a aac -f flv".split()
            inputs = "-v error -re -f lavfi -i testsrc2=s=160x120:r=25 -f lavfi -i sine=sample_rate=48000".split()
            source = f"{relay.rtmp_url}/{PATH}"
            encoder = await asyncio.create_subprocess_exec("ffmpeg", *inputs, *encode, source)
            sent: list[Message] = []
            got: list[Message] = []
            try:
                async with asyncio.timeout(30):
                    recording = asyncio.gather(
                        _until_playable(lambda: _record(source, sent)),
                        _until_playable(lambda: _record(f"{third.rtmp_url}/app/{KEY}", got)),
                    )
                    assert await encoder.wait() == 0
                    await handler.stop()
                    await recording
            finally:
                with contextlib.suppress(ProcessLookupError):
                    encoder.kill()
                await encoder.wait()
    for kind in (MessageType.VIDEO, MessageType.AUDIO):
        theirs = [m.payload for m in got if m.type == kind and m.payload[1] != 0]
        ours = [m.payload for m in sent if m.type == kind and m.payload[1] != 0]
        assert len(theirs) > 60
        at = ours.index(theirs[0])
        assert ours[at : at + len(theirs)] == theirs

"""The slate between a programme that went and the same programme when it is back, in one destination session."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from tests.egress.rig import FAST, forwarding, pictures, programme, reaches, until
from tests.egress.slates import FakeSlates, is_silence, is_slate, is_slate_header
from tests.fakes.programme import AUDIO_HEADER, METADATA, VIDEO_HEADER, number_of
from tests.fakes.rtmp_destination import FakeDestination, Session

from babelcast.egress.settings import EgressSettings
from babelcast.egress.wire import SlateSpec
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp.message import Message, MessageType

pytestmark = pytest.mark.integration

SLATE = SlateSpec(text="back soon")
QUICK = EgressSettings(
    connect_timeout_s=1.0,
    write_timeout_s=1.0,
    slate_after_s=0.3,
    slate_hold_s=30.0,
    stalled_after_s=0.3,
    backoff_first_s=0.05,
    backoff_max_s=0.1,
    source_retry_s=0.05,
)
_PACE_S = 0.04
"""The made programme at the speed of life: its time is the clock's."""


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


def slates_in(session: Session) -> list[Message]:
    return [message for message in session.messages if is_slate(message)]


def longest_gaps_ms(session: Session) -> dict[str, int]:
    """Between two pictures and between two sounds, by timestamp; neither goes back."""
    gaps = {}
    for name, kind in (("picture", MessageType.VIDEO), ("sound", MessageType.AUDIO)):
        times = [m.timestamp for m in session.messages if m.type == kind and m.payload[1] != 0]
        steps = [after - before for before, after in itertools.pairwise(times)]
        assert min(steps) >= 0
        gaps[name] = max(steps)
    return gaps


async def test_a_slate_fills_the_gap_in_the_same_session(relay: Relay) -> None:
    slates = FakeSlates()
    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, QUICK, slate=SLATE, slates=slates) as handler,
    ):
        async with programme(relay, pace_s=_PACE_S):
            await until(lambda: bool(third.sessions) and len(pictures(third.sessions[0])) > 15)
        session = third.sessions[0]
        await until(lambda: len(slates_in(session)) > 20)
        status = await reaches(handler, "live")
        assert status.slate, "and it says so"
        async with programme(relay, first=500, pace_s=_PACE_S):
            await until(lambda: number_of(session.messages[-1]) in range(510, 600))
            status = handler.status
            assert not status.slate
    assert third.attempts == 1 and status.reconnects == 0 and status.last_error is None
    assert [(wanted.width, wanted.height) for _, wanted in slates.wanted] == [(640, 360)]
    began = next(at for at, message in enumerate(session.messages) if is_slate_header(message))
    assert is_slate(session.messages[began + 1]) or is_silence(session.messages[began + 1])
    first = next(message for message in session.messages if is_slate(message))
    assert first.payload[0] == 0x17
    last = max(at for at, message in enumerate(session.messages) if is_slate(message) or is_silence(message))
    back = session.messages[last + 1 :]
    assert back[0].payload.endswith(METADATA)
    assert [message.payload for message in back[1:3]] == [VIDEO_HEADER, AUDIO_HEADER]
    assert number_of(back[3]) == 500 and back[3].payload[0] == 0x17
    gaps = longest_gaps_ms(session)
    print("gaps by timestamp:", gaps)
    assert gaps["picture"] < 400 and gaps["sound"] < 400


async def test_a_destination_that_hangs_up_during_the_slate_gets_it_again_with_all_headers(relay: Relay) -> None:
    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, QUICK, slate=SLATE, slates=FakeSlates()) as handler,
    ):
        async with programme(relay, pace_s=_PACE_S):
            await until(lambda: bool(third.sessions) and len(pictures(third.sessions[0])) > 5)
        await until(lambda: len(slates_in(third.sessions[0])) > 5)
        third.hang_up()
        await until(lambda: len(third.sessions) == 2 and len(slates_in(third.sessions[1])) > 5)
        again = third.sessions[1]
        assert again.messages[0].payload.endswith(METADATA)
        assert is_slate_header(again.messages[1]) and again.messages[2].payload == AUDIO_HEADER
        assert [message.timestamp for message in again.messages[:4]] == [0, 0, 0, 0]
        async with programme(relay, first=500, pace_s=_PACE_S):
            await until(lambda: number_of(again.messages[-1]) in range(503, 600))
        assert handler.status.reconnects == 1
    longest_gaps_ms(again)


async def test_it_ends_when_the_programme_stays_away(relay: Relay) -> None:
    settings = EgressSettings(slate_after_s=0.1, slate_hold_s=0.8, source_retry_s=0.05)
    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, settings, slate=SLATE, slates=FakeSlates()) as handler,
    ):
        async with programme(relay):
            await until(lambda: bool(third.sessions) and len(pictures(third.sessions[0])) > 5)
        status = await reaches(handler, "idle")
        assert status.last_error is None and not status.slate
        await until(lambda: third.sessions[0].said_goodbye)
        assert slates_in(third.sessions[0])
        assert third.attempts == 1


async def test_a_destination_that_does_not_answer_during_the_slate_gets_the_live_edge_later(relay: Relay) -> None:
    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, QUICK, slate=SLATE, slates=FakeSlates()) as handler,
    ):
        async with programme(relay, pace_s=_PACE_S):
            await until(lambda: bool(third.sessions) and len(pictures(third.sessions[0])) > 5)
        await until(lambda: len(slates_in(third.sessions[0])) > 5)
        third.behaviour = "mute"
        third.hang_up()
        await until(lambda: third.attempts >= 3)
        assert "no answer" in str(handler.status.last_error)
        third.behaviour = "accept"
        await until(lambda: len(third.sessions) == 2 and len(slates_in(third.sessions[1])) > 5)
        assert third.sessions[1].messages[3].timestamp == 0, "not what was missed"


@pytest.mark.parametrize("why", ["not configured", "can't be made"])
async def test_without_a_slate_the_connection_is_held(relay: Relay, why: str) -> None:
    slates = FakeSlates(fails=why == "can't be made")
    slate = None if why == "not configured" else SLATE
    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, QUICK, slate=slate, slates=slates) as handler,
    ):
        async with programme(relay, pace_s=_PACE_S):
            await until(lambda: bool(third.sessions) and len(pictures(third.sessions[0])) > 5)
        await reaches(handler, "stalled")
        async with programme(relay, first=500, pace_s=_PACE_S):
            await until(lambda: number_of(third.sessions[0].messages[-1]) in range(503, 600))
        assert third.attempts == 1 and not slates_in(third.sessions[0])
    assert FAST.slate_hold_s > FAST.hold_s


async def test_a_programme_that_only_stops_talking_gets_it_as_well(relay: Relay) -> None:
    """A worker that hangs with its connection open; when it goes on, the destination waits for its next key frame."""
    async with (
        FakeDestination().listening() as third,
        forwarding(relay, third.url, QUICK, slate=SLATE, slates=FakeSlates()) as handler,
    ):
        async with programme(relay, pace_s=0.9):  # slower than the slate waits for
            await until(lambda: bool(third.sessions) and len(slates_in(third.sessions[0])) > 30)
            assert handler.status.slate
        session = third.sessions[0]
        began = next(at for at, message in enumerate(session.messages) if is_slate(message))
        after = [m for m in session.messages[began:] if m.type == MessageType.VIDEO and m.payload[1] != 0]
        assert all(is_slate(message) for message in after), "no picture without the ones before it"

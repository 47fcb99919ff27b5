"""The slate in a destination's timeline: no hole in either track, on time, and bounded when the destination is late."""

from __future__ import annotations

import itertools

import pytest
from tests.egress.slates import AVCC, SILENCE, is_silence, is_slate, is_slate_header, made_slate
from tests.fakes.programme import AUDIO_HEADER, METADATA, VIDEO_HEADER, picture, sound

from babelcast.egress.feed import Item
from babelcast.egress.rebase import Rebase
from babelcast.egress.slate import MAX_BEHIND_MS, PictureFormat, SlatePlayer, picture_format
from babelcast.rtmp import amf0
from babelcast.rtmp.message import Message, MessageType

pytestmark = pytest.mark.unit

HEADERS = (
    Message(MessageType.DATA, 0, METADATA),
    Message(MessageType.VIDEO, 0, VIDEO_HEADER),
    Message(MessageType.AUDIO, 0, AUDIO_HEADER),
)
# 640x360 baseline; see tests/rtmp/test_avc.py
RECORD = bytes.fromhex("0142c01effe1000a6742c01eda0280bfe540") + bytes.fromhex("01000468ce3c80")


def after_programme(rebase: Rebase, length_ms: int = 2_000) -> int:
    """The clock's time at which the last message of a programme came; its timestamps began at 0."""
    at = 100_000
    for step in range(0, length_ms, 40):
        at = 100_000 + step
        rebase.restamp(Item(picture(step // 40, 7_000_000 + step), 1, at))
        rebase.restamp(Item(sound(step // 40, 7_000_000 + step + 1), 1, at))
    return at


def steps(messages: list[Message]) -> set[int]:
    times = [message.timestamp for message in messages]
    return {after - before for before, after in itertools.pairwise(times)}


def test_it_goes_on_where_the_programme_stopped_and_keeps_up_with_the_clock() -> None:
    rebase = Rebase()
    last = after_programme(rebase)
    player = SlatePlayer(made_slate(), SILENCE, HEADERS, rebase, last + 1_000)
    assert [message.payload[5:] for message in player.headers(whole=False)] == [AVCC], "the silence fits the programme"
    sent = list(player.due(last + 1_000))
    pictures, sounds = [m for m in sent if is_slate(m)], [m for m in sent if is_silence(m)]
    assert pictures[0].timestamp == 1_960 + 40 and pictures[0].payload[0] == 0x17
    assert sounds[0].timestamp == 1_961 + 21
    assert steps(pictures) == {40} and steps(sounds) <= {21, 22}
    assert pictures[-1].timestamp > 2_960 - 40, "the second that was waited is filled"
    for now in range(last + 1_000, last + 6_000, 7):
        sent += player.due(now)
    pictures = [m for m in sent if is_slate(m)]
    assert steps(pictures) == {40} and steps([m for m in sent if is_silence(m)]) <= {21, 22}
    assert 7_960 - 80 < pictures[-1].timestamp <= 7_960
    times = [m.timestamp for m in sent]
    assert times == sorted(times)
    assert [m.payload[10] for m in pictures[:12]] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_the_programme_comes_back_after_it() -> None:
    rebase = Rebase()
    last = after_programme(rebase)
    player = SlatePlayer(made_slate(), SILENCE, HEADERS, rebase, last + 1_000)
    list(player.due(last + 3_010))
    back = [rebase.restamp(Item(picture(0, 55 + step), 1, last + 3_020 + step)) for step in (0, 40, 80)]
    assert back == [1_961 + 3_020, 1_961 + 3_060, 1_961 + 3_100], "of the same session, with other timestamps"


def test_a_session_that_begins_with_it_gets_everything() -> None:
    rebase = Rebase()
    player = SlatePlayer(made_slate(), SILENCE, HEADERS, rebase, 5_000)
    head = player.headers(whole=True)
    assert [message.payload for message in head] == [METADATA, b"\x17\0\0\0\0" + AVCC, AUDIO_HEADER]
    assert is_slate_header(head[1])
    sent = list(player.due(5_100))
    assert [m.timestamp for m in sent if is_slate(m)] == [0, 40, 80]
    assert [m.timestamp for m in sent if is_silence(m)] == [0, 21, 42, 64, 85]
    assert rebase.restamp(Item(picture(0, 9_000), 1, 5_120)) == 120


def test_a_destination_that_takes_it_late_gets_the_live_edge() -> None:
    rebase = Rebase()
    player = SlatePlayer(made_slate(), SILENCE, HEADERS, rebase, 0)
    list(player.due(120))
    sent = list(player.due(10_000))
    assert all(message.timestamp >= 10_000 - MAX_BEHIND_MS for message in sent)
    assert len(sent) < 10
    first = next(m for m in sent if is_slate(m))
    assert first.payload[0] == 0x17, "with a key frame"


def test_it_is_asked_for_no_more_often_than_something_is_due() -> None:
    player = SlatePlayer(made_slate(), SILENCE, HEADERS, Rebase(), 0)
    now, turns = 0, 0
    while now < 1_000:
        list(player.due(now))
        wait_s = player.wait_s(now)
        assert 0 < wait_s <= 0.022
        now, turns = now + max(1, round(wait_s * 1_000)), turns + 1
    assert turns < 90


@pytest.mark.parametrize(
    ("config", "step_ms", "own_header"),
    [
        ("af001190", 21, False),  # 48 kHz stereo
        ("af001210", 23, False),  # 44.1 kHz stereo
        ("af001188", 21, True),  # mono
        ("af0013100000", 21, True),  # something with an extension
    ],
)
def test_silence_fits_the_programme_or_brings_its_own_header(config: str, step_ms: int, own_header: bool) -> None:
    headers = (*HEADERS[:2], Message(MessageType.AUDIO, 0, bytes.fromhex(config)))
    player = SlatePlayer(made_slate(), SILENCE, headers, Rebase(), 0)
    head = [m for m in player.headers(whole=False) if m.type == MessageType.AUDIO]
    assert [m.payload for m in head] == ([bytes.fromhex("af001190")] if own_header else [])
    sounds = [m for m in player.due(1_000) if is_silence(m)]
    assert steps(sounds) <= {step_ms, step_ms + 1}


def test_no_silence_for_a_programme_without_sound_or_with_another_codec() -> None:
    for headers in (HEADERS[:2], (*HEADERS[:2], Message(MessageType.AUDIO, 0, b"\x90Opus"))):
        player = SlatePlayer(made_slate(), SILENCE, headers, Rebase(), 0)
        assert all(message.type == MessageType.VIDEO for message in [*player.headers(whole=False), *player.due(500)])


def test_the_format_is_the_programme_s() -> None:
    head = Message(MessageType.VIDEO, 0, b"\x17\0\0\0\0" + RECORD)
    assert picture_format((head,)) == PictureFormat(640, 360, 25.0), "a rate must be guessed"
    told = Message(MessageType.DATA, 0, amf0.encode("onMetaData", amf0.EcmaArray(framerate=29.97)))
    assert picture_format((told, head)) == PictureFormat(640, 360, 29.97)
    enhanced = Message(MessageType.VIDEO, 0, b"\x90avc1" + RECORD)
    assert picture_format((enhanced,)) == PictureFormat(640, 360, 25.0)
    assert picture_format((Message(MessageType.VIDEO, 0, b"\x90hvc1" + RECORD),)) is None
    assert picture_format((Message(MessageType.DATA, 0, b"\x02\0\x7f"), HEADERS[2])) is None

"""Timestamps towards a destination."""

from __future__ import annotations

import pytest

from babelcast.egress.feed import Item
from babelcast.egress.rebase import Rebase
from babelcast.rtmp.message import Message, MessageType

pytestmark = pytest.mark.unit


def item(timestamp: int, arrived_ms: int, session: int = 1, kind: MessageType = MessageType.VIDEO) -> Item:
    return Item(Message(kind, timestamp % 2**32, b""), session, arrived_ms)


def test_begins_at_zero_and_keeps_differences() -> None:
    rebase = Rebase()
    got = [rebase.restamp(item(90_000 + step, step)) for step in (0, 40, 81, 120)]
    assert got == [0, 40, 81, 120]


def test_a_new_session_goes_on_after_the_time_that_passed() -> None:
    rebase = Rebase()
    for step in range(0, 1_000, 40):
        rebase.restamp(item(step, step))
    assert rebase.restamp(item(77_000, 960 + 5_000, session=2)) == 960 + 5_000
    assert rebase.restamp(item(77_040, 960 + 5_040, session=2)) == 960 + 5_040


def test_a_burst_after_a_reopened_source_never_goes_back() -> None:
    """A media server sends the latest group of pictures at once: its time runs ahead of the clock for a moment."""
    rebase = Rebase()
    rebase.restamp(item(0, 0))
    rebase.restamp(item(2_000, 10))  # a burst at the beginning as well
    got = [rebase.restamp(item(step, 20, session=2)) for step in (0, 40, 80)]
    assert got == [2_010, 2_050, 2_090]


def test_a_source_that_restarts_its_clock_within_a_session() -> None:
    rebase = Rebase()
    assert rebase.restamp(item(500_000, 0)) == 0
    assert rebase.restamp(item(500_040, 40)) == 40
    assert rebase.restamp(item(0, 80)) == 80
    assert rebase.restamp(item(40, 120)) == 120
    assert rebase.restamp(item(3_600_000, 160)) == 160, "and one that jumps an hour ahead"


def test_a_real_gap_is_kept() -> None:
    rebase = Rebase()
    rebase.restamp(item(0, 0))
    assert rebase.restamp(item(60_000, 60_000)) == 60_000


def test_interleaved_tracks_keep_their_order_and_never_go_back() -> None:
    rebase = Rebase()
    assert rebase.restamp(item(1_000, 0)) == 0
    assert rebase.restamp(item(980, 0, kind=MessageType.AUDIO)) == 0, "not before the beginning"
    assert rebase.restamp(item(1_003, 0, kind=MessageType.AUDIO)) == 3
    assert rebase.restamp(item(1_040, 40)) == 40
    assert rebase.restamp(item(1_024, 40, kind=MessageType.AUDIO)) == 24


def test_wrap_of_the_source_s_32_bits_is_no_jump() -> None:
    rebase = Rebase()
    assert rebase.restamp(item(2**32 - 20, 0)) == 0
    assert rebase.restamp(item(2**32 + 20, 40)) == 40
    assert rebase.restamp(item(2**32 + 60, 80)) == 80


def test_script_data_says_nothing_about_the_clock() -> None:
    """flvmux repeats its metadata, stamped 0, in the middle of a stream."""
    rebase = Rebase()
    for step in range(0, 5_000, 40):
        rebase.restamp(item(step, step))
    assert rebase.restamp(item(0, 4_970, kind=MessageType.DATA)) == 4_960
    assert rebase.restamp(item(5_000, 5_000)) == 5_000

"""Where the next worker begins."""

from __future__ import annotations

import pytest

from babelcast.units import NS_PER_S, RATE, AccessUnit
from babelcast.worker.spool import Spooled
from babelcast.worker.takeover import takeover

pytestmark = pytest.mark.unit

EPOCH_NS = 1_000 * NS_PER_S
DELAY_NS = 6 * NS_PER_S


def left_until(end_s: int) -> Spooled:
    """From source time 0 on: a picture each second, a key frame every two; sound to the end."""
    video = [AccessUnit(i * NS_PER_S, i * NS_PER_S, i % 2 == 0, b"picture", "caps") for i in range(end_s)]
    return Spooled(EPOCH_NS, video, [(i * RATE, bytes(4 * RATE)) for i in range(end_s)])


def test_it_begins_with_the_key_frame_on_air_and_listens_to_what_can_still_be_dubbed() -> None:
    over = takeover(left_until(20), EPOCH_NS + 20 * NS_PER_S, DELAY_NS)
    assert over is not None
    assert over.begins_ns - EPOCH_NS == 20.5 * NS_PER_S
    assert over.start_ns == 14 * NS_PER_S
    assert over.heard_ns - over.start_ns > 2 * NS_PER_S  # what is on air sooner could not be dubbed in time
    assert over.left.end_ns - over.heard_ns <= 3.5 * NS_PER_S


def test_with_a_short_delay_nothing_is_listened_to_again() -> None:
    over = takeover(left_until(20), EPOCH_NS + 20 * NS_PER_S, 2 * NS_PER_S)
    assert over is not None
    assert over.heard_ns == over.left.end_ns


@pytest.mark.parametrize("left", [None, left_until(20)])
def test_it_begins_anew_where_nothing_is_left_that_is_due(left: Spooled | None) -> None:
    assert takeover(left, EPOCH_NS + 30 * NS_PER_S, DELAY_NS) is None

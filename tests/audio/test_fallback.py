from __future__ import annotations

import pytest

from babelcast.audio.fallback import FallbackCause, FallbackMode, FallbackPolicy, FallbackSettings
from babelcast.units import RATE

pytestmark = pytest.mark.unit

BLOCK = RATE // 50


def play(
    policy: FallbackPolicy,
    start_s: float,
    stop_s: float,
    *,
    watermark_s: float | None = None,
    ahead_s: float = 0.0,
    closed: FallbackCause | None = None,
    dub_active: bool = False,
    lost: bool = False,
) -> list[FallbackMode | None]:
    """Blocks of 20 ms; the watermark stands still, or runs ``ahead_s`` before the playhead."""
    modes = []
    for pos in range(round(start_s * RATE), round(stop_s * RATE), BLOCK):
        watermark = pos + round(ahead_s * RATE) if watermark_s is None else round(watermark_s * RATE)
        modes.append(policy.decide(pos=pos, watermark=watermark, closed=closed, dub_active=dub_active, lost=lost))
    return modes


def test_a_backend_that_keeps_up_needs_no_fallback() -> None:
    assert set(play(FallbackPolicy(FallbackSettings()), 0, 60, ahead_s=2.0)) == {None}


def test_late_by_less_than_the_tolerance_is_not_lost() -> None:
    assert set(play(FallbackPolicy(FallbackSettings()), 0, 60, ahead_s=-1.4)) == {None}


def test_a_hung_backend_is_lost_once_the_tolerance_has_passed() -> None:
    modes = play(FallbackPolicy(FallbackSettings("background")), 0, 10, watermark_s=3)
    assert modes.index("background") == pytest.approx(4.5 * 50, abs=1.1)
    assert set(modes[modes.index("background") :]) == {"background"}


def test_a_closed_backend_is_lost_at_its_watermark() -> None:
    modes = play(FallbackPolicy(FallbackSettings()), 0, 10, watermark_s=3, closed="closed")
    assert modes.index("original") == 3 * 50 + 1


def test_the_dub_returns_after_half_a_second_of_being_level() -> None:
    policy = FallbackPolicy(FallbackSettings())
    play(policy, 0, 10, watermark_s=0)
    modes = play(policy, 10, 12, ahead_s=0.1)
    assert modes.index(None) == 25
    assert set(modes[25:]) == {None}


def test_a_backend_on_the_edge_does_not_make_it_flap() -> None:
    policy = FallbackPolicy(FallbackSettings())
    play(policy, 0, 2, watermark_s=-1)
    for i in range(200):  # level and late in turn, every 100 ms
        play(policy, 2 + i * 0.1, 2.1 + i * 0.1, ahead_s=0.05 if i % 2 else -0.05)
    assert policy.changes == 1


def test_a_segment_that_plays_is_always_heard_and_dwells() -> None:
    policy = FallbackPolicy(FallbackSettings())
    assert play(policy, 0, 5, watermark_s=0)[-1] == "original"
    assert set(play(policy, 5, 6, watermark_s=0, dub_active=True)) == {None}
    after = play(policy, 6, 8, watermark_s=0)
    assert after.index("original") == pytest.approx(50, abs=1.1)  # a second after the segment


def test_a_lost_span_falls_back_although_the_watermark_has_passed_it() -> None:
    policy = FallbackPolicy(FallbackSettings())
    assert set(play(policy, 0, 2, ahead_s=1, lost=True)) == {"original"}
    modes = play(policy, 2, 4, ahead_s=1)
    assert modes.index(None) == 25


def test_the_mode_can_be_changed_on_air() -> None:
    policy = FallbackPolicy(FallbackSettings())
    play(policy, 0, 5, watermark_s=0)
    policy.settings = FallbackSettings("silence")
    assert set(play(policy, 5, 6, watermark_s=0)) == {"silence"}
    assert policy.changes == 1


BY_CAUSE = FallbackSettings("original", {"breaker": "background", "lost": "repeat", "late": "silence"})


def test_each_cause_has_its_mode_and_the_rest_the_streams_own() -> None:
    late = play(FallbackPolicy(BY_CAUSE), 0, 2, watermark_s=-1)
    lost = play(FallbackPolicy(BY_CAUSE), 0, 2, ahead_s=1, lost=True)
    broken = play(FallbackPolicy(BY_CAUSE), 0, 2, watermark_s=-1, closed="breaker")
    closed = play(FallbackPolicy(BY_CAUSE), 0, 2, watermark_s=-1, closed="closed")
    budget = play(FallbackPolicy(BY_CAUSE), 0, 2, watermark_s=-1, closed="budget")
    assert [modes[-1] for modes in (late, lost, broken, closed, budget)] == [
        "silence",
        "repeat",
        "background",
        "original",
        "original",
    ]


def test_an_open_breaker_does_not_wait_until_the_dub_is_late() -> None:
    policy = FallbackPolicy(BY_CAUSE)
    modes = play(policy, 0, 5, watermark_s=3, closed="breaker")
    assert modes.index("background") == 3 * 50 + 1  # what was dubbed before it opened is still heard
    assert policy.cause == "breaker"


def test_another_cause_takes_over_once_it_has_held_for_a_second() -> None:
    policy = FallbackPolicy(BY_CAUSE)
    play(policy, 0, 5, watermark_s=0)
    assert policy.cause == "late"
    modes = play(policy, 5, 8, watermark_s=0, closed="closed")
    assert modes.index("original") == 50
    assert set(modes[:50]) == {"silence"} and set(modes[50:]) == {"original"}
    assert set(play(policy, 8, 9, watermark_s=0, closed="breaker")) == {"background"}, "this one at once"
    assert policy.changes == 1


def test_causes_that_alternate_do_not_make_it_flap() -> None:
    policy = FallbackPolicy(BY_CAUSE)
    play(policy, 0, 5, watermark_s=0)
    modes = [
        play(policy, 5 + i * 0.1, 5.1 + i * 0.1, watermark_s=0, closed="closed" if i % 2 else None) for i in range(100)
    ]
    assert {mode for some in modes for mode in some} == {"silence"}


def test_a_cause_that_ends_in_the_dub_is_forgotten() -> None:
    policy = FallbackPolicy(BY_CAUSE)
    play(policy, 0, 5, watermark_s=0, closed="breaker")
    play(policy, 5, 6, ahead_s=1)
    assert policy.cause is None
    assert play(policy, 6, 8, watermark_s=4)[-1] == "silence"
    assert policy.cause == "late"

"""How often what is away is asked for."""

from __future__ import annotations

import pytest

from babelcast.clock import ManualClock
from babelcast.units import NS_PER_S
from babelcast.worker.backoff import Backoff, ImpatientBackoff

pytestmark = pytest.mark.unit


def test_it_doubles_up_to_its_most_spread_by_a_fifth_and_begins_again() -> None:
    backoff = Backoff(first_s=0.5, most_s=3.0)
    for wanted_s in (0.5, 1.0, 2.0, 3.0, 3.0):
        assert 0.8 * wanted_s <= backoff.next_s() <= 1.2 * wanted_s
    backoff.reset()
    assert backoff.next_s() <= 0.6


def test_a_source_that_went_just_now_is_asked_for_twice_a_second_and_later_less_often() -> None:
    clock = ManualClock(7 * NS_PER_S)
    backoff, waits = ImpatientBackoff(clock), []
    while clock.now_ns() < 67 * NS_PER_S:
        waits.append(backoff.next_s())
        clock.advance(round(waits[-1] * NS_PER_S))
    assert all(wait <= 0.6 for wait in waits[:50]), "half a minute of them"
    assert all(1.6 <= wait <= 2.4 for wait in waits[-10:])
    backoff.reset()
    assert backoff.next_s() <= 0.6

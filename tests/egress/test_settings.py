"""How soon a destination that is away is asked again."""

from __future__ import annotations

import pytest

from babelcast.egress.settings import EgressSettings

pytestmark = pytest.mark.unit

SPREAD = 1.2


def attempts(until_s: float) -> list[float]:
    """When a destination is asked that refuses at once, from its loss to the first attempt at ``until_s`` or later."""
    found = [0.0]
    while found[-1] < until_s:
        found.append(found[-1] + SPREAD * EgressSettings().wait_s(found[-1]))
    return found


@pytest.mark.parametrize("refuses_s", [0.2, 1, 2, 4, 6, 9])
def test_a_short_refusal_costs_two_seconds_more_at_most(refuses_s: float) -> None:
    assert attempts(refuses_s)[-1] - refuses_s < 2.0


def test_a_long_one_is_not_hammered_at() -> None:
    assert len(attempts(10)) < 20
    assert len(attempts(3_600)) < 180
    assert EgressSettings().wait_s(10_000) == 30.0

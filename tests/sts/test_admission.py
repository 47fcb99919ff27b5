from __future__ import annotations

import pytest

from babelcast.sts.admission import AdmissionSettings, Factor, refusal

pytestmark = pytest.mark.unit

TWO_CORES = AdmissionSettings(capacity=2.0)


def measured(value: float, heard_s: float = 30.0) -> Factor:
    factor = Factor()
    for _ in range(int(heard_s)):
        factor.add(1.0, value)
    return factor


def test_a_factor_follows_what_the_session_needs_of_late() -> None:
    factor = measured(0.1, 60)
    assert factor.value == pytest.approx(0.1) and factor.settled
    for _ in range(40):
        factor.add(1.0, 0.5)
    assert 0.35 < factor.value < 0.5


def test_sessions_are_let_in_until_the_work_would_be_too_much() -> None:
    assert refusal(TWO_CORES, [], None, 0.0) is None  # nothing is known yet
    assert refusal(TWO_CORES, [measured(0.3)] * 4, 0.3, 0.0) is None  # 1.5 of 1.6
    assert "1.8 of 2" in (refusal(TWO_CORES, [measured(0.3)] * 5, 0.3, 0.0) or "")


def test_a_session_that_has_just_begun_counts_as_others_have() -> None:
    new = measured(0.0, heard_s=1.0)
    assert refusal(TWO_CORES, [new] * 3, 0.5, 0.0) is not None


def test_nobody_is_let_in_while_somebody_waits() -> None:
    assert refusal(TWO_CORES, [measured(0.1)], 0.1, 2.5) == "sessions are 2 s behind"

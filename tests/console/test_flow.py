"""Bit rate and stall of a leg, by its byte counter."""

from __future__ import annotations

import pytest

from babelcast.console.flow import STALLED_S, Flow

pytestmark = pytest.mark.unit


def test_a_steady_flow_has_its_bit_rate() -> None:
    flow = Flow()
    assert flow.kbps is None
    for second in range(20):
        flow.see(float(second), second * 125_000)
    assert flow.kbps == pytest.approx(1_000)
    assert flow.still_s(19.5) == pytest.approx(0.5)


def test_connected_without_a_byte_is_stalled_after_eight_seconds_and_not_before() -> None:
    flow = Flow()
    flow.see(0.0, 1_000)
    for second in range(1, 8):
        flow.see(float(second), 1_000)
        assert not flow.stalled(float(second))
    assert flow.stalled(STALLED_S)
    assert flow.kbps == 0
    flow.see(9.0, 1_001)
    assert not flow.stalled(9.0)


def test_who_is_not_there_is_not_stalled() -> None:
    flow = Flow()
    flow.see(0.0, 1_000)
    flow.see(100.0, None)
    assert flow.kbps is None and not flow.stalled(200.0)


def test_another_connection_counts_anew() -> None:
    flow = Flow()
    flow.see(0.0, 10_000_000)
    flow.see(1.0, 1_000)
    assert flow.kbps is None
    flow.see(2.0, 126_000)
    assert flow.kbps == pytest.approx(1_000)

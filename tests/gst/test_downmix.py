"""The coefficients; that GStreamer applies them is in test_formats."""

from __future__ import annotations

import pytest

from babelcast.gst.downmix import stereo_matrix

pytestmark = pytest.mark.unit

FIVE_ONE, QUAD, SEVEN_ONE = 0x3F, 0x33, 0xC3F


def test_five_one_and_its_kin() -> None:
    down = 0.7071
    assert stereo_matrix(6, FIVE_ONE) == [[1, 0, down, 0, down, 0], [0, 1, down, 0, 0, down]]
    assert stereo_matrix(4, QUAD) == [[1, 0, down, 0], [0, 1, 0, down]]
    assert stereo_matrix(8, SEVEN_ONE) == [[1, 0, down, 0, down, 0, down, 0], [0, 1, down, 0, 0, down, 0, down]]


def test_mono_and_stereo_need_none() -> None:
    assert stereo_matrix(1, 0) == stereo_matrix(2, 3) == []


def test_of_unknown_places_the_first_two_are_a_pair() -> None:
    assert stereo_matrix(3, 0) == stereo_matrix(3, FIVE_ONE) == [[1, 0, 0], [0, 1, 0]]


def test_places_above_the_listener_go_to_both_sides() -> None:
    assert stereo_matrix(3, 1 << 0 | 1 << 1 | 1 << 15) == [[1, 0, 0.5], [0, 1, 0.5]]

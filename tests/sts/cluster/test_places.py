from __future__ import annotations

import pytest

from babelcast.sts.cluster.places import Places

pytestmark = pytest.mark.unit


def first(places: Places, request: str, now: float = 0.0) -> str:
    return places.ranked(["a", "b", "c"], request, now)[0][0]


def test_sessions_that_come_at_once_are_spread_though_none_is_given_yet() -> None:
    places = Places()
    assert [first(places, name) for name in ("1", "2", "3", "4")] == ["a", "b", "c", "a"]


def test_equals_are_one_group_and_the_least_busy_come_first() -> None:
    places = Places()
    places.given("1", "b")
    places.given("2", "b")
    places.given("3", "c")
    places.given("4", "a")
    assert places.ranked(["a", "b", "c"], None, 0.0) == [["a", "c"], ["b"]]
    places.ended("3")
    assert places.ranked(["a", "b", "c"], None, 0.0) == [["c"], ["a"], ["b"]]


def test_a_choice_among_equals_upsets_the_others_by_one_at_most() -> None:
    places = Places()
    names = [str(number) for number in range(9)]
    chosen = []
    for name in names:
        group = places.ranked(["a", "b", "c"], name, 0.0)[0]
        chosen.append(group[-1])  # not the one that it leans to
    for name, replica in zip(names, chosen, strict=True):
        places.given(name, replica)
    assert max(chosen.count(replica) for replica in "abc") - min(chosen.count(replica) for replica in "abc") <= 2
    assert places.ranked(["a", "b", "c"], "10", 0.0)[0][0] == min("abc", key=chosen.count)


def test_what_was_given_elsewhere_counts_there() -> None:
    places = Places()
    assert first(places, "1") == "a"
    places.given("1", "b")
    assert places.ranked(["a", "b"], None, 0.0) == [["a"], ["b"]]


def test_a_request_that_asks_again_does_not_count_itself_and_one_that_never_arrives_is_forgotten() -> None:
    places = Places()
    assert first(places, "1") == first(places, "1") == "a"
    assert first(places, "2") == "b"
    assert places.ranked(["a", "b"], None, 6.0) == [["a", "b"]]


def test_a_replica_that_is_gone_takes_nothing_with_it() -> None:
    places = Places()
    places.given("1", "gone")
    assert places.ranked(["a"], "2", 0.0) == [["a"]]
    assert places.ranked([], "3", 0.0) == []
    places.ended("never seen")

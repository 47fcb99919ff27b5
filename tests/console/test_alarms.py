"""Latched until acknowledged, by the same condition once, and never too many."""

from __future__ import annotations

import pytest

from babelcast.console.alarms import MAX_ALARMS, AlarmBook
from babelcast.console.conditions import Condition, Severity

pytestmark = pytest.mark.unit


def condition(key: str = "a", severity: Severity = "alarm", after_s: float = 0.0, title: str = "it fails") -> Condition:
    return Condition(key, "show", severity, title, "mend it", after_s)


def test_it_stays_after_its_cause_until_somebody_has_seen_it() -> None:
    book = AlarmBook()
    book.update([condition()], 100)
    assert [(alarm.since_s, alarm.over_s) for alarm in book.alarms] == [(100, None)]
    for now in (101, 104, 200):
        book.update([], now)
    assert [alarm.over_s for alarm in book.alarms] == [100]
    assert book.acknowledge("a", "Ana", 201)
    assert book.alarms == [] and not book.acknowledge("a", "Ben", 202)


def test_acknowledged_it_stays_while_its_cause_lasts_and_goes_then() -> None:
    book = AlarmBook()
    book.update([condition()], 0)
    assert book.acknowledge("a", "Ana", 1) and book.acknowledge("a", "Ben", 2)
    (alarm,) = book.alarms
    assert (alarm.acknowledged_by, alarm.acknowledged_s, alarm.wants_attention) == ("Ana", 1, False)
    book.update([condition()], 5)
    assert len(book.alarms) == 1
    book.update([], 9)
    assert book.alarms == []
    book.update([condition()], 20)  # comes again: again for everybody to see
    assert book.alarms[0].wants_attention


def test_a_warning_goes_with_its_cause() -> None:
    book = AlarmBook()
    book.update([condition(severity="warning")], 0)
    book.update([], 3)
    assert book.alarms == []


def test_it_counts_once_it_has_held() -> None:
    book = AlarmBook()
    for now in (0, 2, 4):
        book.update([condition(after_s=5)], now)
        assert book.alarms == []
    book.update([condition(after_s=5)], 5)
    assert book.alarms[0].since_s == 0


def test_what_flaps_is_one_alarm_and_what_comes_again_is_counted() -> None:
    book = AlarmBook()
    for now in range(0, 20, 2):
        book.update([condition()] if now % 4 == 0 else [], now)
    (alarm,) = book.alarms
    assert (alarm.times, alarm.over_s) == (1, None)
    book.update([], 30)
    book.update([condition(title="it fails anew")], 40)
    (alarm,) = book.alarms
    assert (alarm.times, alarm.since_s, alarm.title) == (2, 40, "it fails anew")


def test_what_wants_attention_stands_first() -> None:
    book = AlarmBook()
    book.update([condition("seen"), condition("warned", "warning"), condition("old")], 0)
    book.update([condition("seen"), condition("warned", "warning"), condition("new")], 4)
    book.acknowledge("seen", "Ana", 5)
    assert [alarm.key for alarm in book.alarms] == ["new", "old", "warned", "seen"]


def test_there_are_never_too_many() -> None:
    book = AlarmBook()
    for number in range(3 * MAX_ALARMS):
        book.update([condition(str(number))], number * 10)
    assert len(book.alarms) <= MAX_ALARMS
    assert book.alarms[0].key == str(3 * MAX_ALARMS - 1)

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from babelcast.errors import BabelcastError, ConfigError
from babelcast.orchestrator import store as store_module
from babelcast.orchestrator.store import AsyncStore, Store

pytestmark = pytest.mark.unit


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store("sqlite://", now=lambda: 1000.0)
    yield made
    made.close()


def test_generations_go_on_after_a_restart(tmp_path: Path) -> None:
    times = iter([100.0, 200.0, 300.0])
    first = Store(f"sqlite:///{tmp_path / 'a.db'}", now=lambda: next(times))
    first.save_stream("a", 3, "on")
    first.close()
    second = Store(f"sqlite:///{tmp_path / 'a.db'}", now=lambda: next(times))
    second.save_stream("a", 2, "off")
    (row,) = second.streams()
    second.close()
    assert (row.generation, row.desired) == (3, "off"), "a generation never goes back"
    assert (row.first_seen, row.last_seen) == (100.0, 200.0)


def test_choices_are_replaced(store: Store) -> None:
    store.choose_destination("a", "youtube", False)
    store.choose_destination("a", "twitch", False)
    store.choose_destination("a", "youtube", True)
    assert store.destination_choices() == {("a", "youtube"): True, ("a", "twitch"): False}


def test_events_come_oldest_first_and_by_stream(store: Store) -> None:
    for number in range(5):
        store.add_event("worker_started", "ab"[number % 2], f"number {number}")
    assert [event.detail for event in store.events()] == [f"number {n}" for n in range(5)]
    assert [event.detail for event in store.events(limit=2)] == ["number 3", "number 4"]
    assert [event.detail for event in store.events(stream_id="b")] == ["number 1", "number 3"]
    assert [event.id for event in store.events(after=3)] == [4, 5]
    assert store.events()[0].time == 1000.0


def test_the_event_log_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_EVENTS", 3)
    for number in range(10):
        store.add_event("worker_started", "a", str(number))
    assert [event.detail for event in store.events()] == ["7", "8", "9"]


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    Store.in_directory(tmp_path).close()
    with sqlite3.connect(tmp_path / "orchestrator.db") as connection:
        connection.execute("UPDATE schema SET version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="schema version 99"):
        Store.in_directory(tmp_path)


def test_an_address_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError):
        Store("no-such-database://x")


def test_a_database_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(BabelcastError, match="can't be opened"):
        Store(f"sqlite:///{tmp_path / 'missing' / 'a.db'}")


async def test_one_that_is_given_up_is_over_before_the_next_begins() -> None:
    """Two threads on one connection, or one whose connection is closed, take the process along."""
    began, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def first(_: Store) -> None:
        began.set()
        go_on.wait(10)
        order.append("first")

    store = AsyncStore(Store("sqlite://"))
    given_up = asyncio.create_task(store.call(first))
    while not began.is_set():
        await asyncio.sleep(0.01)
    given_up.cancel()
    second = asyncio.create_task(store.call(lambda _: order.append("second")))
    await asyncio.wait([given_up, second], timeout=0.2)
    go_on.set()
    await asyncio.gather(given_up, second, return_exceptions=True)
    assert given_up.cancelled() and order == ["first", "second"]

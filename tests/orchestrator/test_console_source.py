"""Which streams the operator's page shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from babelcast.orchestrator.console_source import ConsoleSource
from babelcast.orchestrator.views import EventView, Views

pytestmark = pytest.mark.unit


class FakeViews:
    """Knows four streams, one of them of the config."""

    def current_ids(self) -> set[str]:
        return {"configured"}

    def knows(self, stream_id: str) -> bool:
        return stream_id in {"configured", "yesterday", "long-ago", "lately"}


def event(number: int, stream_id: str, ago: timedelta) -> EventView:
    when = datetime.now(UTC) - ago
    return EventView(id=number, time=when, kind="source_ready", stream_id=stream_id, detail="")


async def test_streams_of_the_last_day_are_shown_and_not_every_one_ever_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = [
        event(1, "long-ago", timedelta(days=30)),
        event(2, "yesterday", timedelta(hours=23)),
        event(3, "lately", timedelta(seconds=5)),
        event(4, "bridge", timedelta(seconds=1)),  # an order to it: no stream
    ]

    async def events(stream_id: str | None, after: int, limit: int) -> list[EventView]:
        return [each for each in told if each.id > after][:limit]

    source = ConsoleSource(cast(Views, FakeViews()), cast(Any, None), events, None)
    assert source.stream_ids() == ["configured"]
    assert len(await source.events(0, 100)) == 4
    assert source.stream_ids() == ["configured", "lately", "yesterday"]
    assert await source.bridge() is None
    monkeypatch.setattr("time.time", lambda: (datetime.now(UTC) + timedelta(hours=2)).timestamp())
    assert source.stream_ids() == ["configured", "lately"], "yesterday's is out of the day by now"

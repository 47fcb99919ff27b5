from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.fakes.virtual_time import run_virtual

from babelcast.sts.cluster.watch import Watch

pytestmark = pytest.mark.unit


class Serve:
    """Asks the health each second while ``asks``; ``members``: the replicas that are to run."""

    def __init__(self) -> None:
        self.asks = True
        self.members: set[str] | None = {"me", "other"}
        self.looked = 0

    async def who(self) -> set[str] | None:
        self.looked += 1
        return self.members

    async def watched(self, events: list[tuple[float, str]], *, for_s: float) -> float | None:
        """When the watch found out that it is removed; ``events``: what to change, and when."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        watch = Watch("me", self.who, clock=loop.time)

        async def asking() -> None:
            while True:
                if self.asks:
                    watch.asked()
                await asyncio.sleep(1.0)

        async def changing() -> None:
            for at, change in events:
                await asyncio.sleep(began + at - loop.time())
                match change:
                    case "not asked":
                        self.asks = False
                    case "asked":
                        self.asks = True
                    case "removed":
                        self.members = {"other"}
                    case "alone and removed":
                        self.members = set()
                    case "unknown":
                        self.members = None

        tasks = [asyncio.create_task(asking()), asyncio.create_task(changing())]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(for_s):
                    await watch.removed()
                    return loop.time() - began
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_while_it_is_asked_nobody_else_is() -> None:
    serve = Serve()
    assert run_virtual(serve.watched([], for_s=3600)) is None
    assert serve.looked == 1  # to know that it is a member


@pytest.mark.parametrize("gone", ["removed", "alone and removed"])
def test_not_asked_and_not_a_member_any_more_is_removed(gone: str) -> None:
    found = run_virtual(Serve().watched([(60.0, gone), (60.0, "not asked")], for_s=120))
    assert found is not None and 60.0 < found <= 63.5


def test_a_controller_that_is_away_removes_nobody() -> None:
    assert run_virtual(Serve().watched([(10.0, "not asked"), (100.0, "asked")], for_s=600)) is None
    assert run_virtual(Serve().watched([(10.0, "not asked"), (11.0, "unknown")], for_s=600)) is None


def test_a_replica_that_has_not_been_a_member_yet_is_still_starting() -> None:
    serve = Serve()
    serve.members, serve.asks = {"other"}, False
    assert run_virtual(serve.watched([], for_s=600)) is None

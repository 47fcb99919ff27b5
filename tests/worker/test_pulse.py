"""All that ticks is woken by one timer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from babelcast.worker.pulse import TICK_S, Pulse

pytestmark = pytest.mark.unit


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The beats that timers were set for."""
    loop = asyncio.get_running_loop()
    found, call_at = list[float](), loop.call_at

    def noted(when: float, *rest: Any) -> asyncio.TimerHandle:
        found.append(when / TICK_S)
        return call_at(when, *rest)

    monkeypatch.setattr(loop, "call_at", noted)
    return found


async def test_who_waits_for_the_same_beat_is_woken_by_one_timer(timers: list[float]) -> None:
    pulse = Pulse()
    await pulse.next_tick()  # what begins now waits for the same beat
    timers.clear()
    await asyncio.gather(*(pulse.next_tick() for _ in range(3)))
    assert len(timers) == 1


async def test_who_gives_up_takes_nobody_along() -> None:
    pulse = Pulse()
    await pulse.next_tick()
    leaving, staying = (asyncio.create_task(pulse.next_tick()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait_for(staying, 10)
    assert leaving.cancelled()


async def test_every_second_beat_is_one_of_all(timers: list[float]) -> None:
    pulse = Pulse()
    for _ in range(2):
        await pulse.next_tick(2)
    assert [round(beat) % 2 for beat in timers] == [0, 0]
    assert timers[0] < timers[1]

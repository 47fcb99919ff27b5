"""One pulse for all that ticks in a worker, so that the process wakes once, by one timer, for all of it."""

from __future__ import annotations

import asyncio

TICK_S = 0.1
"""As long as a block of sound. A worker at 20 ticks a second spends a sixth more, most of it on waking up."""


class Pulse:
    """Beats at the whole multiples of :data:`TICK_S` on the loop's clock, while somebody waits. For one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    async def next_tick(self, every: int = 1) -> None:
        """Wait for the next beat whose number is a multiple of ``every``."""
        loop = asyncio.get_running_loop()
        now = int(loop.time() / TICK_S)
        beat = now + every - now % every
        waiting = self._waiting.get(beat)
        if waiting is None:
            waiting = self._waiting[beat] = []
            loop.call_at(beat * TICK_S, self._strike, beat)
        future = loop.create_future()
        waiting.append(future)
        await future

    def _strike(self, beat: int) -> None:
        for future in self._waiting.pop(beat):
            if not future.done():
                future.set_result(None)

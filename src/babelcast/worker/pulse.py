"""One pulse for all that ticks in a worker, so that the process wakes once for all of it."""

from __future__ import annotations

import asyncio

TICK_S = 0.1
"""As long as a block of sound. A worker at 20 ticks a second spends a sixth more, most of it on waking up."""


async def next_tick(period_s: float = TICK_S) -> None:
    """Wait for the next whole multiple of ``period_s`` on the loop's clock."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(period_s - now % period_s)

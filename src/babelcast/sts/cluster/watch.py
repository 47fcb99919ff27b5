"""How a replica finds out that it is to go.

Ray Serve has no hook for that: it stops routing to a replica and waits for its requests to end, and a session is a
request that does not end. But it asks the health of those alone that are to run. So a replica that is not asked any
more looks whether it is still among those; if it is not, it is being removed (scale-down, redeployment, a node that is
emptied), and drains.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Members = Callable[[], Awaitable[set[str] | None]]
"""Ids of the replicas that are to run; None where that can't be found out: then nothing follows from it."""


class Watch:
    """``asked`` is to be called at each health check."""

    def __init__(
        self,
        me: str,
        members: Members,
        *,
        quiet_s: float = 2.5,
        every_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._me = me
        self._members = members
        self._quiet_s = quiet_s
        self._every_s = every_s
        self._clock = clock
        self._asked_at = clock()
        self._was_member = False

    def asked(self) -> None:
        self._asked_at = self._clock()

    async def removed(self) -> None:
        """Returns when this replica has been one of those that are to run, and is no longer."""
        while True:
            await asyncio.sleep(self._every_s)
            if self._was_member and self._clock() - self._asked_at < self._quiet_s:
                continue
            members = await self._members()
            if members is None:
                continue
            if self._me in members:
                self._was_member = True
            elif self._was_member:
                log.info("this replica is being removed", extra={"replica": self._me})
                return

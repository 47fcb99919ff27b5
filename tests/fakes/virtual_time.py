"""An event loop whose time passes only while nobody has anything to do: an hour in seconds, the same every time.

Sockets of this process work: what one end writes on loopback is there for the other before the loop's next look.
Threads don't: time would run away from them.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_S = 0.00005
"""How long is looked for what is on its way before time moves on."""


class _Selector(selectors.DefaultSelector):
    """Where it would wait, time moves instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        found = super().select(0)
        if not found:
            time.sleep(_LOOK_S)
            found = super().select(0 if timeout is not None else None)
        if not found and timeout is not None:
            self.now_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


class LoopClock:
    """The clock of the running event loop, virtual or not."""

    def now_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)

"""What long-running commands share: an end by Ctrl-C, SIGTERM or a terminal that is gone, that cleans up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_until_signalled(
    main: Coroutine[Any, Any, T], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> T | None:
    """Run ``main``; the first SIGINT, SIGTERM or SIGHUP cancels it and waits for its clean-up, and further ones are
    ignored. Under ``nohup`` SIGHUP stays ignored.

    Returns its result, or None when it was ended by a signal.
    """

    async def guarded() -> T | None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(main)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, _cancel_once(task))
        try:
            return await task
        except asyncio.CancelledError:
            return None

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(guarded())


def _cancel_once(task: asyncio.Task[T]) -> Any:
    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    return cancel

"""A worker inside the test's own event loop, and waiting for what it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from babelcast.spec import WorkerSpec
from babelcast.speech.base import SpeechBackend
from babelcast.worker.session import WorkerSession


@contextlib.asynccontextmanager
async def worker(spec: WorkerSpec, backend: SpeechBackend | None = None) -> AsyncIterator[WorkerSession]:
    """Runs while the block does; ends within the 3 s that a worker has for it, with some margin for a busy machine."""
    session = WorkerSession(spec, backend)
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        session.request_stop()
        await asyncio.wait_for(task, 5)


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.05)

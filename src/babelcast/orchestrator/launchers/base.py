"""What the orchestrator asks of whatever runs its workers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from babelcast.orchestrator.handle import Handle
from babelcast.spec import WorkerSpec


class Launcher(Protocol):
    """Implemented by process.ProcessLauncher (local processes).

    The truth about workers lives in the engine: :meth:`list` asks it each time and raises LaunchError when it
    can't tell, so that an empty answer is never a guess. A launcher never restarts a worker by itself; that is the
    reconcile step's business alone.
    """

    def running(self, changed: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Everything else is called inside. Workers that an earlier run left behind are found on entry.

        ``changed`` is called when a worker got ready or ended: a hint that :meth:`list` has news."""
        ...

    async def ensure(self, spec: WorkerSpec, generation: int) -> Handle:
        """Start a worker. The same stream and generation again return the handle there is. Does not wait for
        the worker to be ready; one that can't be started comes back as failed. Raises LaunchError while a worker
        of another generation lives."""
        ...

    async def stop(self, stream_id: str, grace_s: float) -> None:
        """Stop the stream's workers and return once they are gone: asked nicely, killed after ``grace_s``.
        Does nothing when there is none."""
        ...

    async def list(self) -> tuple[Handle, ...]:
        """Every worker that lives or has ended since it was last forgotten."""
        ...

    async def forget(self, stream_id: str) -> None:
        """Drop the records of the stream's ended workers."""
        ...

    async def erase(self, stream_id: str) -> None:
        """Remove all that is kept of the stream's ended workers: logs, dumps. Raises OSError."""
        ...

    async def logs(self, stream_id: str, tail: int) -> tuple[str, ...]:
        """The last ``tail`` lines that the stream's latest worker wrote, redacted."""
        ...

"""Work on a thread that must not be left half done."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def to_its_end(work: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """``asyncio.to_thread``, but who is cancelled meanwhile leaves only once the thread is through: what it works on
    may then be closed or dropped. It is begun in any case."""
    done = asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise

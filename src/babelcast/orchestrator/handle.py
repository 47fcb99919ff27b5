"""A worker as its launcher sees it: what the reconcile step compares with what is wanted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from babelcast.spec import WorkerSpec

LaunchState = Literal["pending", "running", "stopping", "succeeded", "failed", "lost"]
"""pending: started, not ready yet. lost: the launcher can't tell whether it runs (a node or a record is gone)."""

ACTIVE: frozenset[LaunchState] = frozenset({"pending", "running"})
ENDED: frozenset[LaunchState] = frozenset({"succeeded", "failed"})

EXIT_UNRECOVERABLE = 64
"""Exit status of a worker whose spec can never work (EX_USAGE): it is not tried again until the spec changes."""


@dataclass(frozen=True, slots=True)
class Handle:
    """One worker. ``reason`` is one sentence without secrets that says why it ended (or is being stopped);
    ``requested`` tells that the end was asked for. ``exit_code`` is negative for a signal, and None while it runs
    or when nobody could know: an adopted worker is not our child, and was killed before it left a word."""

    stream_id: str
    generation: int
    spec_hash: str
    state: LaunchState
    exit_code: int | None = None
    reason: str | None = None
    requested: bool = False
    pid: int | None = None
    status_url: str | None = None
    rss_bytes: int | None = None


def spec_hash(spec: WorkerSpec) -> str:
    """Changes with everything that a running worker would have to be restarted for: not with the generation, and not
    with what is changed on air."""
    text = spec.model_dump_json(exclude={"generation", "controls"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]

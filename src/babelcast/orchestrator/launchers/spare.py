"""A worker that is loaded already, and waits for a spec.

Most of a worker's start is loading: a second or two, which a stream on air would have to wait for when its worker was
killed, and a viewer for the first picture. So the launcher keeps one process that has done that part. What it shall
become it is told by a line on its standard input; when that is closed instead, it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from babelcast.errors import LaunchError
from babelcast.orchestrator.launchers.os_process import OsProcess

log = logging.getLogger(__name__)

_ROOM = "_" * 200
"""What it will be called later must fit where its arguments are now."""
SPARE_COMMAND = (sys.executable, "-m", "babelcast", "spare-worker", _ROOM)
_SOON_S = 1.0
_AFTER_A_START_S = 4.0
"""A worker that has just started needs the processor more."""
_END_S = 2.0


class SpareWorker:
    """At most one, made in the background. Call from the main thread's event loop where ``die_with_us`` (see
    OsProcess.spawn)."""

    def __init__(self, command: Sequence[str], *, die_with_us: bool) -> None:
        self._command = tuple(command)
        self._die_with_us = die_with_us
        self._process: OsProcess | None = None
        self._order: int | None = None  # its standard input
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """None while there is none."""
        return self._process.pid if self._process is not None else None

    def prepare(self, after_s: float = _SOON_S) -> None:
        """Have one made, if there is none. One that can't be made is not missed: workers then start as without."""
        if self._timer is None and self._process is None:
            self._timer = asyncio.get_running_loop().call_later(after_s, self._start)

    def _start(self) -> None:
        self._timer = None
        order, self._order = os.pipe()
        try:
            self._process = OsProcess.spawn(self._command, Path(os.devnull), die_with_us=self._die_with_us, stdin=order)
        except LaunchError as error:
            log.info("no worker is kept ready: %s", error)
            self._close_order()
        finally:
            os.close(order)

    def take(self, spec_file: Path, log_file: Path) -> OsProcess | None:
        """The spare as the worker of that spec; None where there is none. Another one is made a little later."""
        process, self._process = self._process, None
        try:
            if process is None or self._order is None:
                return None
            order = {"spec": str(spec_file), "log": str(log_file)}
            if process.alive and self._tell(json.dumps(order)):
                return process
            process.discard()
            return None
        finally:
            self._close_order()
            self.prepare(_AFTER_A_START_S)

    def _tell(self, order: str) -> bool:
        assert self._order is not None
        with contextlib.suppress(OSError):
            os.write(self._order, order.encode() + b"\n")  # less than a pipe takes at once
            return True
        return False

    async def aclose(self) -> None:
        """End the spare, and make no other."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_order()
        process, self._process = self._process, None
        if process is None:
            return
        await process.end(_END_S)
        process.close()

    def _close_order(self) -> None:
        order, self._order = self._order, None
        if order is not None:
            os.close(order)

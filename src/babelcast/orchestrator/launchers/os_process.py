"""A process of the operating system, our child or not, that can't be mistaken for another one. Linux.

A PID may be used again. A process is therefore named by PID *and* start time (field 22 of ``/proc/<pid>/stat``),
and held by a pidfd, which goes on meaning the same process after it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from babelcast.errors import LaunchError
from babelcast.process import dies_with_us, start_time

log = logging.getLogger(__name__)

KILLED_WITHIN_S = 5.0
"""A process that hangs in a system call (a dead disk) ends later than its SIGKILL; nobody waits longer for it."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class OsProcess:
    """Started by :meth:`spawn` or taken over by :meth:`adopt`; :meth:`close` when it has ended."""

    def __init__(self, pid: int, started: float, pidfd: int) -> None:
        self.pid = pid
        self.start_time = started
        self._pidfd: int | None = pidfd

    @classmethod
    def spawn(
        cls, argv: Sequence[str], output: Path, *, die_with_us: bool, stdin: int = subprocess.DEVNULL
    ) -> OsProcess:
        """Run ``argv`` in a session of its own, its output appended to ``output``. ``stdin``: a file descriptor.

        ``die_with_us``: the kernel kills it when the thread that calls this ends, so call from the main thread.
        """
        shim = dies_with_us() if die_with_us else []
        try:
            with output.open("ab") as log:
                popen = subprocess.Popen(
                    [*shim, *argv],
                    stdin=stdin,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches us alone; and killing the group kills its children
                )
        except OSError as error:
            raise LaunchError(f"the worker can't be started: {error.strerror}") from error
        # until it is reaped its number can't be given to another process
        try:
            pidfd = os.pidfd_open(popen.pid)
        except OSError as error:  # no descriptor is free
            popen.kill()
            popen.wait()
            raise LaunchError(f"the worker can't be watched: {error.strerror}") from error
        popen.returncode = 0  # hands off: wait() below reaps it, and we may leave it running when we end
        return cls(popen.pid, start_time(popen.pid) or 0.0, pidfd)

    @classmethod
    def adopt(cls, pid: int, started: float) -> OsProcess | None:
        """The process ``pid`` if it is still the one that started then, else None."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if start_time(pid) != started:
            os.close(pidfd)
            return None
        return cls(pid, started, pidfd)

    @property
    def alive(self) -> bool:
        """Whether it runs: one that has ended and was not waited for does not."""
        return start_time(self.pid) == self.start_time

    async def wait(self) -> int | None:
        """Until it ends: its exit status (negative for a signal), or None for a process that is not our child."""
        assert self._pidfd is not None
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)  # a pidfd is readable once its process has ended
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        return self._reap()

    def _reap(self) -> int | None:
        try:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(self.pid) == self.pid:  # a zombie holds its number, so these are its own children
                    os.killpg(self.pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return None

    async def end(self, grace_s: float) -> bool:
        """SIGTERM, SIGKILL after ``grace_s``; back once it is gone. True where it had to be killed. Not for one that
        somebody else waits for."""
        self.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
            return False
        except TimeoutError:
            self.kill()
        try:
            async with asyncio.timeout(KILLED_WITHIN_S):
                await self.wait()
        except TimeoutError:
            log.error("a process can't be killed: the system holds it", extra={"pid": self.pid})
        return True

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process and to what it started."""
        if self._signal(signal.SIGSTOP):  # while it is held, the number of its group can't mean another one
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> bool:
        if self._pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def rss_bytes(self) -> int | None:
        """Resident memory now; None once it has ended."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return None

    def discard(self) -> None:
        """Kill and reap a child that is of no use."""
        self.kill()
        self._reap()
        self.close()

    def close(self) -> None:
        """Signals do nothing from here on."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

"""Child processes: started with a deadline, watched, restarted, and never left behind."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import json
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from babelcast.errors import BabelcastError, LaunchError
from babelcast.telemetry.redact import redact

log = logging.getLogger(__name__)

_LAST_WORDS_S = 1.0
_SHIM = Path(__file__).with_name("die_with_parent.py")

_PIPES_S = 2.0
"""So long what it started may hold its pipes after it."""

ReadyProbe = Callable[[], Awaitable[bool]]


def dies_with_us() -> list[str]:
    """What to put before a command so that the kernel kills it when we end, however we end. Linux; else nothing.

    The request is tied to the *thread* that starts the child, so start it from the main thread.
    """
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid())]


def how_it_ended(status: int) -> str:
    """What follows the name of a process that has ended, for whoever runs the show."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (somebody, or the kernel for want of memory)" if name == "SIGKILL" else "")


def start_time(pid: int) -> float | None:
    """Clock ticks since boot at which ``pid`` started (field 22 of ``/proc/<pid>/stat``); None when there is no such
    process or it is a zombie. PID and start time together name a process: a PID alone is used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold blanks and brackets
    return None if fields[0] in "ZX" else float(fields[19])


def show_arguments(arguments: Sequence[str]) -> None:
    """Have others (``ps``, ``/proc/<pid>/cmdline``) see these arguments as ours, as far as there is room for them: they
    are written over those that we were started with. Linux; else nothing.

    The package setproctitle would put a title over the environment as well, by which a run's processes are found; told
    not to, it needs the same room as this.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat[stat.rindex(")") + 2 :].split()
        begin, end = int(fields[45]), int(fields[46])  # fields 48 and 49: arg_start, arg_end
        text = b"\0".join(os.fsencode(argument) for argument in arguments) + b"\0"
        ctypes.memset(begin, 0, end - begin)
        ctypes.memmove(begin, text, min(len(text), end - begin - 1))


def write_exit(folder: Path, status: int) -> None:
    """Leave our exit status in ``folder/exit.json``, as the last thing we do: whoever adopted us is not our parent and
    can't learn it otherwise. Where there is none, we were killed or crashed."""
    pid = os.getpid()
    record = {"pid": pid, "pid_start_time": start_time(pid), "status": status}
    temporary = folder / "exit.json.tmp"
    with contextlib.suppress(OSError):  # a full disk must not change how we end
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(folder / "exit.json")


def read_exit(folder: Path, pid: int, started: float) -> int | None:
    """The exit status that the process of that PID and start time left; None where it left none."""
    try:
        record = json.loads((folder / "exit.json").read_bytes())
        same = record["pid"] == pid and record["pid_start_time"] == started
        return int(record["status"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Child:
    """One program that runs for as long as we do.

    Readiness is asked of ``ready`` (a probe that answers True once the program serves). After the start a crash
    is answered by a restart with backoff (0.5 s doubling to 30 s, ±20 %); so is a program that has not answered
    ``ready`` for ``hung_after_s``: it is killed first. Its output goes to our log line by line, redacted; the last
    lines are kept to explain a failed start.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        ready: ReadyProbe,
        env: Mapping[str, str] | None = None,
        start_timeout_s: float = 20.0,
        grace_s: float = 3.0,
        hung_after_s: float = 15.0,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._argv = list(argv)
        self._ready = ready
        self._env = dict(os.environ) | dict(env or {})
        self._start_timeout_s = start_timeout_s
        self._grace_s = grace_s
        self._hung_after_s = hung_after_s
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: collections.deque[str] = collections.deque(maxlen=20)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Child]:
        """Started on entry (raises LaunchError when it does not come up), watched inside, stopped on exit."""
        try:
            await self._start()
            watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")
            try:
                yield self
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
        finally:
            await self._stop()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def _start(self) -> None:
        self._last_lines.clear()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *dies_with_us(),
                *self._argv,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we end our children in order
            )
        except OSError as error:
            raise LaunchError(f"{self.name} can't be started: {error}") from error
        await self._stop_reading()
        self._reader = asyncio.create_task(self._forward_output(self._process), name=f"output of {self.name}")
        await self._wait_until_ready(self._process)

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        deadline = asyncio.get_running_loop().time() + self._start_timeout_s
        while not await self._ready():
            if process.returncode is not None:
                _kill_group(process)
                await self._stop_reading()  # its last words
                how = how_it_ended(process.returncode)
                raise LaunchError(f"{self.name} was not ready when it {how}: {self._words()}")
            if asyncio.get_running_loop().time() > deadline:
                raise LaunchError(f"{self.name} was not ready after {self._start_timeout_s:.0f} s: {self._words()}")
            await asyncio.sleep(0.05)

    def _words(self) -> str:
        return " | ".join(list(self._last_lines)[-5:]) or "it said nothing"

    async def _forward_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line beyond the reader's limit: drop it, the stream goes on
                continue
            if not line:
                return
            text = redact(line.decode("utf-8", "replace").rstrip())
            self._last_lines.append(text)
            log.debug("%s", text, extra={"child": self.name})

    async def _watch(self) -> None:
        backoff_s = 0.5
        while True:
            assert self._process is not None
            started = asyncio.get_running_loop().time()
            status = await self._end_of(self._process)
            if asyncio.get_running_loop().time() - started > 60:
                backoff_s = 0.5
            _kill_group(self._process)
            await self._stop_reading()  # its last words
            log.error("%s %s, restarting: %s", self.name, how_it_ended(status), self._words())
            while True:
                await asyncio.sleep(backoff_s * random.uniform(0.8, 1.2))
                backoff_s = min(30.0, backoff_s * 2)
                self.restarts += 1
                try:
                    await self._start()
                except BabelcastError as error:
                    log.error("%s", error)
                    await self._stop()
                    continue
                log.info("%s is back", self.name)
                break

    async def _end_of(self, process: asyncio.subprocess.Process) -> int:
        """Its exit status once it has ended, by itself or because it hung."""
        loop = asyncio.get_running_loop()
        answered = loop.time()
        while True:
            try:
                async with asyncio.timeout(self._hung_after_s / 5):
                    return await process.wait()
            except TimeoutError:
                pass
            if await self._ready():
                answered = loop.time()
            elif process.returncode is None and loop.time() - answered > self._hung_after_s:
                log.error("%s has not answered for %.0f s and is killed", self.name, self._hung_after_s)
                _kill_group(process)

    async def _stop(self) -> None:
        try:
            await self._end()
        finally:
            await self._stop_reading()

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await asyncio.wait({reader}, timeout=_LAST_WORDS_S)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._grace_s):
                await process.wait()
        except TimeoutError:
            log.warning("%s did not end within %.0f s and is killed", self.name, self._grace_s)
            _kill_group(process)
            await process.wait()
        _kill_group(process)


async def end(process: asyncio.subprocess.Process, grace_s: float = 0.0) -> None:
    """Ask it to end, kill it where it has not after ``grace_s``, and reap it. Nobody else may be reading its output:
    what is left of that is thrown away, because asyncio counts a process as ended only when its pipes are.

    Not cancelled half-way: it is killed then.
    """
    drains = [asyncio.create_task(_drain(stream)) for stream in (process.stdout, process.stderr) if stream is not None]
    try:
        if grace_s and process.returncode is None:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await process.wait()
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            _kill_group(process)
        last = [*drains, asyncio.create_task(process.wait())]
        await asyncio.wait(last, timeout=_PIPES_S)
        for task in last:
            task.cancel()
        await asyncio.gather(*last, return_exceptions=True)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Not by asyncio's own methods: they reap a process that has just ended behind the back of who waits for it,
    and then it is logged as unknown, and its status is lost."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """It and what it started. Of one that has just ended: what it left behind, whose group has its number."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

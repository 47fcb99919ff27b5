"""Workers that are not workers, and a rule: none of them may be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from babelcast.orchestrator.supervisor import SupervisionPolicy

FAKE_WORKER = Path(__file__).parents[1] / "fakes" / "fake_worker.py"

FAST = SupervisionPolicy(
    start_timeout_s=5.0, health_interval_s=0.1, health_timeout_s=0.4, health_misses=2, unwell_grace_s=0.3
)


class FakeWorkers:
    """The command that starts a fake worker, its behaviour, and which of them live."""

    def __init__(self, folder: Path) -> None:
        self._behaviour = folder / "behaviour"
        self.command = [sys.executable, "-I", "-S", str(FAKE_WORKER), "--behaviour-file", str(self._behaviour)]

    def behave(self, *words: str) -> None:
        self._behaviour.write_text(" ".join(words))

    def pids(self) -> list[int]:
        """Fake workers of this test that are alive (zombies are not)."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    arguments = (folder / "cmdline").read_bytes().split(b"\0")
                    if str(self._behaviour).encode() in arguments and b"--spec" in arguments:
                        found.append(int(folder.name))
        return found


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[FakeWorkers]:
    fakes = FakeWorkers(tmp_path)
    yield fakes
    left = fakes.pids()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"workers left behind: {left}"


async def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    """Wait for ``condition``; the test fails by name when it does not come true."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {timeout_s:g} s: {what}")

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from babelcast.errors import LaunchError
from babelcast.process import Child, end, how_it_ended, read_exit, start_time, write_exit

pytestmark = pytest.mark.integration


def program(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return path.exists()

    return probe


async def never() -> bool:
    return False


def test_how_it_ended_is_said_in_words() -> None:
    assert how_it_ended(3) == "ended with exit status 3"
    assert how_it_ended(-15) == "was killed by SIGTERM"
    assert "for want of memory" in how_it_ended(-9)
    assert how_it_ended(-63).startswith("was killed by ")


async def test_it_is_ready_then_ended(tmp_path: Path) -> None:
    up = tmp_path / "up"
    child = Child("x", program(f"import time; open({str(up)!r}, 'w'); time.sleep(60)"), ready=exists(up))
    async with child.running():
        assert child.pid is not None
        os.kill(child.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_one_that_ends_at_start_is_explained_without_its_secrets() -> None:
    child = Child("x", program("print('rtmp://h/app/SECRET is taken'); raise SystemExit(3)"), ready=never)
    with pytest.raises(LaunchError, match=r"status 3: rtmp://h/app/\*\*\* is taken"):
        async with child.running():
            pass


async def test_one_that_never_is_ready_is_given_up_and_ended() -> None:
    child = Child("x", program("import time; time.sleep(60)"), ready=never, start_timeout_s=0.3)
    with pytest.raises(LaunchError, match="not ready"):
        async with child.running():
            pass
    assert child.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_one_that_is_killed_comes_back(tmp_path: Path) -> None:
    up = tmp_path / "up"
    child = Child("x", program(f"import time; open({str(up)!r}, 'w'); time.sleep(60)"), ready=exists(up))
    async with child.running():
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while child.pid == first:
                await asyncio.sleep(0.05)
        assert child.restarts == 1


async def test_a_grandchild_that_holds_its_output_leaves_no_task_behind(tmp_path: Path) -> None:
    up = tmp_path / "up"
    text = f"import subprocess, time; subprocess.Popen(['sleep', '5']); open({str(up)!r}, 'w'); time.sleep(60)"
    child = Child("parent of a sleeper", program(text), ready=exists(up))

    def readers() -> int:
        return sum(task.get_name() == "output of parent of a sleeper" for task in asyncio.all_tasks())

    async with child.running():
        first = child.pid
        assert first is not None and readers() == 1
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while child.restarts == 0 or child.pid == first:
                await asyncio.sleep(0.05)
        assert readers() == 1
    assert readers() == 0


async def test_one_that_hangs_is_killed_and_comes_back(tmp_path: Path) -> None:
    up = tmp_path / "up"
    child = Child(
        "x", program(f"import time; open({str(up)!r}, 'w'); time.sleep(60)"), ready=exists(up), hung_after_s=0.5
    )
    async with child.running():
        first = child.pid
        await asyncio.sleep(1)
        assert child.pid == first
        up.unlink()  # it stops to answer, until it is started again
        async with asyncio.timeout(10):
            while child.pid == first or not up.exists():
                await asyncio.sleep(0.05)
        assert child.restarts == 1


async def test_one_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    up = tmp_path / "up"
    stubborn = program(
        f"""
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(up)!r}, 'w')
        time.sleep(60)
        """
    )
    child = Child("x", stubborn, ready=exists(up), grace_s=0.3)
    async with child.running():
        pass
    assert child.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_children_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    grandchild = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = program(
        f"""
        import asyncio, os, sys
        from babelcast.process import Child
        async def main():
            async def ready(): return os.path.exists({str(pid_file)!r})
            async with Child("x", [sys.executable, "-c", {grandchild!r}], ready=ready).running():
                await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    with subprocess.Popen(parent) as process:
        wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        process.kill()
    pid = int(pid_file.read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def wait_until(condition: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.05)


def test_an_exit_status_that_is_left_is_that_process_s_alone(tmp_path: Path) -> None:
    pid, started = os.getpid(), start_time(os.getpid()) or 0.0
    assert read_exit(tmp_path, pid, started) is None
    write_exit(tmp_path, 64)
    assert read_exit(tmp_path, pid, started) == 64
    assert read_exit(tmp_path, pid, started + 1) is None, "another one with the same number"
    (tmp_path / "exit.json").write_text('{"pid":')
    assert read_exit(tmp_path, pid, started) is None


def test_a_worker_leaves_its_exit_status(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    command = [sys.executable, "-m", "babelcast", "worker", "--spec", str(tmp_path / "spec.json")]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 64
    assert json.loads((tmp_path / "exit.json").read_text())["status"] == 64


async def _writes_without_end(*, deaf: bool = False) -> asyncio.subprocess.Process:
    code = "import signal\n" + ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else "")
    return await asyncio.create_subprocess_exec(
        *program(code + "import sys\nwhile True: sys.stdout.write('x' * 4096)"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize(("grace_s", "deaf", "status"), [(5.0, False, -15), (0.3, True, -9), (0.0, False, -9)])
async def test_a_process_whose_output_nobody_reads_is_ended_and_reaped(grace_s: float, deaf: bool, status: int) -> None:
    process = await _writes_without_end(deaf=deaf)
    assert process.stdout is not None
    await process.stdout.read(1)
    await asyncio.sleep(0.2)  # more than its reader takes, so that asyncio has paused it
    async with asyncio.timeout(4):
        await end(process, grace_s)
    assert process.returncode == status and process.stdout.at_eof()


async def test_a_process_is_killed_where_its_ending_is_cancelled() -> None:
    process = await _writes_without_end(deaf=True)
    assert process.stdout is not None
    await process.stdout.read(1)
    task = asyncio.create_task(end(process, 60.0))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert process.returncode == -9

"""Real child processes: started, watched, stopped, killed, adopted."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from babelcast.errors import LaunchError
from babelcast.orchestrator.handle import Handle, LaunchState
from babelcast.orchestrator.launchers.folder import WorkerFolder
from babelcast.orchestrator.launchers.os_process import OsProcess
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.supervisor import SupervisionPolicy
from babelcast.process import start_time
from babelcast.spec import BackendSpec, TargetSpec, WorkerSpec
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually

pytestmark = pytest.mark.integration


def spec(stream_id: str = "a") -> WorkerSpec:
    target = TargetSpec(language="es", output_url=f"rtmp://127.0.0.1/live/{stream_id}/out")
    backend = BackendSpec.model_validate({"kind": "sts", "url": "http://127.0.0.1:1", "token": "t0ken-in-spec"})
    ingest = f"rtmp://127.0.0.1/live/{stream_id}/in"
    return WorkerSpec(stream_id=stream_id, ingest_url=ingest, targets=(target,), backend=backend)


def launcher(
    tmp_path: Path, workers: FakeWorkers, policy: SupervisionPolicy = FAST, *, adopt: bool = False
) -> ProcessLauncher:
    orphans = "adopt" if adopt else "die"
    return ProcessLauncher(tmp_path / "state", orphans=orphans, command=workers.command, policy=policy)  # type: ignore[arg-type]


async def only(made: ProcessLauncher) -> Handle:
    (handle,) = await made.list()
    return handle


async def in_state(made: ProcessLauncher, state: LaunchState, timeout_s: float = 15.0) -> Handle:
    async with asyncio.timeout(timeout_s):
        while (handle := await only(made)).state != state:
            await asyncio.sleep(0.02)
    return handle


async def test_a_worker_starts_gets_ready_and_stops(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers)
    async with made.running():
        pending = await made.ensure(spec(), 1)
        assert (pending.state, pending.generation) == ("pending", 1)
        running = await in_state(made, "running")
        assert workers.pids() == [running.pid]
        assert running.status_url is not None
        await made.stop("a", 5.0)
        ended = await only(made)
        assert (ended.state, ended.requested, ended.exit_code) == ("succeeded", True, 0)
        assert workers.pids() == []
        await made.stop("a", 5.0)
        await made.forget("a")
        assert await made.list() == ()


async def test_ensure_is_idempotent_and_refuses_a_second_worker(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers)
    async with made.running():
        first = await made.ensure(spec(), 1)
        again = await made.ensure(spec(), 1)
        assert again.pid == first.pid
        with pytest.raises(LaunchError, match="generation 1"):
            await made.ensure(spec(), 2)
        await in_state(made, "running")
        assert len(workers.pids()) == 1


async def test_the_spec_is_private_and_gone_with_the_worker(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers)
    async with made.running():
        await made.ensure(spec(), 1)
        await in_state(made, "running")
        file = tmp_path / "state" / "workers" / "a" / "1" / "spec.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert "t0ken-in-spec" in file.read_text()
        await made.stop("a", 5.0)
        assert not file.exists()
        on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"t0ken-in-spec" not in on_disk


async def test_a_program_that_is_not_there_is_a_failed_worker(tmp_path: Path, workers: FakeWorkers) -> None:
    made = ProcessLauncher(tmp_path / "state", command=["/nowhere/worker"], policy=FAST)
    async with made.running():
        handle = await made.ensure(spec(), 1)
        assert handle.state == "failed"
        assert "No such file" in (handle.reason or "")
        assert await only(made) == handle


async def test_one_that_can_not_be_recorded_is_not_left_running(
    tmp_path: Path, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = launcher(tmp_path, workers)
    async with made.running():
        monkeypatch.setattr(WorkerFolder, "write_launch", full)
        handle = await made.ensure(spec(), 1)
        assert handle.state == "failed" and "No space left" in (handle.reason or "")
        assert workers.pids() == []
        monkeypatch.undo()
        await made.ensure(spec(), 2)
        async with asyncio.timeout(15):
            while not [each for each in await made.list() if each.state == "running"]:
                await asyncio.sleep(0.02)


async def test_one_that_never_gets_ready_is_killed(tmp_path: Path, workers: FakeWorkers) -> None:
    workers.behave("never-ready", "ignore-term")
    made = launcher(tmp_path, workers, replace(FAST, start_timeout_s=1.0))
    async with made.running():
        await made.ensure(spec(), 1)
        handle = await in_state(made, "failed")
        assert handle.reason == "not ready after 1 s"
        assert handle.exit_code == -signal.SIGKILL
        assert workers.pids() == []


async def test_one_that_hangs_is_killed(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers)
    async with made.running():
        await made.ensure(spec(), 1)
        await in_state(made, "running")
        workers.behave("hang")
        handle = await in_state(made, "failed")
        assert handle.reason == "did not answer 2 health checks in a row"


async def test_one_that_takes_too_much_memory_is_ended(tmp_path: Path, workers: FakeWorkers) -> None:
    workers.behave("leak=80")
    made = launcher(tmp_path, workers, replace(FAST, memory_limit=60 << 20))
    async with made.running():
        await made.ensure(spec(), 1)
        handle = await in_state(made, "failed")
        assert "more than 60 MB" in (handle.reason or "")


@pytest.mark.parametrize("status", [1, 64])
async def test_an_exit_status_comes_with_the_last_words(tmp_path: Path, workers: FakeWorkers, status: int) -> None:
    workers.behave(f"exit={status}")
    made = launcher(tmp_path, workers)
    async with made.running():
        await made.ensure(spec(), 1)
        handle = await in_state(made, "failed")
        assert (handle.exit_code, handle.requested) == (status, False)
        assert handle.reason == f"the worker ended with exit status {status}: asked to fail"


async def test_one_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path, workers: FakeWorkers) -> None:
    workers.behave("ignore-term")
    made = launcher(tmp_path, workers)
    async with made.running():
        await made.ensure(spec(), 1)
        await in_state(made, "running")
        stopping = asyncio.create_task(made.stop("a", 0.5))
        await in_state(made, "stopping")
        await stopping
        handle = await only(made)
        assert (handle.state, handle.exit_code, handle.requested) == ("succeeded", -signal.SIGKILL, True)
        assert workers.pids() == []


async def test_logs_are_bounded_and_redacted(tmp_path: Path, workers: FakeWorkers) -> None:
    workers.behave("chatty")
    made = launcher(tmp_path, workers, replace(FAST, log_limit=10_000))
    async with made.running():
        await made.ensure(spec(), 1)
        folder = WorkerFolder(tmp_path / "state" / "workers" / "a" / "1")
        await eventually((folder.path / "worker.log.1").exists, "the log is rotated")
        await asyncio.sleep(0.5)
        assert folder.log_file.stat().st_size < 40_000
        assert (folder.path / "worker.log.1").stat().st_size < 40_000
        with folder.log_file.open("a") as log:
            log.write("pushing to rtmp://third.example/app/the-key\n")
        lines = await made.logs("a", 5)
        assert len(lines) == 5
        assert not any("the-key" in line for line in lines)
        assert await made.logs("unknown", 5) == ()


async def test_leaving_stops_every_worker(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers)
    async with made.running():
        await made.ensure(spec("a"), 1)
        await made.ensure(spec("b"), 1)
        await eventually(lambda: len(workers.pids()) == 2, "both run")
    assert workers.pids() == []


async def test_a_worker_is_adopted_by_the_next_launcher(tmp_path: Path, workers: FakeWorkers) -> None:
    first = launcher(tmp_path, workers, adopt=True)
    async with first.running():
        await first.ensure(spec(), 3)
        before = await in_state(first, "running")
    assert workers.pids() == [before.pid]
    second = launcher(tmp_path, workers)
    async with second.running():
        after = await in_state(second, "running")
        assert (after.pid, after.generation, after.spec_hash) == (before.pid, 3, before.spec_hash)
        assert (await second.ensure(spec(), 3)).pid == before.pid
        await second.stop("a", 5.0)
        assert (await only(second)).state == "succeeded"
    assert workers.pids() == []


async def test_a_worker_whose_spec_can_not_be_read_is_not_left_to_itself(tmp_path: Path, workers: FakeWorkers) -> None:
    first = launcher(tmp_path, workers, adopt=True)
    async with first.running():
        await first.ensure(spec(), 3)
        before = await in_state(first, "running")
    spec_file = tmp_path / "state" / "workers" / "a" / "3" / "spec.json"
    spec_file.write_text(json.dumps(json.loads(spec_file.read_text()) | {"setting_of_another_version": 1}))
    second = launcher(tmp_path, workers)
    async with second.running():
        after = await in_state(second, "running")
        assert after.pid == before.pid and after.spec_hash != before.spec_hash, "it is replaced"
        with pytest.raises(LaunchError):
            await second.ensure(spec(), 4)
        await second.stop("a", 5.0)
        assert workers.pids() == []


@pytest.mark.parametrize("left", [64, 0, None])
async def test_an_adopted_worker_s_exit_status_is_what_it_left(
    tmp_path: Path, workers: FakeWorkers, left: int | None
) -> None:
    first = launcher(tmp_path, workers, adopt=True)
    async with first.running():
        await first.ensure(spec(), 3)
        pid = (await in_state(first, "running")).pid
    assert pid is not None
    script = f"import asyncio, sys; {ADOPT}"
    folder = tmp_path / "state" / "workers" / "a" / "3"
    record = {"pid": pid, "pid_start_time": start_time(pid), "status": left}
    if left is not None:
        (folder / "exit.json").write_text(json.dumps(record))
    adopter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "state"), stdout=subprocess.PIPE
    )
    assert adopter.stdout is not None
    async with asyncio.timeout(30):
        assert await adopter.stdout.readline() == b"adopted\n"
        workers.behave(f"exit-now={left or 0}")
        words = (await adopter.stdout.readline()).decode().split(maxsplit=2)
        await adopter.wait()
    wanted = {64: ["failed", "64"], 0: ["succeeded", "0"], None: ["failed", "None"]}[left]
    assert words[:2] == wanted
    if left is None:
        assert "left no exit status" in words[2]


ADOPT = """
from pathlib import Path
from babelcast.orchestrator.launchers.process import ProcessLauncher

async def main(state):
    launcher = ProcessLauncher(Path(state), orphans="adopt")
    async with launcher.running():
        while (await launcher.list())[0].state != "running":
            await asyncio.sleep(0.05)
        print("adopted", flush=True)
        while (handle := (await launcher.list())[0]).state not in ("failed", "succeeded"):
            await asyncio.sleep(0.05)
        print(handle.state, handle.exit_code, handle.reason, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_worker_that_died_meanwhile_is_not_adopted(tmp_path: Path, workers: FakeWorkers) -> None:
    first = launcher(tmp_path, workers, adopt=True)
    async with first.running():
        await first.ensure(spec(), 1)
        pid = (await in_state(first, "running")).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: workers.pids() == [], "it is dead")
    second = launcher(tmp_path, workers)
    async with second.running():
        assert await second.list() == ()


async def test_another_process_with_the_same_number_is_left_alone(tmp_path: Path, workers: FakeWorkers) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        folder = WorkerFolder(tmp_path / "state" / "workers" / "a" / "1")
        folder.create(spec())
        folder.write_launch(stranger.pid, (start_time(stranger.pid) or 0.0) - 1)
        made = launcher(tmp_path, workers)
        async with made.running():
            assert await made.list() == ()
        assert stranger.returncode is None and start_time(stranger.pid) is not None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_one_started_but_not_recorded_is_lost_until_it_reports(tmp_path: Path, workers: FakeWorkers) -> None:
    """The orchestrator was killed between starting the worker and writing down its PID."""
    folder = WorkerFolder(tmp_path / "state" / "workers" / "a" / "1")
    folder.create(spec())
    made = launcher(tmp_path, workers)
    async with made.running():
        lost = await only(made)
        assert (lost.state, lost.generation) == ("lost", 1)
        argv = [*workers.command, "--spec", str(folder.spec_file)]
        process = OsProcess.spawn(argv, folder.log_file, die_with_us=True)
        process.close()
        found = await in_state(made, "running")
        assert found.pid == process.pid


async def test_one_launcher_per_state_directory(tmp_path: Path, workers: FakeWorkers) -> None:
    async with launcher(tmp_path, workers).running():
        with pytest.raises(LaunchError, match="another orchestrator"):
            async with launcher(tmp_path, workers).running():
                pass


LAUNCH_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.spec import WorkerSpec

async def main(state, spec, orphans, *command):
    launcher = ProcessLauncher(Path(state), orphans=orphans, command=command)
    async with launcher.running():
        await launcher.ensure(WorkerSpec.model_validate_json(spec), 1)
        while (await launcher.list())[0].state != "running":
            await asyncio.sleep(0.05)
        print("running", flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("orphans", ["die", "adopt"])
async def test_a_killed_orchestrator(tmp_path: Path, workers: FakeWorkers, orphans: str) -> None:
    """With SIGKILL, so that nobody can clean up: the worker dies with it, or goes on and is adopted."""
    arguments = [str(tmp_path / "state"), spec().model_dump_json(), orphans, *workers.command]
    orchestrator = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LAUNCH_AND_WAIT, *arguments, stdout=subprocess.PIPE
    )
    assert orchestrator.stdout is not None
    async with asyncio.timeout(30):
        assert await orchestrator.stdout.readline() == b"running\n"
    before = workers.pids()
    orchestrator.kill()
    await orchestrator.wait()
    if orphans == "die":
        await eventually(lambda: workers.pids() == [], "the worker dies with the orchestrator")
        return
    await asyncio.sleep(0.3)
    assert workers.pids() == before
    made = launcher(tmp_path, workers)
    async with made.running():
        handle = await in_state(made, "running")
        assert [handle.pid] == before
        workers.behave("hang")
        await in_state(made, "failed")
    assert workers.pids() == []

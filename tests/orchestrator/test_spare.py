"""A worker that is kept ready: used once, replaced, never left behind, and never needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from babelcast.orchestrator.launchers.process import ProcessLauncher
from babelcast.orchestrator.launchers.spare import SPARE_COMMAND
from babelcast.orchestrator.supervisor import SupervisionPolicy
from babelcast.process import start_time
from tests.orchestrator.conftest import FAST, FakeWorkers, eventually
from tests.orchestrator.test_process_launcher import in_state, spec

pytestmark = pytest.mark.integration

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fakes" / "fake_spare.py"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("babelcast.orchestrator.launchers.spare._SOON_S", 0.0)
    monkeypatch.setattr("babelcast.orchestrator.launchers.spare._AFTER_A_START_S", 0.0)


def launcher(
    tmp_path: Path, workers: FakeWorkers, spare: Sequence[str] = FAKE, policy: SupervisionPolicy = FAST
) -> ProcessLauncher:
    return ProcessLauncher(tmp_path / "state", orphans="die", command=workers.command, policy=policy, spare=spare)


def pid_of(made: ProcessLauncher) -> int | None:
    assert made._spare is not None
    return made._spare.pid


def _was_made(made: ProcessLauncher) -> bool:
    """Or it was tried."""
    assert made._spare is not None
    return made._spare._timer is None


async def test_the_spare_becomes_the_worker_and_another_one_is_made(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers)
    async with made.running():
        await eventually(lambda: pid_of(made) is not None, "a spare")
        first = pid_of(made)
        handle = await made.ensure(spec(), 1)
        assert handle.pid == first
        running = await in_state(made, "running")
        assert running.pid == first
        assert any("fake worker of a pulls" in line for line in await made.logs("a", 5))
        await eventually(lambda: pid_of(made) not in (None, first), "another one")
        second = pid_of(made)
        await made.stop("a", 5.0)
        assert (await in_state(made, "succeeded")).exit_code == 0
    assert second is not None and start_time(second) is None, "the one that was not used has ended too"


@pytest.mark.parametrize("spare", [("/nowhere/spare",), (sys.executable, "-c", "pass")])
async def test_without_a_spare_that_lives_a_worker_starts_as_ever(
    tmp_path: Path, workers: FakeWorkers, spare: Sequence[str]
) -> None:
    made = launcher(tmp_path, workers, spare)
    async with made.running():
        await eventually(lambda: _was_made(made) and start_time(pid_of(made) or 0) is None, "none that lives")
        await made.ensure(spec(), 1)
        running = await in_state(made, "running")
        assert workers.pids() == [running.pid]


async def test_the_real_one_becomes_what_it_is_told(tmp_path: Path, workers: FakeWorkers) -> None:
    made = launcher(tmp_path, workers, SPARE_COMMAND, SupervisionPolicy(start_timeout_s=60.0))
    async with made.running():
        await eventually(lambda: pid_of(made) is not None, "a spare")
        first = pid_of(made)
        handle = await made.ensure(spec(), 1)
        assert handle.pid == first
        await in_state(made, "running", timeout_s=60.0)  # that of a real one takes its time
        shown = Path(f"/proc/{first}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        assert shown.endswith(f"babelcast worker --spec {tmp_path}/state/workers/a/1/spec.json")
        assert any("worker listens" in line for line in await made.logs("a", 20))
        await made.stop("a", 5.0)
        assert (await in_state(made, "succeeded")).exit_code == 0

"""The real egress process: supplied, adopted, killed, hung, left behind; seen from the destination."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from babelcast.egress.client import EgressClient
from babelcast.egress.wire import Delivery
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.orchestrator.egress_process import EgressPolicy, EgressProcess
from babelcast.orchestrator.launchers.process import OrphanPolicy
from babelcast.process import start_time
from tests.egress.rig import PATH, pictures, programme
from tests.fakes.rtmp_destination import FakeDestination
from tests.orchestrator.conftest import eventually

pytestmark = pytest.mark.integration

KEY = "s3cret-k3y-0123456789"
POLICY = EgressPolicy(poll_s=0.1, answer_s=0.5, hung_after_s=1.5, steady_s=0.0)


class Rig:
    """A programme on a relay, a destination, and a state directory with a long name."""

    def __init__(self, tmp_path: Path, relay: Relay, third: FakeDestination) -> None:
        self.relay, self.third = relay, third
        self.state = tmp_path / ("a-long-name-" * 9) / "state"
        self.left: list[int] = []

    @property
    def folder(self) -> Path:
        return self.state / "egress"

    def delivery(self, name: str = "third-party") -> Delivery:
        source = f"{self.relay.rtmp_url}/{PATH}"
        return Delivery(stream_id="show", source_url=source, name=name, url=self.third.url, key=SecretStr(KEY))

    @contextlib.asynccontextmanager
    async def egress(self, orphans: OrphanPolicy = "die") -> AsyncIterator[EgressProcess]:
        made = EgressProcess(self.state, orphans=orphans, policy=POLICY)
        await made.start()
        try:
            yield made
        finally:
            if made.pid:
                self.left.append(made.pid)
            await made.stop()

    async def supplied(self, made: EgressProcess, *, sessions: int = 1) -> int:
        """Once pictures flow in the ``sessions``-th session: the PID of what sends them."""

        def flows() -> bool:
            found = self.third.sessions[sessions - 1 :]
            return bool(found) and len(pictures(found[0])) > 10

        await eventually(flows, "pictures at the destination", 30)
        state = [status.state for status in made.statuses().values()]
        await eventually(lambda: [s.state for s in made.statuses().values()] == ["live"], f"it is seen, not {state}")
        assert made.error is None and made.pid is not None
        return made.pid


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay, FakeDestination().listening() as third:
        made = Rig(tmp_path, relay, third)
        async with programme(relay, pace_s=0.02):
            yield made
        for pid in made.left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_it_starts_when_there_is_something_to_send_and_tells_no_key(rig: Rig) -> None:
    async with rig.egress() as made:
        made.want([])
        await asyncio.sleep(0.3)
        assert not rig.folder.joinpath("egress.json").exists() and made.error is None and not made.statuses()
        made.want([rig.delivery()])
        pid = await rig.supplied(made)
        status = made.statuses()["show", "third-party"]
        assert status.bytes_sent > 0 and status.age_s < 2
        assert rig.third.sessions[0].path == f"app/{KEY}"
        told = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        told += [file.read_bytes() for file in rig.folder.rglob("*") if file.is_file()]
        assert not any(KEY.encode() in each for each in told)
        assert rig.folder.stat().st_mode & 0o077 == 0
        made.want([])
        await eventually(lambda: rig.third.sessions[0].said_goodbye, "a goodbye")
        assert made.pid == pid
    assert start_time(pid) is None


async def test_a_bug_on_the_way_ends_no_talk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig.egress() as made:
        made.want([rig.delivery()])
        pid = await rig.supplied(made)
        with monkeypatch.context() as patched:

            def buggy(self: EgressClient) -> None:
                raise ZeroDivisionError("oops")

            patched.setattr(EgressClient, "report", buggy)
            await eventually(lambda: made.error is not None, "it is said")
        await eventually(lambda: made.error is None, "it goes on")
        made.want([])
        await eventually(lambda: rig.third.sessions[0].said_goodbye, "a goodbye")
        assert made.pid == pid


async def test_the_next_orchestrator_adopts_it_and_the_destination_notices_nothing(rig: Rig) -> None:
    async with rig.egress("adopt") as first:
        first.want([rig.delivery()])
        pid = await rig.supplied(first)
    assert start_time(pid) is not None
    seen = len(pictures(rig.third.sessions[0]))
    await eventually(lambda: len(pictures(rig.third.sessions[0])) > seen + 20, "it goes on by itself")
    async with rig.egress("adopt") as second:
        await eventually(lambda: bool(second.statuses()), "it is asked before anything is wanted")
        assert second.pid == pid
        second.want([rig.delivery()])
        seen = len(pictures(rig.third.sessions[0]))
        await eventually(lambda: len(pictures(rig.third.sessions[0])) > seen + 20, "the same set changes nothing")
        assert rig.third.attempts == 1
        got = pictures(rig.third.sessions[0])
        assert got == list(range(got[0], got[0] + len(got))), "no picture is missing"
        second.want([rig.delivery(), rig.delivery("another")])
        await eventually(lambda: len(rig.third.sessions) == 2, "a later set is followed")
    async with rig.egress("die") as third:
        third.want([rig.delivery()])
        await eventually(lambda: third.pid not in (None, pid), "with `up` it must be one that dies with us", 20)
        assert start_time(pid) is None
        await rig.supplied(third, sessions=3)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_one_that_dies_or_hangs_is_replaced_and_the_destination_resumed(rig: Rig, how: signal.Signals) -> None:
    errors: list[str] = []
    async with rig.egress() as made:
        made.want([rig.delivery()])
        pid = await rig.supplied(made)
        os.kill(pid, how)
        began = asyncio.get_running_loop().time()

        def replaced() -> bool:
            if made.error:
                errors.append(made.error)
            return made.pid not in (None, pid)

        await eventually(replaced, "another one", 30)
        assert await rig.supplied(made, sessions=2) != pid
        print(f"{how.name}: pictures again after {asyncio.get_running_loop().time() - began:.1f} s")
    assert start_time(pid) is None
    assert errors, "it was seen"
    if how == signal.SIGSTOP:
        assert "does not answer (for" in errors[0]


async def test_there_is_one_in_a_folder(rig: Rig) -> None:
    async with rig.egress() as made:
        made.want([rig.delivery()])
        await rig.supplied(made)
        command = [sys.executable, "-m", "babelcast", "egress", "--folder", str(rig.folder)]
        second = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        assert second.stderr is not None
        words = (await second.stderr.read()).decode()
        assert await second.wait() == 1
        assert "another egress process" in words and "Traceback" not in words
        await rig.supplied(made)


HOLD = """
import asyncio, sys
from pathlib import Path
from babelcast.egress.wire import Delivery
from babelcast.orchestrator.egress_process import EgressProcess

async def main(state, orphans, delivery):
    egress = EgressProcess(Path(state), orphans=orphans)
    await egress.start()
    egress.want([Delivery.model_validate_json(delivery)])
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("orphans", ["die", "adopt"])
async def test_an_orchestrator_that_is_killed(rig: Rig, orphans: OrphanPolicy) -> None:
    delivery = rig.delivery().model_copy(update={"key": None, "url": f"{rig.third.url}/x"})
    command = [sys.executable, "-c", HOLD, str(rig.state), orphans, delivery.model_dump_json()]
    orchestrator = await asyncio.create_subprocess_exec(*command)
    try:
        await eventually(lambda: bool(rig.third.sessions and pictures(rig.third.sessions[0])), "pictures", 30)
    finally:
        orchestrator.kill()
        await orchestrator.wait()
    session = rig.third.sessions[0]
    if orphans == "die":
        await eventually(lambda: session.closed, "it ends with what started it")
        return
    seen = len(pictures(session))
    await eventually(lambda: len(pictures(session)) > seen + 30, "it goes on")
    async with rig.egress("adopt") as made:
        made.want([delivery])
        await rig.supplied(made)
        assert rig.third.attempts == 1

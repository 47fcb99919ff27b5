"""What Ray Serve costs the speech service, and what is lost when a node or a replica goes.

``.venv-ray/bin/python bench/ray_serve.py`` (after ``make setup-ray``) prints markdown tables. The tone mock costs
nothing, so what is measured is the service and what is before it: the plain service and Ray Serve's proxy with one
replica, each in processes of its own on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.sts.cluster.nodes import Nodes, Program, children_of, cluster, free_port
from tests.sts.cluster.talk import Talk, talking

from overhead import FRAGMENT_S, by_rest, by_websocket

FRAGMENTS = 60
LIVE_FRAGMENTS = 16
LIVE_PAUSE_S = 0.1
IDLE_S = 10.0
SESSIONS = 8
KILLS = 2
NOTE = """
Fragments follow each other at once, but at a live session's pace: one in 1.5 s. The time without an answer is what a
session waited beyond the rhythm of its sounds: half a second of it is the client's pause before it tries again."""
Way = Callable[[str, int], Awaitable[list[float]]]
WAYS: dict[str, Way] = {"REST": by_rest, "WebSocket": by_websocket}


@contextlib.contextmanager
def plain() -> Iterator[Program]:
    """``babelcast sts``, without Ray."""
    port = free_port()
    command = [sys.executable, "-m", "babelcast", "sts", "--engine", "tone", "--max-sessions", "8", "--port", str(port)]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            program = Program(process, Path(log.name), f"http://127.0.0.1:{port}")
            program.until(lambda health: health.get("status") == "ok")
            yield program
        finally:
            process.terminate()
            process.wait(20)


async def overhead(url: str) -> dict[str, list[float]]:
    """Seconds per fragment, by contract and clients at once."""
    found = {}
    for name, way in WAYS.items():
        await way(url, 10)
        found[f"{name}, one client"] = await way(url, FRAGMENTS)
        several = await asyncio.gather(*(way(url, FRAGMENTS // 2) for _ in range(4)))
        found[f"{name}, four clients"] = [spent for each in several for spent in each]
    for clients, number in (("one client", 1), ("four clients", 4)):
        several = await asyncio.gather(*(by_websocket(url, LIVE_FRAGMENTS, LIVE_PAUSE_S) for _ in range(number)))
        found[f"WebSocket at a live session's pace, {clients}"] = [spent for each in several for spent in each]
    return found


def cost(pids: list[int]) -> tuple[float, float]:
    """CPU seconds so far, and MB of memory (shared pages by their share)."""
    ticks, kilobytes = 0, 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), kilobytes / 1024


def idle(pids: list[int]) -> tuple[float, float]:
    """Share of a core, and MB, while nobody asks for anything."""
    before, _ = cost(pids)
    time.sleep(IDLE_S)
    after, megabytes = cost(pids)
    return (after - before) / IDLE_S, megabytes


def milliseconds(spent: list[float], share: float) -> str:
    return f"{1e3 * float(np.percentile(spent, share)):.0f} ms"


def side_by_side() -> Iterator[str]:
    with plain() as program:
        bare = asyncio.run(overhead(program.url))
        bare_idle = idle([program.process.pid])
    with cluster() as nodes:
        began = time.monotonic()
        nodes.start(cpus=2, head=True)
        node_s = time.monotonic() - began
        began = time.monotonic()
        program = nodes.service("--max-sessions", "8", port=free_port()).ready()
        service_s = time.monotonic() - began
        on_ray = asyncio.run(overhead(program.url))
        ray_idle = idle([pid for process in nodes.running for pid in (process.pid, *children_of(process.pid))])
        program.end()
    yield f"| fragment of {FRAGMENT_S} s, P50 / P95 / worst | plain | on Ray Serve | added at P50 |"
    yield "|---|---|---|---|"
    for name, spent in bare.items():
        both = [" / ".join(milliseconds(each, share) for share in (50, 95, 100)) for each in (spent, on_ray[name])]
        added = float(np.percentile(on_ray[name], 50) - np.percentile(spent, 50))
        yield f"| {name} | {both[0]} | {both[1]} | {1e3 * added:.0f} ms |"
    yield ""
    yield "| idle, one replica | of a core | memory |"
    yield "|---|---|---|"
    yield f"| plain | {100 * bare_idle[0]:.1f} % | {bare_idle[1]:.0f} MB |"
    yield f"| on Ray Serve, head node and the command included | {100 * ray_idle[0]:.1f} % | {ray_idle[1]:.0f} MB |"
    yield ""
    yield f"A head node was up after {node_s:.1f} s, the service on it {service_s:.1f} s later."


def row(what: str, talks: list[Talk], since: float) -> str:
    moved = [talk for talk in talks if talk.session.reopened]
    holes = [talk.recovered_s(since) for talk in moved]
    sounds = sum(len(talk.spoken) for talk in talks)
    twice = sum(len(talk.spoken) - len(set(talk.spoken)) for talk in talks)
    missing = sum(max(talk.spoken) + 1 - len(set(talk.spoken)) for talk in talks)
    others = [lag for talk in talks if talk not in moved for lag in talk.lags()]
    worst = f"{max(others):.2f} s" if others else "-"
    return (
        f"| {what} | {len(moved)} of {len(talks)} | {float(np.median(holes)):.2f} s / {max(holes):.2f} s "
        f"| {sounds} | {twice} / {missing} | {worst} |"
    )


async def killed(nodes: Nodes, program: Program) -> str:
    victim = nodes.start(cpus=1)
    await asyncio.to_thread(program.until, lambda health: spread(health) == [0, 0])
    async with talking(program.url, SESSIONS) as talks:
        await asyncio.sleep(5.0)
        since = time.monotonic()
        nodes.kill(victim)
        await asyncio.sleep(8.0)
    return row("node killed (SIGKILL for all of it)", talks, since)


def spread(health: dict[str, object]) -> list[int]:
    replicas = health.get("replicas", [])
    assert isinstance(replicas, list)
    return sorted(replica["sessions"] for replica in replicas)


async def redeployed(nodes: Nodes, program: Program, options: list[str], port: int) -> str:
    (old,) = program.replicas()
    async with talking(program.url, SESSIONS) as talks:
        await asyncio.sleep(5.0)
        since = time.monotonic()
        nodes.service(*options, port=port)
        await asyncio.to_thread(program.until, lambda health: spread(health) == [SESSIONS] and old not in str(health))
        await asyncio.sleep(3.0)
    return row("redeployed", talks, since)


def ends() -> Iterator[str]:
    yield (
        f"| {SESSIONS} sessions | cut off or moved | extra time without an answer, median / longest | sounds answered "
        "| twice / never | longest lag of the others |"
    )
    yield "|---|---|---|---|---|---|"
    options = ["--max-sessions", str(SESSIONS)]
    for _ in range(KILLS):
        with cluster() as nodes:
            nodes.start(cpus=1, head=True)
            program = nodes.service(*options, "--replicas", "2", port=free_port())
            yield asyncio.run(killed(nodes, program))
    with cluster() as nodes:
        nodes.start(cpus=2, head=True)
        port = free_port()
        program = nodes.service(*options, port=port).ready()
        yield asyncio.run(redeployed(nodes, program, options, port))


def main() -> None:
    if importlib.util.find_spec("ray") is None:
        print("Not run: Ray is not installed (`make setup-ray`, then `.venv-ray/bin/python bench/ray_serve.py`).")
        return
    for line in side_by_side():
        print(line)
    print()
    for line in ends():
        print(line, flush=True)
    print(NOTE)


if __name__ == "__main__":
    main()

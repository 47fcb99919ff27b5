"""``babelcast sts --ray`` as a user types it: on this machine alone, detached, and where it can't work."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.fakes.speech import flite
from tests.sts.cluster.nodes import Program, children_of, cluster, free_port

from babelcast.wire import PROCESS_PATH

pytestmark = [pytest.mark.integration, pytest.mark.ray, pytest.mark.timeout(180)]

STS = [sys.executable, "-m", "babelcast", "sts", "--ray"]


def process(url: str, pcm: bytes) -> dict[str, object]:
    body = {"fragment_id": "f", "stream_id": "s", "sequence_number": 0, "duration_ms": len(pcm) // 32}
    body |= {"sample_rate": 16_000, "channels": 1, "audio": base64.b64encode(pcm).decode()}
    body |= {"source_language": "en", "target_language": "es"}
    request = urllib.request.Request(
        url + PROCESS_PATH, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_on_this_machine_alone_with_the_offline_chain_and_nothing_is_left(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    before = set(Path("/tmp").glob("bc-ray-*"))
    with log.open("wb") as out:
        started = subprocess.Popen([*STS, "--port", str(port)], stdout=out, stderr=out, start_new_session=True)
    program = Program(started, log, f"http://127.0.0.1:{port}")
    try:
        program.ready()
        pcm = flite("the weather is good today")
        answer = process(program.url, pcm[: len(pcm) // 32 * 32])
        assert answer["transcript"] and answer["translation"] and base64.b64decode(str(answer["audio"])).strip(b"\0")
        children = children_of(started.pid)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to all of the group
        assert started.wait(60) == 0, program.output
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
    assert "sts ready at http://127.0.0.1:" in program.output and "Traceback" not in program.output
    end = time.monotonic() + 10
    while any(alive(pid) for pid in children):
        assert time.monotonic() < end, [pid for pid in children if alive(pid)]
        time.sleep(0.2)
    assert set(Path("/tmp").glob("bc-ray-*")) == before


def alive(pid: int) -> bool:
    """And no zombie, which whoever is its parent now has to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_left_running_and_removed_by_another_call() -> None:
    with cluster() as nodes:
        nodes.start(cpus=2, head=True)
        port = free_port()
        options = ["--engine", "tone", "--port", str(port), "--ray-address", nodes.address]

        def call(*more: str) -> subprocess.CompletedProcess[str]:
            command = [*STS, *options, *more]
            return subprocess.run(command, env=nodes.env, capture_output=True, text=True, timeout=90, check=False)

        left = call("--detach")
        assert left.returncode == 0 and "left running as babelcast-sts" in left.stdout, left
        assert process(f"http://127.0.0.1:{port}", bytes(32_000))["transcript"] == ""
        removed = call("--remove")
        assert removed.returncode == 0, removed
        with pytest.raises(OSError):
            process(f"http://127.0.0.1:{port}", bytes(32_000))
        again = call("--remove")
        assert again.returncode == 1 and "there is no babelcast-sts on this cluster" in again.stderr


def test_a_replica_that_can_not_start_says_why() -> None:
    with cluster() as nodes:
        nodes.start(cpus=2, head=True)
        command = [*STS, "--ray-address", nodes.address, "--port", str(free_port()), "--asr", "faster-whisper:none"]
        found = subprocess.run(command, env=nodes.env, capture_output=True, text=True, timeout=120, check=False)
        assert found.returncode == 1
        assert "the replicas do not start" in found.stderr and "babelcast models pull" in found.stderr, found.stderr


def test_no_cluster_at_the_address_says_so_at_once() -> None:
    command = [*STS, "--ray-address", f"127.0.0.1:{free_port()}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 1
    assert "no Ray cluster at 127.0.0.1:" in found.stderr and "ray start --head" in found.stderr

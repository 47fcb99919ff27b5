"""``babelcast sts --ray`` as a user types it: on this machine alone, detached, and where it can't work."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.fakes.speech import flite
from tests.fakes.tiny_models import opus
from tests.sts.cluster.nodes import Program, children_of, cluster, free_port

from babelcast.errors import SpeechError
from babelcast.speech.base import SpeechTarget
from babelcast.speech.sts_stream import StsStreamBackend
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


def test_on_this_machine_alone_with_engines_that_batch_and_nothing_is_left(tmp_path: Path) -> None:
    port, log, model = free_port(), tmp_path / "log", opus(tmp_path / "opus-mt-en-es")
    command = [*STS, "--port", str(port), "--mt", f"ctranslate2:{model}"]
    before = set(Path("/tmp").glob("bc-ray-*"))
    with log.open("wb") as out:
        started = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    program = Program(started, log, f"http://127.0.0.1:{port}")
    try:
        program.ready()
        pcm = flite("the weather is good today")
        answer = process(program.url, pcm[: len(pcm) // 32 * 32])
        assert answer["transcript"]
        with urllib.request.urlopen(f"{program.url}/metrics", timeout=10) as page:
            text = page.read().decode()
        (name,) = program.replicas()
        assert re.search(rf'sts_batch_size_count{{engine="[^"]+",replica="{name}"}} [1-9]', text), text
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


async def opened(url: str, token: str | None) -> str:
    """The voice of a session; raises SpeechError."""
    backend = StsStreamBackend(url, token=token)
    try:
        session = await backend.open(SpeechTarget("show", "en", "es"))
        await session.aclose()
        return session.ready.voice
    finally:
        await backend.aclose()


def test_left_running_with_a_token_and_removed_by_another_call() -> None:
    with cluster() as nodes:
        nodes.start(cpus=2, head=True)
        port, token = free_port(), secrets.token_hex(16)
        url = f"http://127.0.0.1:{port}"
        options = ["--engine", "tone", "--port", str(port), "--ray-address", nodes.address]

        def call(*more: str) -> subprocess.CompletedProcess[str]:
            env = {**nodes.env, "BABELCAST_STS_TOKEN": token, "BABELCAST_STS_RESUME_KEY": token[::-1]}
            command = [*STS, *options, *more]
            return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)

        left = call("--detach")
        assert left.returncode == 0 and "left running as babelcast-sts" in left.stdout, left
        assert asyncio.run(opened(url, token))
        for wrong in (None, "another"):
            with pytest.raises(SpeechError) as refused:
                asyncio.run(opened(url, wrong))
            assert refused.value.code == "unauthorized" and not refused.value.retryable
        with pytest.raises(urllib.error.HTTPError, match="401"):
            process(url, bytes(32_000))
        assert [path for path in nodes.files() if contains(path, token, token[::-1])] == []
        removed = call("--remove")
        assert removed.returncode == 0, removed
        with pytest.raises(SpeechError, match="can't be reached"):
            asyncio.run(opened(url, token))
        again = call("--remove")
        assert again.returncode == 1 and "there is no babelcast-sts on this cluster" in again.stderr


def contains(path: Path, *secrets_of_ours: str) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return any(secret.encode() in data for secret in secrets_of_ours)


def test_replicas_share_a_gpu_and_the_one_that_has_no_room_is_named() -> None:
    with cluster() as nodes:
        nodes.start(cpus=4, gpus=1, head=True)  # counted by Ray, not there
        options = ["--replicas", "3", "--gpus-per-replica", "0.5"]
        program = nodes.service(*options, port=free_port()).ready(2)
        said = "waiting for replicas: 2 of 3 run (each takes 1 CPU and 0.5 GPU of the cluster)"
        program.until(lambda _: said in program.output)
        assert len(program.replicas()) == 2
        assert program.end() == 0


def test_replicas_that_can_not_start_say_why_and_what_was_there_goes_on() -> None:
    with cluster() as nodes:
        nodes.start(cpus=3, head=True)
        port = free_port()
        program = nodes.service(port=port).ready()
        before = program.replicas()
        command = [*STS, "--ray-address", nodes.address, "--port", str(port), "--asr", "faster-whisper:none"]
        found = subprocess.run(command, env=nodes.env, capture_output=True, text=True, timeout=120, check=False)
        assert found.returncode == 1
        assert "the replicas do not start" in found.stderr and "there is no model" in found.stderr, found.stderr
        assert program.replicas().keys() == before.keys() and asyncio.run(opened(program.url, None))
        assert program.end() == 0


def test_no_cluster_at_the_address_says_so_at_once() -> None:
    command = [*STS, "--ray-address", f"127.0.0.1:{free_port()}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 1
    assert "no Ray cluster at 127.0.0.1:" in found.stderr and "ray start --head" in found.stderr

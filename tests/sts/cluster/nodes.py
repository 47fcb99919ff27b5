"""A real Ray cluster on this machine, made by Ray's own command, and the service on it by ours."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_UP_S = 60.0


def children_of(pid: int) -> list[int]:
    """All processes below ``pid``."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_text()
            parents[int(text.split()[0])] = int(text.rpartition(")")[2].split()[1])
    found, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


class Nodes:
    """Use :func:`cluster`. ``env`` is what programs need to reach it."""

    def __init__(self, folder: Path, port: int) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = f"127.0.0.1:{port}"
        self.env = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # both nodes see one machine: its memory and disks are no reason to end anything here
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_local_fs_capacity_threshold": "0.999",
        }

    def start(self, *, cpus: int, gpus: int = 0, head: bool = False) -> subprocess.Popen[bytes]:
        """A node that is up, in the foreground of a process of its own."""
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--num-cpus={cpus}"]
        command += [f"--num-gpus={gpus}", "--object-store-memory=100000000", "--disable-usage-stats"]
        if head:
            command += ["--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false"]
            command += [f"--temp-dir={self._folder}", "--node-ip-address=127.0.0.1"]
        else:
            command += [f"--address={self.address}"]
        return self._spawn(command, until="Ray runtime started")

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """SIGKILL for all of it at once, as when the machine loses its power."""
        for pid in [node.pid, *children_of(node.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait(10)

    @property
    def running(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._processes if process.poll() is None]

    def end(self) -> None:
        """Of everything that was started, the last first."""
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill(process)

    def files(self) -> list[Path]:
        """What Ray and the programs have written, logs above all."""
        return [path for path in self._folder.rglob("*") if path.is_file()]

    def service(self, *options: str, port: int) -> Program:
        command = [sys.executable, "-m", "babelcast", "sts", "--ray", "--ray-address", self.address]
        command += ["--engine", "tone", "--ray-proxies", "head", "--port", str(port), *options]
        log = self._log()
        return Program(self._spawn(command), log, f"http://127.0.0.1:{port}")

    def _log(self) -> Path:
        return self._folder / f"{len(self._processes)}.log"

    def _spawn(self, command: list[str], until: str | None = None) -> subprocess.Popen[bytes]:
        with self._log().open("wb") as log:
            process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
        said, end = self._log(), time.monotonic() + _UP_S
        self._processes.append(process)
        while until and until not in said.read_text(errors="replace"):
            assert process.poll() is None and time.monotonic() < end, said.read_text(errors="replace")[-3000:]
            time.sleep(0.1)
        return process


class Program:
    """``babelcast sts --ray`` in the foreground."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, url: str) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def health(self) -> dict[str, Any]:
        """What /healthz says; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
            return dict(json.loads(body)) if error.code == 503 and body.startswith(b"{") else {}
        except OSError:
            return {}

    def replicas(self) -> dict[str, dict[str, Any]]:
        return {replica["replica"]: replica for replica in self.health().get("replicas", [])}

    def until(self, condition: Callable[[dict[str, Any]], object], within_s: float = _UP_S) -> dict[str, Any]:
        """Health, once ``condition`` holds for it."""
        end = time.monotonic() + within_s
        while not condition(health := self.health()):
            assert self.process.poll() is None, f"ended: {self.output[-3000:]}"
            assert time.monotonic() < end, f"{health}\n{self.output[-3000:]}"
            time.sleep(0.2)
        return health

    def ready(self, replicas: int = 1) -> Program:
        self.until(lambda health: len(health.get("replicas", [])) >= replicas)
        return self

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C does; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def cluster() -> Iterator[Nodes]:
    """The folder is short (Ray's sockets below it must have paths of 107 characters at most), and goes with the block,
    as does every process that was started in it."""
    folder = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    nodes = Nodes(folder, free_port())
    try:
        yield nodes
    finally:
        nodes.end()
        shutil.rmtree(folder, ignore_errors=True)

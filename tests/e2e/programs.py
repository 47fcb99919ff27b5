"""Whole programs as a user runs them, and what can be seen of them from outside."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_MARK = "BABELCAST_TEST_MARK"


def babelcast(*args: str) -> list[str]:
    return [sys.executable, "-m", "babelcast", *args]


def new_mark() -> str:
    """Put into a program's environment, from which everything that it starts has it."""
    return secrets.token_hex(8)


def marked(mark: str) -> dict[int, str]:
    """PID → command line of every living process that carries ``mark``."""
    wanted, found = f"{_MARK}={mark}".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found  # a zombie has no environment


async def until(
    condition: Callable[[], Awaitable[Any] | Any], what: str, within_s: float = 30.0, every_s: float = 0.1
) -> Any:
    """The first true thing that ``condition`` gives."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(every_s)


STOPPED_S = 15.0
"""An end takes one or two seconds; where the machine is busy, the three that each program has until it is killed."""


@dataclass
class Program:
    """A running command. ``lines``: what it said so far, on both channels."""

    process: asyncio.subprocess.Process
    mark: str
    started: float
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def processes(self, containing: str = "") -> list[int]:
        return [pid for pid, command in marked(self.mark).items() if containing in command]

    async def says(self, pattern: str, within_s: float = 30.0) -> re.Match[str]:
        """Wait for a line that holds ``pattern``."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text)
            assert found or self.process.returncode is None, f"it ended without {pattern!r}: {self.text}"
            return found

        match: re.Match[str] = await until(look, f"a line with {pattern!r} in: {self.text}", within_s, 0.02)
        return match

    async def ends(self, within_s: float = 10.0) -> int:
        """Its exit status; every word of it is then in ``lines``."""
        status = await asyncio.wait_for(self.process.wait(), within_s)
        await asyncio.sleep(0.05)
        return status

    async def interrupt(self) -> tuple[int, float]:
        """Ctrl-C: exit status, and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        return await self.ends(), time.monotonic() - began

    async def all_gone(self, within_s: float = 5.0) -> None:
        await until(lambda: not marked(self.mark), f"no process left, but: {marked(self.mark)}", within_s)


@contextlib.asynccontextmanager
async def program(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> AsyncIterator[Program]:
    """Start a command; at the end nothing that it started is left."""
    mark = new_mark()
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(os.environ) | {_MARK: mark, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | (env or {}),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
        start_new_session=True,
    )
    running = Program(process, mark, time.monotonic())

    async def read() -> None:
        assert process.stdout
        async for line in process.stdout:
            running.lines.append(line.decode(errors="replace").rstrip())

    reader = asyncio.create_task(read())
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for pid in marked(mark):  # a test that fails must not spoil the next one
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Up:
    """``babelcast up`` with one stream, ``show``."""

    program: Program
    rtmp: str
    api: str
    ready_s: float
    http: aiohttp.ClientSession

    @property
    def publish_url(self) -> str:
        return f"{self.rtmp}/live/show/in"

    @property
    def watch_url(self) -> str:
        return f"{self.rtmp}/live/show/out"

    async def get(self, path: str) -> Any:
        async with self.http.get(self.api + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def stream(self) -> dict[str, Any]:
        view: dict[str, Any] = await self.get("/api/v1/streams/show")
        return view

    async def target(self) -> dict[str, Any]:
        """What the worker says of its only programme; empty while it does not answer."""
        status = (await self.stream())["status"]
        return dict(status["targets"][0]) if status else {}


def config_text(folder: Path, *, server: str = "relay", settings: str = "", stream: str = "", more: str = "") -> str:
    """``settings`` are of ``defaults``, ``stream`` of the stream, ``more`` of the file."""
    return (
        f"media_server: {server}\n"
        f"listen: {{host: 127.0.0.1, rtmp: {free_port()}, rtsp: 0, srt: null, webrtc: null, api: {free_port()}}}\n"
        f"state_dir: {folder / 'state'}\n"
        f"{more}\n"
        f"defaults: {{{settings}}}\n"
        f"streams:\n  show: {{{stream}}}\n"
    )


@contextlib.asynccontextmanager
async def up(folder: Path, text: str, token: str | None = None) -> AsyncIterator[Up]:
    """``babelcast up`` from its ready line on."""
    file = folder / "babelcast.yaml"
    file.write_text(text)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        program(*babelcast("up", "--config", str(file))) as running,
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=5)) as http,
    ):
        line = await running.says(r"ready: publish to (rtmp://\S+)/live/show/in · watch \S+ · API (http://\S+)/docs")
        yield Up(running, line[1], line[2], time.monotonic() - running.started, http)


@contextlib.asynccontextmanager
async def relay() -> AsyncIterator[tuple[str, str]]:
    """A media server of its own: API and RTMP address."""
    api, rtmp = free_port(), free_port()
    async with program(*babelcast("relay", "--rtmp-port", str(rtmp), "--api-port", str(api))) as server:
        await server.says("relay listening")
        yield f"http://127.0.0.1:{api}", f"rtmp://127.0.0.1:{rtmp}"


@contextlib.asynccontextmanager
async def orchestrator(folder: Path, api: str, rtmp: str) -> AsyncIterator[tuple[Program, str]]:
    """One of its own, whose workers outlive it; and its API's address."""
    argv = ["orchestrator", "--config", str(folder / "babelcast.yaml"), "--media-server-api", api, "--relay-rtmp", rtmp]
    async with program(*babelcast(*argv, "--workers-at-exit", "keep")) as running:
        found = await running.says(r"ready: API (http://\S+)/docs")
        yield running, found[1]


def ffmpeg(*options: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, options)], check=True, timeout=60)


def make_talk(path: Path, seconds: float = 10.0) -> Path:
    """Speech by flite over moving pictures, small."""
    text = "Good evening everyone. The team is very happy to be here. We are going to win the game tonight. "
    sound = f"flite=voice=slt:text='{text * 3}',aresample=48000"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x180:r=25",
        "-f",
        "lavfi",
        "-i",
        sound,
    ]
    command += ["-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-b:v", "300k"]
    subprocess.run([*command, "-c:a", "aac", "-ac", "2", str(path)], check=True, timeout=60)
    return path


@contextlib.asynccontextmanager
async def publishing(clip: Path, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The clip over and over, at the speed of life, until the block ends."""
    command = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-f", "flv", url]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@dataclass
class Viewer:
    """Watches a stream from the moment it exists: (arrival in monotonic seconds, dts in seconds) of each packet."""

    file: Path
    video: list[tuple[float, float]] = field(default_factory=list)
    audio: list[tuple[float, float]] = field(default_factory=list)

    def longest_gaps(self) -> dict[str, float]:
        """The longest gap in seconds between two packets, by arrival and by timestamp."""
        gaps = {}
        for name, packets in (("video", self.video), ("audio", self.audio)):
            steps = list(itertools.pairwise(packets))
            assert steps, f"no {name}"
            gaps[f"{name} arrival"] = max(after[0] - before[0] for before, after in steps)
            gaps[f"{name} dts"] = max(after[1] - before[1] for before, after in steps)
        return gaps

    async def _read(self, lines: asyncio.StreamReader) -> None:
        bases: dict[str, float] = {}
        kinds: dict[str, str] = {}
        async for raw in lines:
            line = raw.decode()
            if found := re.match(r"#tb (\d+): (\d+)/(\d+)", line):
                bases[found[1]] = int(found[2]) / int(found[3])
            elif found := re.match(r"#media_type (\d+): (\w+)", line):
                kinds[found[1]] = found[2]
            elif not line.startswith("#"):
                index, dts = (part.strip() for part in line.split(",")[:2])
                packets = self.video if kinds[index] == "video" else self.audio
                packets.append((time.monotonic(), int(dts) * bases[index]))


@contextlib.asynccontextmanager
async def watching(url: str, file: Path) -> AsyncIterator[Viewer]:
    """``file`` holds all that came once the block has ended."""
    viewer = Viewer(file)
    current: list[asyncio.subprocess.Process] = []

    async def watch() -> None:
        while not viewer.video:
            command = ["ffmpeg", "-v", "quiet", "-y", "-rw_timeout", "20000000", "-i", url, "-map", "0", "-c", "copy"]
            command += [
                "-flush_packets",
                "1",
                "-max_interleave_delta",
                "1",
                "-f",
                "framecrc",
                "-",
                "-map",
                "0",
                "-c",
                "copy",
                str(file),
            ]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
            current[:] = [process]
            assert process.stdout
            await viewer._read(process.stdout)
            await process.wait()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(watch())
    try:
        yield viewer
    finally:
        if current and current[0].returncode is None:
            current[0].send_signal(signal.SIGINT)  # ffmpeg then ends its file properly
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if current and current[0].returncode is None:
            current[0].kill()
            await current[0].wait()

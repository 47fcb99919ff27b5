"""The relay's fan-out: one 6 Mb/s stream, 20 readers, the relay's CPU and what was lost; MediaMTX beside it.

    python bench/relay.py [--readers 20] [--seconds 15] [--mbps 6]

Publisher and readers run in this process; the server is a child of its own, whose CPU time is read from
the scheduler. Readers parse what they get: each checks that no picture is missing and that they come in order.
Prints rows of a markdown table. Hold the machine to yourself while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from babelcast.ports import free_port
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType

FPS = 30
CLIP_S = 4


@dataclass
class Reader:
    frames: int = 0
    missing: int = 0
    bytes_received: int = 0
    last: int | None = None


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads, in the scheduler's nanoseconds: ``/proc/<pid>/stat`` counts ticks, and a server that
    wakes for less than a tick at a time is all but invisible there."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def server(kind: str, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """PID and RTMP address of a running server."""
    port = free_port()
    if kind == "relay":
        command = [sys.executable, "-m", "babelcast", "relay", "--rtmp-port", str(port), "--api-port", "0"]
    else:
        config = folder / "mediamtx.yml"
        off = "".join(f"{name}: false\n" for name in ("rtsp", "hls", "webrtc", "srt", "moq"))
        config.write_text(f"logLevel: error\nrtmpAddress: 127.0.0.1:{port}\n{off}paths:\n  all_others:\n")
        command = ["mediamtx", str(config)]
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while not await listens(port):
                await asyncio.sleep(0.1)
        yield child.pid, f"rtmp://127.0.0.1:{port}/live/bench/in"
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def make_clip(path: Path, mbps: float) -> list[Message]:
    """A few seconds of 720p H.264 at a constant rate with a key frame every 2 s, and AAC: its FLV tags."""
    video = f"testsrc2=size=1280x720:rate={FPS},noise=alls=30:allf=t"
    rate = f"{mbps - 0.16:g}M"
    coding = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -x264-params nal-hrd=cbr:force-cfr=1"
    coding += f" -b:v {rate} -minrate {rate} -maxrate {rate} -bufsize {mbps / 2:g}M -g {2 * FPS} -c:a aac -b:a 160k"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", video, "-f", "lavfi", "-i", "anoisesrc=r=48000"]
    subprocess.run([*command, *coding.split(), "-t", str(CLIP_S), str(path)], check=True)
    data, at, tags = path.read_bytes(), 13, []
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        time_ms = int.from_bytes(data[at + 4 : at + 7], "big")
        tags.append(Message(data[at], time_ms, data[at + 11 : at + 11 + size]))
        at += 15 + size
    return tags


async def publish(url: str, tags: list[Message], until: asyncio.Event) -> None:
    """The clip again and again, on time by the clock; times go on."""
    async with RtmpClient.connect(url) as client:
        await client.publish()
        started, offset = time.monotonic(), 0
        while True:
            for tag in tags:
                if until.is_set():
                    return
                await asyncio.sleep(max(0.0, started + (offset + tag.timestamp) / 1000 - time.monotonic()))
                if not offset or (tag.type != MessageType.DATA and tag.payload[1] == 1):  # headers only once
                    await client.send(tag._replace(timestamp=tag.timestamp + offset))
            offset += CLIP_S * 1000


async def read(url: str, reader: Reader) -> None:
    async with RtmpClient.connect(url) as client:
        await client.play()
        async for message in client.messages():
            reader.bytes_received = client.bytes_received
            if message.type != MessageType.VIDEO or message.payload[1] != 1:
                continue
            if reader.last is not None:
                reader.missing += abs(round((message.timestamp - reader.last) * FPS / 1000) - 1)
            reader.last = message.timestamp
            reader.frames += 1


async def measure(kind: str, tags: list[Message], count: int, seconds: float, folder: Path) -> str:
    async with server(kind, folder) as (pid, url):
        until = asyncio.Event()
        readers = [Reader() for _ in range(count)]
        publisher = asyncio.create_task(publish(url, tags, until))
        await asyncio.sleep(2.5)
        tasks = [asyncio.create_task(read(url, reader)) for reader in readers]
        await asyncio.sleep(1.0)
        before = cpu_seconds(pid), time.monotonic(), sum(reader.bytes_received for reader in readers)
        await asyncio.sleep(seconds)
        spent, took = cpu_seconds(pid) - before[0], time.monotonic() - before[1]
        moved = sum(reader.bytes_received for reader in readers) - before[2]
        memory = resident_mb(pid)
        until.set()
        await publisher
        await asyncio.gather(*tasks, return_exceptions=True)
    frames, missing = min(reader.frames for reader in readers), sum(reader.missing for reader in readers)
    rate = moved * 8 / took / 1e6
    return (
        f"| {kind} | {count} × {rate / count:.1f} Mb/s | {took:.0f} s | {rate:.0f} Mb/s | {frames} | {missing} "
        f"| {100 * spent / took:.1f} % | {memory:.0f} MB |"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--mbps", type=float, default=6.0)
    options = parser.parse_args()
    columns = ("server", "readers", "measured", "delivered", "fewest pictures", "missing", "CPU of a core", "memory")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as folder:
        tags = await asyncio.to_thread(make_clip, Path(folder) / "clip.flv", options.mbps)
        for kind in ("relay", *(["mediamtx"] if shutil.which("mediamtx") else [])):
            print(await measure(kind, tags, options.readers, options.seconds, Path(folder)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

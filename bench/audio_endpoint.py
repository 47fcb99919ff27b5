"""The audio endpoint: CPU while nobody and while many listen, and how long until a producer is heard.

    python bench/audio_endpoint.py [--seconds 8] [--listeners 0,1,50,200]

The endpoint is a process of its own, as users run it; CPU time is read from the scheduler. Listeners and producers
are in this process, and listeners throw away what they get. A producer is heard when its tone is in a frame that has
come to a listener: the clock starts when its request is sent, and its body comes at the speed of life. Prints
markdown. Hold the machine to yourself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import aiohttp
import av
import numpy as np

from babelcast.audio.pcm import to_s16le
from relay import cpu_seconds, resident_mb

RATE = 48_000
_PRODUCERS = {
    "raw PCM": ("audio/pcm;rate=48000;channels=1", None),
    "WAV": ("audio/wav", ("-f", "wav")),
    "AAC 128 kb/s": ("audio/aac", ("-c:a", "aac", "-b:a", "128k", "-f", "adts")),
    "MP3 128 kb/s": ("audio/mpeg", ("-b:a", "128k", "-f", "mp3")),
    "Opus 64 kb/s": ("audio/ogg", ("-c:a", "libopus", "-b:a", "64k", "-page_duration", "20000", "-f", "ogg")),
}


@contextlib.asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[int, str]]:
    """PID and address."""
    argv = [sys.executable, "-m", "babelcast", "audio", "--port", "0", "--log-level", "error"]
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout
        line = (await child.stdout.readline()).decode()
        found = re.search(r"push to (http://\S+)/ingest", line)
        assert found, line
        yield child.pid, found[1]
    finally:
        child.terminate()
        await child.wait()


async def _push(http: aiohttp.ClientSession, body: AsyncIterator[bytes], content_type: str) -> None:
    async with http.post("/ingest", data=body, headers={"Content-Type": content_type}):
        pass


async def _swallow(http: aiohttp.ClientSession) -> None:
    async with http.get("/stream") as answer:
        async for _ in answer.content.iter_any():
            pass


async def _live(data: bytes, seconds: float) -> AsyncIterator[bytes]:
    """``data`` that plays for ``seconds``, in steps of 20 ms at the speed of life."""
    steps = round(seconds * 50)
    begun = time.monotonic()
    for number in range(steps):
        yield data[len(data) * number // steps : len(data) * (number + 1) // steps]
        await asyncio.sleep(max(0.0, begun + (number + 1) / 50 - time.monotonic()))


def _body(options: tuple[str, ...] | None, seconds: float) -> bytes:
    at = np.arange(round(seconds * RATE))
    pcm = to_s16le((0.25 * np.sin(2 * np.pi * 440 * at / RATE)).astype(np.float32))
    if options is None:
        return pcm
    command = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:0"]
    return subprocess.run([*command, *options, "pipe:1"], input=pcm, capture_output=True, check=True).stdout


async def listeners(counts: list[int], seconds: float) -> None:
    print("| listeners | a producer | CPU of a core | each listener | memory |\n|---|---|---|---|---|")
    idle = None
    for playing in (False, True):
        for count in counts:
            async with (
                endpoint() as (pid, url),
                aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http,
            ):
                tasks = [asyncio.create_task(_swallow(http)) for _ in range(count)]
                if playing:
                    body = _live(_body(None, seconds + 10), seconds + 10)
                    tasks.append(asyncio.create_task(_push(http, body, "audio/pcm;channels=1")))
                await asyncio.sleep(2)
                before, began = cpu_seconds(pid), time.monotonic()
                await asyncio.sleep(seconds)
                used = (cpu_seconds(pid) - before) / (time.monotonic() - began)
                memory = resident_mb(pid)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            idle = used if count == 0 else idle
            each = f"{(used - (idle or 0)) / count:.3%}" if count else ""
            print(f"| {count} | {'yes' if playing else 'no'} | {used:.1%} | {each} | {memory:.0f} MB |", flush=True)


async def _first_sound(http: aiohttp.ClientSession) -> float:
    """When a listener gets the first frame that is no silence."""
    decoder = av.CodecContext.create("aac", "r")
    async with http.get("/stream") as answer:
        async for chunk in answer.content.iter_any():
            for packet in decoder.parse(chunk):
                for frame in decoder.decode(packet):
                    if float(np.abs(frame.to_ndarray()).max()) > 0.05:
                        return time.monotonic()
    raise AssertionError("the stream ended")


async def heard(times: int) -> None:
    print("\n| producer | heard after, median | longest |\n|---|---|---|")
    async with endpoint() as (_, url), aiohttp.ClientSession(url) as http:
        for name, (content_type, options) in _PRODUCERS.items():
            body, taken = _body(options, 6), []
            for _ in range(times):
                listener = asyncio.create_task(_first_sound(http))
                await asyncio.sleep(0.7)
                began = time.monotonic()
                producer = asyncio.create_task(_push(http, _live(body, 6), content_type))
                taken.append(await asyncio.wait_for(listener, 10) - began)
                producer.cancel()
                await asyncio.gather(producer, return_exceptions=True)
                await asyncio.sleep(1.2)
            print(f"| {name} | {statistics.median(taken):.2f} s | {max(taken):.2f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--listeners", default="0,1,50,200")
    args = parser.parse_args()
    asyncio.run(listeners([int(each) for each in args.listeners.split(",")], args.seconds))
    asyncio.run(heard(args.times))


if __name__ == "__main__":
    main()

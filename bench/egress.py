"""Eight programmes to eight destinations: the egress process, the same forwarders inside another process (as it was
before), and one ffmpeg each.

    python bench/egress.py [--streams 8] [--seconds 15] [--mbps 5]

Publishers run in this process; the media server and the destinations are a relay each, in processes of their own. CPU
time of what forwards is read from the scheduler. Prints rows of a markdown table. Hold the machine to yourself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from babelcast.egress.client import EgressClient
from babelcast.egress.fleet import Fleet
from babelcast.egress.handler import EgressHandler
from babelcast.egress.wire import Delivery, DesiredSet
from babelcast.errors import LaunchError
from babelcast.rtmp.message import Message
from relay import Reader, cpu_seconds, make_clip, publish, read, resident_mb, server


def deliveries(source: str, sink: str, count: int) -> tuple[Delivery, ...]:
    return tuple(
        Delivery(stream_id=f"s{n}", source_url=f"{source}{n}", name="sink", url=f"{sink}-{n}") for n in range(count)
    )


async def host(folder: Path) -> None:
    """The forwarders in this process, without control from outside."""
    wanted = DesiredSet.model_validate_json((folder / "set.json").read_bytes())
    fleet = Fleet(lambda each: EgressHandler(each.stream_id, each.source_url, each.destination))
    fleet.want(wanted.deliveries)
    await fleet.run()


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    quiet = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


@asynccontextmanager
async def forwarding(kind: str, wanted: tuple[Delivery, ...], folder: Path) -> AsyncIterator[list[int]]:
    """PIDs of what forwards."""
    async with contextlib.AsyncExitStack() as stack:
        if kind == "ffmpeg, one each":
            children = []
            for each in wanted:
                arguments = ["-v", "quiet", "-i", each.source_url, "-c", "copy", "-f", "flv", each.url]
                children.append(await stack.enter_async_context(process("ffmpeg", *arguments)))
            yield [child.pid for child in children]
        elif kind == "inside another process":
            (folder / "set.json").write_text(DesiredSet(revision=1, deliveries=wanted).model_dump_json())
            child = await stack.enter_async_context(process(sys.executable, __file__, "--host", str(folder)))
            yield [child.pid]
        else:
            command = [sys.executable, "-m", "babelcast", "egress", "--folder", str(folder)]
            child = await stack.enter_async_context(process(*command))
            client = await stack.enter_async_context(EgressClient.connected(folder))
            task = asyncio.create_task(control(client, wanted))
            yield [child.pid]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def control(client: EgressClient, wanted: tuple[Delivery, ...]) -> None:
    """As the orchestrator does it."""
    told = False
    while True:
        try:
            if not told:
                await client.put(DesiredSet(revision=1, deliveries=wanted))
                told = True
            await client.report()
        except LaunchError:
            pass  # it is not up yet
        await asyncio.sleep(0.5)


async def measure(kind: str, tags: list[Message], count: int, seconds: float, folder: Path) -> str:
    async with server("relay", folder) as (_, source), server("relay", folder) as (_, sink):
        until = asyncio.Event()
        publishers = [asyncio.create_task(publish(f"{source}{n}", tags, until)) for n in range(count)]
        await asyncio.sleep(1.0)
        async with forwarding(kind, deliveries(source, sink, count), folder) as pids:
            await asyncio.sleep(5.0)
            readers = [Reader() for _ in range(count)]
            tasks = [asyncio.create_task(read(f"{sink}-{n}", reader)) for n, reader in enumerate(readers)]
            await asyncio.sleep(1.0)
            before, got, began = sum(map(cpu_seconds, pids)), taken(readers), time.monotonic()
            await asyncio.sleep(seconds)
            spent, took = sum(map(cpu_seconds, pids)) - before, time.monotonic() - began
            rate = (taken(readers) - got) * 8 / took / 1e6
            memory = sum(map(resident_mb, pids))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        until.set()
        await asyncio.gather(*publishers)
    missing = sum(reader.missing for reader in readers)
    return f"| {kind} | {took:.0f} s | {rate:.0f} Mb/s | {missing} | {100 * spent / took:.1f} % | {memory:.0f} MB |"


def taken(readers: list[Reader]) -> int:
    return sum(reader.bytes_received for reader in readers)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--mbps", type=float, default=5.0)
    parser.add_argument("--host", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        await host(options.host)
        return
    columns = (f"{options.streams} forwarders", "measured", "delivered", "missing pictures", "CPU of a core", "memory")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as name:
        tags = await asyncio.to_thread(make_clip, Path(name) / "clip.flv", options.mbps)
        for kind in ("egress process", "inside another process", "ffmpeg, one each"):
            folder = Path(name) / kind.split()[0].rstrip(",")
            folder.mkdir(mode=0o700)
            print(await measure(kind, tags, options.streams, options.seconds, folder), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

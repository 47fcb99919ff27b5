"""``make soak``: all of Babelcast on one machine for hours, at real speed, while things go wrong at random.

``--what bridge`` is the media bridge with its audio endpoint instead (:mod:`tests.soak.bridge`).
``python -m tests.soak.run --minutes 120 --seed 1`` writes ``build/soak/report.json`` and ``report.txt`` (also while it
runs, once a minute) and ends with 1 when memory, descriptors or threads of a process grow, when the worker did not live
through all of it, or when the dub, the destination or the sound is not there at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.programs import Up, config_text, ffmpeg, make_talk, marked, up
from tests.fakes.rtmp_destination import FakeDestination
from tests.soak.course import Course, endure, lasting, refuses, stops_reading
from tests.soak.encoder import Encoder, Watch


@dataclass
class Soak(Course):
    running: Up
    encoder: Encoder
    platform: FakeDestination

    async def controls(self, **changes: Any) -> None:
        url = f"{self.running.api}/api/v1/streams/show/controls"
        async with self.running.http.patch(url, json=changes) as answer:
            assert answer.status in (200, 202), await answer.text()

    async def good(self) -> bool:
        """Dub on air and destination live."""
        try:
            view = await self.running.stream()
        except (OSError, TimeoutError):
            return False
        target = (view["status"] or {"targets": [{}]})["targets"][0]
        return bool(target) and target["fallback"] is None and view["destinations"][0]["state"] == "live"

    def processes(self) -> dict[int, str]:
        self.running.program.lines[:-200] = []
        return marked(self.running.program.mark)


Fault = Callable[[Soak], Awaitable[str]]


async def source_away(soak: Soak) -> str:
    seconds = soak.rng.uniform(1, 8)  # shorter than the 10 s for which a worker is kept
    soak.encoder.away = True
    await asyncio.sleep(seconds)
    soak.encoder.jump_ms = soak.rng.choice([0, 3_600_000, 90_000])
    soak.encoder.away = False
    return f"{seconds:.1f} s"


async def source_stalls(soak: Soak) -> str:
    seconds = soak.rng.uniform(1, 8)
    soak.encoder.stalled = True
    await asyncio.sleep(seconds)
    soak.encoder.stalled = False
    return f"{seconds:.1f} s"


async def timestamps_jump(soak: Soak) -> str:
    by_ms = soak.rng.choice([-40_000, -2_000, 700, 30_000, 7_200_000])
    soak.encoder.jump_ms += by_ms
    return f"by {by_ms} ms"


async def speech_killed(soak: Soak) -> str:
    for pid in soak.running.program.processes("babelcast sts"):
        os.kill(pid, signal.SIGKILL)
    return "SIGKILL"


async def speech_hangs(soak: Soak) -> str:
    seconds = soak.rng.uniform(4, 12)  # the supervisor kills it after 15 s without an answer
    pids = soak.running.program.processes("babelcast sts")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return f"{seconds:.1f} s"


async def destination_refuses(soak: Soak) -> str:
    return await refuses(soak, soak.platform, "refuse", 10)


async def destination_stalls(soak: Soak) -> str:
    return await stops_reading(soak, soak.platform)


async def operator_changes(soak: Soak) -> str:
    rng = soak.rng
    changes: dict[str, Any] = {
        "mix": {"bg_gain": rng.choice([0.5, 1.0]), "ducking": {"enabled": rng.random() < 0.5}},
        "delay_s": rng.choice([3.0, 3.5, 4.0]),
    }
    await soak.controls(**changes)
    force = rng.choice(["original", "background", "ducked", "repeat", "silence"])
    await soak.controls(force=force)
    await asyncio.sleep(rng.uniform(1, 6))
    await soak.controls(force="none")
    return f"{changes}, {force}"


async def audio_dumps(soak: Soak) -> str:
    """No fault; but what opens files must close them."""
    url = f"{soak.running.api}/api/v1/streams/show/dumps"
    async with soak.running.http.post(url, json={"seconds": 2, "keep_bytes": 8 << 20}) as answer:
        assert answer.status == 200, await answer.text()
    await asyncio.sleep(soak.rng.uniform(3, 15))
    async with soak.running.http.delete(url) as answer:
        status = await answer.json()
    return f"{len(status['files'])} files, {status['bytes'] >> 10} KiB, error {status['error']}"


FAULTS: tuple[Fault, ...] = (
    source_away,
    source_stalls,
    timestamps_jump,
    speech_killed,
    speech_hangs,
    destination_refuses,
    destination_stalls,
    operator_changes,
    audio_dumps,
)


def complaints(soak: Soak, view: dict[str, Any] | None) -> list[str]:
    """Everything that makes the soak a failure."""
    found = lasting(soak)
    # what the destination itself did is no fault of ours
    ours = [one for one in soak.happened if not one.kind.startswith("destination")]
    found += [f"dead air: {one}" for one in ours if one.sound_gap_s > 2.0]
    if view is not None and (view["worker"]["generation"], view["worker"]["failures"]) != (1, 0):
        found.append(f"the worker did not live through it: {view['worker']}")
    return found


async def soaked(args: argparse.Namespace, folder: Path) -> list[str]:
    """What is wrong at the end."""
    talk = make_talk(folder / "talk.mp4", 20)
    clip = folder / "talk.flv"
    ffmpeg("-i", talk, "-c", "copy", clip)
    platform = FakeDestination()
    async with platform.listening():
        destination = f'destinations: [{{name: platform, url: "{platform.url}", key: a-key-of-the-soak}}]'
        settings = f"delay: 4, backend: {args.backend}, fallback_by_cause: {{breaker: background}}"
        text = config_text(folder, server=args.server, settings=settings, stream=destination)
        async with up(folder, text) as running:
            encoder = Encoder(clip, running.publish_url)
            soak = Soak(random.Random(args.seed), Watch(platform), running, encoder, platform)
            publishing = asyncio.create_task(encoder.run())

            async def judge() -> list[str]:
                return complaints(soak, await running.stream())

            try:
                return await endure(soak, args, FAULTS, (speech_killed,), judge)
            finally:
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)
                (args.out / "up.log").write_text(running.program.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--what", choices=["up", "bridge"], default="up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=["sts", "tone"], default="sts")
    parser.add_argument("--server", choices=["relay", "mediamtx"], default="relay")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="babelcast-soak-") as folder:
        if args.what == "bridge":
            from tests.soak.bridge import soaked as soaked_bridge

            found = asyncio.run(soaked_bridge(args, Path(folder)))
        else:
            found = asyncio.run(soaked(args, Path(folder)))
    print((args.out / "report.txt").read_text())
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

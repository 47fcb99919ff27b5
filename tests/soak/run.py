"""``make soak``: all of Babelcast on one machine for hours, at real speed, while things go wrong at random.

``--what bridge`` is the media bridge with its audio endpoint instead (:mod:`tests.soak.bridge`).
``python -m tests.soak.run --minutes 120 --seed 1`` writes ``build/soak/report.json`` and ``report.txt`` (also while it
runs, once a minute) and ends with 1 when memory, descriptors or threads of a process grow, when the worker did not live
through all of it, or when the dub, the destination or the sound is not there at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tests.e2e.programs import Up, config_text, ffmpeg, make_talk, marked, until, up
from tests.fakes.rtmp_destination import FakeDestination
from tests.soak.encoder import Encoder, Watch
from tests.soak.measure import Growth, Life, growth, table, take_samples

SAMPLE_S = 10.0
RECOVERED_WITHIN_S = 60.0


@dataclass
class Happened:
    """One fault: when it began, how long it was there, the longest gaps at the destination until ``recovered_s`` after
    its end, when dub and destination were there again (None: not in a minute)."""

    at_s: float
    kind: str
    detail: str
    lasted_s: float = 0.0
    recovered_s: float | None = None
    picture_gap_s: float = 0.0
    sound_gap_s: float = 0.0


class Course(Protocol):
    """What the loop and the report know of a soak."""

    rng: random.Random
    watch: Watch
    lives: dict[int, Life]
    happened: list[Happened]

    @property
    def at_s(self) -> float: ...

    async def good(self) -> bool: ...


C = TypeVar("C", bound=Course)


@dataclass
class Soak:
    running: Up
    encoder: Encoder
    platform: FakeDestination
    rng: random.Random
    watch: Watch
    began: float = field(default_factory=time.monotonic)
    lives: dict[int, Life] = field(default_factory=dict)
    happened: list[Happened] = field(default_factory=list)

    @property
    def at_s(self) -> float:
        return time.monotonic() - self.began

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
    seconds = soak.rng.uniform(2, 10)
    soak.platform.behaviour = "refuse"
    soak.platform.hang_up()
    await asyncio.sleep(seconds)
    soak.platform.behaviour = "accept"
    return f"{seconds:.1f} s"


async def destination_stalls(soak: Soak) -> str:
    seconds = soak.rng.uniform(3, 12)
    soak.platform.behaviour = "stop reading"
    await asyncio.sleep(seconds)
    soak.platform.behaviour = "accept"
    return f"{seconds:.1f} s"


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


async def break_things(
    soak: C,
    until_s: float,
    faults: Sequence[Callable[[C], Awaitable[str]]],
    early: Sequence[Callable[[C], Awaitable[str]]],
) -> None:
    """One fault after the other, each ten to forty seconds after the last one was got over. In the second half those
    that are ``early`` happen no more, so that what they kill lives long enough to be judged."""
    deck: list[Callable[[C], Awaitable[str]]] = []
    while True:
        await asyncio.sleep(soak.rng.uniform(10, 40))
        if soak.at_s > until_s:
            return
        if not deck:  # all of them before any comes again
            deck = [fault for fault in faults if fault not in early or soak.at_s < until_s / 2]
            soak.rng.shuffle(deck)
        fault = deck.pop()
        if fault in early and soak.at_s > until_s / 2:
            continue
        soak.watch.look()
        one = Happened(round(soak.at_s, 1), fault.__name__, "")
        soak.happened.append(one)
        one.detail = await fault(soak)
        one.lasted_s = round(soak.at_s - one.at_s, 1)
        ended = time.monotonic()
        while time.monotonic() - ended < RECOVERED_WITHIN_S:
            await asyncio.sleep(1.0)
            if await soak.good():
                one.recovered_s = round(time.monotonic() - ended, 1)
                break
        gaps = soak.watch.look()
        one.picture_gap_s, one.sound_gap_s = round(gaps["picture"], 2), round(gaps["sound"], 2)
        print(f"{soak.at_s / 60:6.1f} min  {one}", flush=True)


async def sample(soak: Soak, write: Callable[[], None]) -> None:
    turn = 0
    while True:
        take_samples(marked(soak.running.program.mark), soak.at_s, soak.lives)
        soak.running.program.lines[:-200] = []
        turn += 1
        if turn % 6 == 0:
            write()
        await asyncio.sleep(SAMPLE_S)


def grown(soak: Course) -> list[Growth]:
    """Of every process that lived for a quarter of the time after its warm-up, which is a fifth of the time and ten
    minutes at most."""
    warm_up_s = min(600.0, soak.at_s / 5)
    found = [growth(life, warm_up_s, soak.at_s / 4) for life in soak.lives.values()]
    return sorted((one for one in found if one is not None), key=lambda one: (one.role, -one.minutes))


def lasting(soak: Course) -> list[str]:
    """What grows, and what did not come back."""
    found = [f"{one.role} ({one.pid}): {what}" for one in grown(soak) for what in one.complaints]
    return found + [f"not got over in a minute: {one}" for one in soak.happened if one.recovered_s is None]


def complaints(soak: Soak, view: dict[str, Any] | None) -> list[str]:
    """Everything that makes the soak a failure."""
    found = lasting(soak)
    # what the destination itself did is no fault of ours
    ours = [one for one in soak.happened if not one.kind.startswith("destination")]
    found += [f"dead air: {one}" for one in ours if one.sound_gap_s > 2.0]
    if view is not None and (view["worker"]["generation"], view["worker"]["failures"]) != (1, 0):
        found.append(f"the worker did not live through it: {view['worker']}")
    return found


def write_report(soak: Course, folder: Path, args: argparse.Namespace, found: list[str] | None) -> None:
    rows, minutes = grown(soak), soak.at_s / 60
    shown = [next(row for row in rows if row.role == role) for role in sorted({row.role for row in rows})]
    verdict = "still running" if found is None else "; ".join(found) or "nothing grows, everything came back"
    kinds = sorted({one.kind for one in soak.happened})
    lines = [f"{minutes:.0f} min of {args.minutes:g}, seed {args.seed}, {len(soak.happened)} faults: {verdict}", ""]
    lines += [table(shown), "", f"{'fault':<22}{'times':>6}{'sound gap s':>13}{'picture gap s':>15}{'recovered s':>13}"]
    for kind in kinds:
        some = [one for one in soak.happened if one.kind == kind]
        back = [one.recovered_s for one in some if one.recovered_s is not None]
        lines.append(
            f"{kind:<22}{len(some):>6}{max(one.sound_gap_s for one in some):>13.2f}"
            f"{max(one.picture_gap_s for one in some):>15.2f}{max(back, default=float('nan')):>13.1f}"
        )
    document = {
        "minutes": round(minutes, 1),
        "seed": args.seed,
        "complaints": found,
        "growth": [asdict(row) for row in rows],
        "faults": [asdict(one) for one in soak.happened],
        "samples": {
            f"{life.role} {life.pid}": [[round(s.at_s), round(s.rss_mib, 1), s.fds, s.threads] for s in life.samples]
            for life in soak.lives.values()
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(document, indent=1))
    (folder / "report.txt").write_text("\n".join(lines) + "\n")


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
            soak = Soak(running, encoder, platform, random.Random(args.seed), Watch(platform))
            tasks = [asyncio.create_task(encoder.run())]
            try:
                await until(soak.good, "the dub on air", 60)
                tasks.append(asyncio.create_task(sample(soak, lambda: write_report(soak, args.out, args, None))))
                await break_things(soak, args.minutes * 60 - 60, FAULTS, (speech_killed,))
                await asyncio.sleep(max(0.0, args.minutes * 60 - soak.at_s))
                await until(soak.good, "the dub on air at the end", 60)
                found = complaints(soak, await running.stream())
                write_report(soak, args.out, args, found)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                (args.out / "up.log").write_text(running.program.text)
            return found


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

"""What both soaks have in common: faults one after the other, samples of every process, and the report."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.e2e.programs import until
from tests.fakes.rtmp_destination import Behaviour, FakeDestination
from tests.soak.encoder import Watch
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


@dataclass
class Course(ABC):
    """What the loop and the report know of a soak. A subclass says what is ``good`` and which processes there are."""

    rng: random.Random
    watch: Watch
    began: float = field(default_factory=time.monotonic, init=False)
    lives: dict[int, Life] = field(default_factory=dict, init=False)
    happened: list[Happened] = field(default_factory=list, init=False)

    @property
    def at_s(self) -> float:
        return time.monotonic() - self.began

    @abstractmethod
    async def good(self) -> bool: ...

    @abstractmethod
    def processes(self) -> dict[int, str]:
        """PID → command line. What was written down of them so far may be cut here."""


C = TypeVar("C", bound=Course)


async def refuses(soak: Course, destination: FakeDestination, behaviour: Behaviour, most_s: float) -> str:
    """``destination`` hangs up, and behaves so for a while."""
    seconds = soak.rng.uniform(2, most_s)
    destination.behaviour = behaviour
    destination.hang_up()
    await asyncio.sleep(seconds)
    destination.behaviour = "accept"
    return f"{seconds:.1f} s"


async def stops_reading(soak: Course, destination: FakeDestination) -> str:
    seconds = soak.rng.uniform(3, 12)
    destination.behaviour = "stop reading"
    await asyncio.sleep(seconds)
    destination.behaviour = "accept"
    return f"{seconds:.1f} s"


async def endure(
    soak: C,
    args: argparse.Namespace,
    faults: Sequence[Callable[[C], Awaitable[str]]],
    early: Sequence[Callable[[C], Awaitable[str]]],
    judge: Callable[[], Awaitable[list[str]]],
) -> list[str]:
    """``args.minutes`` of it; what ``judge`` finds wrong at the end."""
    await until(soak.good, "all of it on air", 60)
    sampling = asyncio.create_task(_sample(soak, args))
    try:
        await break_things(soak, args.minutes * 60 - 60, faults, early)
        await asyncio.sleep(max(0.0, args.minutes * 60 - soak.at_s))
        await until(soak.good, "all of it on air at the end", 60)
        found = await judge()
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    write_report(soak, args, found)
    return found


async def _sample(soak: Course, args: argparse.Namespace) -> None:
    turn = 0
    while True:
        take_samples(soak.processes(), soak.at_s, soak.lives)
        turn += 1
        if turn % 6 == 0:
            write_report(soak, args, None)
        await asyncio.sleep(SAMPLE_S)


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


def write_report(soak: Course, args: argparse.Namespace, found: list[str] | None) -> None:
    folder: Path = args.out
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

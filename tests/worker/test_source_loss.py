"""The ladder of a lost source, and the stills that stand in, on a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
from fractions import Fraction
from typing import Any

import pytest

from babelcast.errors import MissingDependencyError
from babelcast.slate.picture import Slate, SlateUnit
from babelcast.spec import SourceLossSpec
from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit
from babelcast.worker.source_loss import SourceLoss, step_at
from babelcast.worker.video import VideoQueue

pytestmark = pytest.mark.unit

PICTURE = 40 * NS_PER_MS
CAPS = "video/x-h264, codec_data=(buffer)014d400cffe100046742c00c01000468ce3c80, width=(int)640, height=(int)360"


def slate(name: bytes = b"still") -> Slate:
    units = tuple(SlateUnit(name + bytes([i]), i == 0) for i in range(50))
    return Slate(f"caps of {name!r}", b"", units, 640, 360, Fraction(25))


def unit(i: int) -> AccessUnit:
    return AccessUnit(i * PICTURE, i * PICTURE, i % 25 == 0, b"\0\0\0\1\x41", CAPS + ", framerate=(fraction)25/1")


class Maker:
    """In the place of make_slate."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, width: int, height: int, rate: Fraction, **what: Any) -> Slate:
        self.asked.append({"size": (width, height), "rate": rate, **what})
        if not self.works:
            raise MissingDependencyError("this ffmpeg has no H.264 encoder")
        return slate(b"hold" if "background_annexb" in what else b"text")


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        (SourceLossSpec(hold_s=2, end_after_s=10), ["hold", "hold", "slate", "slate", "end"]),
        (SourceLossSpec(hold_s=0), ["slate"] * 5),
        (SourceLossSpec(hold_s=2, slate=False), ["hold"] * 5),
        (SourceLossSpec(hold_s=600, end_after_s=4), ["hold", "hold", "hold", "end", "end"]),
    ],
)
def test_the_ladder(spec: SourceLossSpec, steps: list[str]) -> None:
    assert [step_at(spec, round(at * NS_PER_S)) for at in (0.6, 1.9, 2, 4, 100)] == steps
    assert step_at(spec, None) is None


async def prepared(spec: SourceLossSpec, maker: Maker, rounds: int = 1) -> SourceLoss:
    loss = SourceLoss(spec, maker)
    for i in range(40):
        loss.note(unit(i))
    task = asyncio.create_task(loss.run())
    for _ in range(rounds):
        loss.watch(0)
        asked = len(maker.asked)
        loss.watch(2 * NS_PER_S)
        async with asyncio.timeout(2):
            while len(maker.asked) == asked and rounds == 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return loss


async def test_a_short_hold_is_bare_then_the_slate_comes_and_goes() -> None:
    maker = Maker()
    loss = await prepared(SourceLossSpec(hold_s=2, slate_text="Back soon"), maker)
    assert maker.asked == [{"size": (640, 360), "rate": 25, "text": "Back soon", "image": None}]
    shown = [loss.advance(round(at * NS_PER_S)) for at in (0.6, 1.9, 2.0, 50.0)]
    assert [still and still.units[0].data[:4] for still in shown] == [None, None, b"text", b"text"]
    assert loss.advance(None) is None
    assert (loss.step, loss.losses) == (None, 1)


async def test_a_long_hold_is_sent_as_a_still_of_the_last_group() -> None:
    maker = Maker()
    loss = await prepared(SourceLossSpec(hold_s=60, slate=False), maker)
    (asked,) = maker.asked
    # the parameter sets, and the 15 pictures since the last key frame
    assert asked["background_annexb"].count(b"\0\0\0\1\x41") == 15
    shown = [loss.advance(round(at * NS_PER_S)) for at in (0.6, 3.0, 59.0, 700.0)]
    assert [still is not None for still in shown] == [False, True, True, True]


async def test_the_slate_is_made_once_for_a_format() -> None:
    maker = Maker()
    await prepared(SourceLossSpec(hold_s=1), maker, rounds=3)
    assert len(maker.asked) == 1


async def test_a_maker_that_fails_costs_the_slate_and_nothing_else() -> None:
    maker = Maker(works=False)
    loss = await prepared(SourceLossSpec(hold_s=1, end_after_s=9), maker)
    assert loss.advance(5 * NS_PER_S) is None
    steps = [loss.step]
    assert "no H.264 encoder" in (loss.last_error or "")
    loss.advance(9 * NS_PER_S)
    steps.append(loss.step)
    assert steps == ["slate", "end"]


async def test_a_fault_of_ours_in_the_making_costs_the_slate_and_nothing_else() -> None:
    maker = Maker()

    async def broken(*size: Any, **what: Any) -> Slate:
        await maker(*size, **what)
        raise RuntimeError("a fault of ours")

    loss = SourceLoss(SourceLossSpec(hold_s=1), broken)
    loss.note(unit(0))
    task = asyncio.create_task(loss.run())
    async with asyncio.timeout(2):
        while len(maker.asked) < 2:  # at the next loss it is tried again
            loss.watch(0)
            loss.watch(2 * NS_PER_S)
            await asyncio.sleep(0)
    assert "a fault of ours" in (loss.last_error or "") and not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_stills_stand_in_from_a_key_frame_and_step_aside_for_pictures() -> None:
    queue, taken, still = VideoQueue(2 * NS_PER_S), list[AccessUnit](), slate()
    for i in range(10):
        queue.put(unit(i))
    for tick in range(100):
        now = tick * 50 * NS_PER_MS
        queue.still = still if now >= NS_PER_S else None
        if tick == 60:
            for i in range(100, 130):
                queue.put(unit(i))
        taken += queue.take(now)
    times = [one.dts_ns for one in taken]
    assert all(b - a >= 10 * NS_PER_MS for a, b in itertools.pairwise(times))
    stills = [one for one in taken if one.data.startswith(b"still")]
    assert (stills[0].dts_ns, stills[0].key) == (NS_PER_S, True)
    assert [one.dts_ns for one in stills] == [NS_PER_S + i * PICTURE for i in range(len(stills))]
    assert [one.key for one in stills[:51]] == [True] + [False] * 49 + [True]
    assert 4 * NS_PER_S - 100 * NS_PER_MS <= stills[-1].dts_ns < 4 * NS_PER_S
    assert [one.data for one in taken[10 + len(stills) :]] == [unit(0).data] * (len(taken) - 10 - len(stills))
    assert taken[10 + len(stills)].dts_ns == 100 * PICTURE


def test_another_still_begins_with_its_own_key_frame() -> None:
    queue = VideoQueue(2 * NS_PER_S)
    queue.still = slate(b"one")
    first = queue.take(0) + queue.take(200 * NS_PER_MS)
    queue.still = slate(b"two")
    second = queue.take(250 * NS_PER_MS)
    assert len(first) == 6
    assert [(one.data[:3], one.key, one.caps) for one in second] == [(b"two", True, "caps of b'two'")]
    assert second[0].dts_ns > first[-1].dts_ns

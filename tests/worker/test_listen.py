"""Separation and the speech feed."""

from __future__ import annotations

import asyncio
import itertools
import threading

import numpy as np
import pytest

from babelcast.separate.base import Separated
from babelcast.separate.factory import make_separator
from babelcast.separate.guard import Guard, Step
from babelcast.separate.off import NoSeparation
from babelcast.separate.spectral import SpectralHold
from babelcast.separate.stft import StftSeparator
from babelcast.units import RATE, SPEECH_RATE, Pcm, SpeechFrame
from babelcast.worker.listen import Listener

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]

BLOCK = 4_800


async def listen(
    mode: str | Guard, blocks: list[tuple[int, Pcm]]
) -> tuple[list[tuple[int, Pcm]], list[SpeechFrame], Listener]:
    background: list[tuple[int, Pcm]] = []
    frames: list[SpeechFrame] = []
    listener = Listener(
        mode if isinstance(mode, Guard) else make_separator(mode),  # type: ignore[arg-type]
        lambda position, block: background.append((position, block)),
        frames.append,
    )
    task = asyncio.create_task(listener.run())
    for position, block in blocks:
        listener.feed(position, block)
        await asyncio.sleep(0)
    await listener.drain()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return background, frames, listener


def tone(position: int, n: int = BLOCK) -> Pcm:
    wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(position, position + n) / RATE)
    return np.stack((wave, wave), axis=1).astype(np.float32)


@pytest.mark.parametrize("mode", ["off", "spectral", "centre", "auto"])
async def test_every_sample_comes_out_at_its_place(mode: str) -> None:
    start = 12_345
    blocks = [(start + i * BLOCK, tone(i * BLOCK)) for i in range(20)]
    background, frames, listener = await listen(mode, blocks)
    assert background[0][0] == start
    assert all(a[0] + len(a[1]) == b[0] for a, b in itertools.pairwise(background))
    assert background[-1][0] + len(background[-1][1]) == start + 20 * BLOCK
    assert listener.done_until == start + 20 * BLOCK
    assert sum(len(frame.pcm) for frame in frames) // 2 == pytest.approx(20 * BLOCK / 3, abs=2)
    assert all(abs(a.end_ns - b.start_ns) < 100_000 for a, b in itertools.pairwise(frames))


async def test_after_a_gap_places_are_right_again() -> None:
    blocks = [(i * BLOCK, tone(i * BLOCK)) for i in range(5)]
    blocks += [(RATE * 10 + i * BLOCK, tone(i * BLOCK)) for i in range(5)]
    background, frames, _ = await listen("off", blocks)
    assert {position for position, _ in background} >= {0, RATE * 10}
    assert any(frame.start_ns == 10_000_000_000 for frame in frames)


async def test_a_full_queue_drops_the_oldest() -> None:
    listener = Listener(make_separator("off"), lambda position, block: None, lambda frame: None)
    for i in range(100):
        listener.feed(i * BLOCK, tone(0))
    assert listener.queued_blocks == 60
    assert listener.dropped_blocks == 40


class Changing(StftSeparator):
    """Says that it is the centre mask in every other second; fails at 3 s where ``fails``."""

    def __init__(self, fails: bool) -> None:
        super().__init__(SpectralHold())
        self._fails = fails
        self._heard = 0

    @property
    def active(self) -> str:
        return "centre" if self._heard // RATE % 2 else "spectral"

    def process(self, block: Pcm) -> Separated:
        self._heard += len(block)
        if self._fails and self._heard > 3 * RATE:
            self._fails = False
            raise RuntimeError("out of memory")
        out = super().process(block)
        return Separated(out.background * 0, out.speech + out.background)


def heard(frames: list[SpeechFrame]) -> Pcm:
    return np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2").astype(np.float32) / np.float32(32_768)


async def test_the_backend_hears_every_sample_once_however_the_separator_changes() -> None:
    blocks = [(i * BLOCK, tone(i * BLOCK)) for i in range(60)]
    _, frames, _ = await listen(Guard([Step("changing", lambda: Changing(False))]), blocks)
    got = heard(frames)
    assert len(got) == pytest.approx(6 * SPEECH_RATE, abs=2)
    wanted = 0.2 * np.sin(2 * np.pi * 440 * np.arange(len(got)) / SPEECH_RATE)
    assert np.abs(got - wanted)[200:-200].max() < 2e-3


async def test_a_separator_at_work_does_not_hold_up_the_end() -> None:
    entered, may_go, gone = threading.Event(), threading.Event(), list[bool]()

    class Slow(NoSeparation):
        def process(self, block: Pcm) -> Separated:
            entered.set()
            gone.append(may_go.wait(5))
            return super().process(block)

    listener = Listener(Guard([Step("slow", Slow)]), lambda position, block: None, lambda frame: None)
    task = asyncio.create_task(listener.run())
    listener.feed(0, tone(0))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    may_go.set()
    while not gone:
        await asyncio.sleep(0.01)
    assert gone == [True]


async def test_a_separator_that_fails_costs_background_and_not_one_frame() -> None:
    blocks = [(i * BLOCK, tone(i * BLOCK)) for i in range(60)]
    made = iter((True, False, False))
    background, frames, listener = await listen(Guard([Step("changing", lambda: Changing(next(made)))]), blocks)
    got = heard(frames)
    wanted = 0.2 * np.sin(2 * np.pi * 440 * np.arange(len(got)) / SPEECH_RATE)
    assert np.abs(got - wanted)[200:-200].max() < 2e-3
    there = sum(len(block) for _, block in background)
    assert 0 < listener.unseparated_samples < RATE
    assert there + listener.unseparated_samples == 60 * BLOCK
    gaps = [b[0] - a[0] - len(a[1]) for a, b in itertools.pairwise(background)]
    assert sum(gaps) == listener.unseparated_samples
    assert listener.done_until == 60 * BLOCK
    assert listener.warnings == ("separation failed once: out of memory",)


async def test_without_the_centre_mask_the_backend_does_not_wait_for_separation() -> None:
    frames: list[SpeechFrame] = []
    listener = Listener(make_separator("spectral"), lambda position, block: None, frames.append)
    task = asyncio.create_task(listener.run())
    for i in range(3):
        listener.feed(i * BLOCK, tone(i * BLOCK))
    while not frames:
        await asyncio.sleep(0.001)  # 0.3 s of sound went in, less than what the separator holds back
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_queue_is_told_to_the_separator() -> None:
    told: list[float] = []

    class Curious(Guard):
        def process(self, block: Pcm, queued_s: float = 0.0) -> Separated:
            told.append(queued_s)
            return super().process(block, queued_s)

    await listen(Curious([Step("off", NoSeparation)]), [(i * BLOCK, tone(0)) for i in range(5)])
    listener = Listener(make_separator("off"), lambda position, block: None, lambda frame: None)
    for i in range(70):
        listener.feed(i * BLOCK, tone(0))
    assert listener._queued_samples == 60 * BLOCK
    assert len(told) == 5 and told[-1] == 0.0

"""Separation and the speech feed."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from babelcast.separate.factory import make_separator
from babelcast.units import RATE, Pcm, SpeechFrame
from babelcast.worker.listen import Listener

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]

BLOCK = 4_800


async def listen(mode: str, blocks: list[tuple[int, Pcm]]) -> tuple[list[tuple[int, Pcm]], list[SpeechFrame], Listener]:
    background: list[tuple[int, Pcm]] = []
    frames: list[SpeechFrame] = []
    listener = Listener(
        make_separator(mode),  # type: ignore[arg-type]
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

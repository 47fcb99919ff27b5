"""The dialogue with a backend: gaps, late sessions, the end."""

from __future__ import annotations

import asyncio

import pytest

from babelcast.errors import UnsupportedLanguageError
from babelcast.speech.base import SpeechSession, SpeechTarget
from babelcast.units import NS_PER_MS, NS_PER_S, DubSegment, SpeechFrame
from babelcast.worker.dubbing import EVERYTHING_NS, Dubbing
from tests.worker.fake_speech import FakeBackend

pytestmark = [pytest.mark.unit, pytest.mark.timeout(20)]

TARGET = SpeechTarget("s", "en", "es")


class Sink:
    def __init__(self) -> None:
        self.segments: list[DubSegment] = []

    def take_segment(self, segment: DubSegment) -> None:
        self.segments.append(segment)


def frames(start_s: float, seconds: float) -> list[SpeechFrame]:
    first = round(start_s * NS_PER_S)
    return [SpeechFrame(first + i * 100 * NS_PER_MS, bytes(3_200)) for i in range(round(seconds * 10))]


async def run(dubbing: Dubbing, *parts: list[SpeechFrame]) -> None:
    for part in parts:
        for frame in part:
            dubbing.feed(frame)
    dubbing.end_input()
    await dubbing.run()


async def test_segments_arrive_and_the_end_is_known() -> None:
    sink, backend = Sink(), FakeBackend()
    dubbing = Dubbing(backend, TARGET, sink, lambda: 0, paced=True)
    await run(dubbing, frames(0, 5))
    assert [segment.source_start_ns // NS_PER_S for segment in sink.segments] == [0, 1, 2, 3, 4]
    assert dubbing.watermark_ns == EVERYTHING_NS


async def test_a_short_gap_is_filled_so_that_frames_are_gapless() -> None:
    backend = FakeBackend()
    await run(Dubbing(backend, TARGET, Sink(), lambda: 0, paced=True), frames(0, 1), frames(2.25, 1))
    assert all(
        abs(after.start_ns - before.end_ns) < NS_PER_MS
        for before, after in zip(backend.frames, backend.frames[1:], strict=False)
    )


async def test_a_long_gap_takes_a_new_session() -> None:
    dubbing = Dubbing(FakeBackend(), TARGET, Sink(), lambda: 0, paced=True)
    await run(dubbing, frames(0, 1), frames(60, 1))
    assert dubbing.sessions == 2


async def test_what_the_playhead_has_passed_is_not_sent() -> None:
    backend = FakeBackend()
    dubbing = Dubbing(backend, TARGET, Sink(), lambda: 3 * NS_PER_S)
    await run(dubbing, frames(0, 5))
    assert backend.frames[0].end_ns >= 3 * NS_PER_S
    assert dubbing.dropped_frames == 29


async def test_memory_is_bounded_while_nobody_listens() -> None:
    dubbing = Dubbing(FakeBackend(there=False), TARGET, Sink(), lambda: 0)
    for frame in frames(0, 100):
        dubbing.feed(frame)
    assert dubbing.queued_frames + dubbing.dropped_frames == 1_000
    assert dubbing.queued_frames < 500


async def test_a_refusal_for_good_is_final() -> None:
    class Refusing(FakeBackend):
        async def open(self, target: SpeechTarget) -> SpeechSession:
            raise UnsupportedLanguageError("no such pair", code="unsupported_language")

    dubbing = Dubbing(Refusing(), TARGET, Sink(), lambda: 0)
    await asyncio.wait_for(dubbing.run(), 5)
    assert dubbing.state == "unsupported"
    assert "no such pair" in (dubbing.last_error or "")

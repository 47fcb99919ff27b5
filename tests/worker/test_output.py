"""A destination's sessions, one at a time, over pipelines that do as they are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from babelcast.clock import MonotonicClock
from babelcast.units import AccessUnit
from babelcast.worker.output import Output

pytestmark = pytest.mark.unit

PICTURE = AccessUnit(0, 0, True, b"\0\0\0\1\x65", "video/x-h264")


class FakePipeline:
    """In the place of PublishPipeline: ``gone`` ends those that are told to."""

    made: list[FakePipeline]
    gone: asyncio.Event

    def __init__(self, url: str, **_: Any) -> None:
        self.made.append(self)
        self.connected, self.congested, self.open = True, False, True

    def start(self) -> None: ...

    def announce_video(self, caps: str) -> None: ...

    def prime(self) -> None: ...

    def push_video(self, unit: AccessUnit, pts_ns: int, dts_ns: int) -> None: ...

    def push_audio(self, pcm: bytes, start_ns: int, samples: int) -> None: ...

    def poll_end(self) -> None: ...

    async def stop(self) -> None:
        await self.gone.wait()
        self.open = False

    async def finish(self, timeout_s: float) -> bool:
        await self.stop()
        return True


@pytest.mark.parametrize("why", ["pictures have come", "the programme was over"])
async def test_the_next_session_waits_until_the_one_before_is_gone(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time on one path: a server refuses the second one."""
    FakePipeline.made, FakePipeline.gone = [], asyncio.Event()
    monkeypatch.setattr("babelcast.worker.output.PublishPipeline", FakePipeline)
    output = Output("rtmp://127.0.0.1:1/x", MonotonicClock(), audio_bitrate=64_000, log_fields={})

    def tick() -> None:
        output.push_video([PICTURE] if why == "pictures have come" else [], 0)
        output.push_audio(0, bytes(4_800), 0, video_expected=False)

    output.push_audio(0, bytes(4_800), 0, video_expected=False)
    running = asyncio.create_task(output.run())
    async with asyncio.timeout(5):
        if why == "the programme was over":
            output.end()
        while output._pipeline is not None:
            tick()
            await asyncio.sleep(0)
        output.begin()
        for _ in range(3):
            tick()
            await asyncio.sleep(0)
        assert len(FakePipeline.made) == 1
        FakePipeline.gone.set()
        while len(FakePipeline.made) < 2:
            tick()
            await asyncio.sleep(0)
    assert not FakePipeline.made[0].open and output.state == "connecting"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

"""From the source's sound to background and speech frames: separation in a thread, off the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np

from babelcast.audio.pcm import to_s16le
from babelcast.audio.resample import SpeechDownsampler
from babelcast.separate.base import Separated
from babelcast.separate.guard import Guard
from babelcast.units import RATE, SPEECH_RATE, Pcm, SpeechFrame, samples_to_ns

_QUEUE_BLOCKS = 60
_FRAME_BYTES = SPEECH_RATE // 10 * 2
_RATIO = RATE // SPEECH_RATE

BackgroundSink = Callable[[int, Pcm], None]
FrameSink = Callable[[SpeechFrame], None]


class Listener:
    """Blocks in; background and 100 ms speech frames out, by callbacks on the loop.

    Queue of 60 blocks (6 s), *drop the oldest and count*: a machine that can't keep up loses background and dub, not
    the broadcast. Where separation fails there is no background, and the frames go on.
    """

    def __init__(self, separator: Guard, on_background: BackgroundSink, on_frame: FrameSink) -> None:
        self._separator = separator
        self._on_background = on_background
        self._on_frame = on_frame
        self._blocks: deque[tuple[int, Pcm]] = deque(maxlen=_QUEUE_BLOCKS)
        self._queued_samples = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._expected: int | None = None
        self._background_pos = 0
        self._ears = _Ears()
        self.dropped_blocks = 0
        self.unseparated_samples = 0
        """For which there is no background, because separation failed or is off for want of speed."""
        self.done_until = 0
        """Source sample up to which everything was separated, or given up."""

    @property
    def active_separation(self) -> str:
        return self._separator.active

    @property
    def needed_delay_s(self) -> float:
        """The least fixed delay at which the background is ready in time."""
        return self._separator.needed_delay_s

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know of the separation, one sentence each."""
        return self._separator.warnings

    @property
    def queued_blocks(self) -> int:
        return len(self._blocks)

    def feed(self, position: int, block: Pcm) -> None:
        """``block``: float32, shape (n, 2), at ``position`` of the source timeline."""
        if len(self._blocks) == _QUEUE_BLOCKS:
            self.dropped_blocks += 1
            self._queued_samples -= len(self._blocks[0][1])
        self._blocks.append((position, block))
        self._queued_samples += len(block)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> NoReturn:
        """Runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "separate")
        try:
            while True:
                while not self._blocks:
                    self._idle.set()
                    self._wake.clear()
                    await self._wake.wait()
                position, block = self._blocks.popleft()
                self._queued_samples -= len(block)
                queued_s = self._queued_samples / RATE
                parts, frames = await loop.run_in_executor(thread, self._process, position, block, queued_s)
                self._give(parts, frames)
        finally:
            thread.shutdown(wait=False)  # a network may be at work for a second: the loop has outputs to end meanwhile

    async def drain(self) -> None:
        """Wait until all blocks are through, then give what the separator still holds back."""
        while self._blocks or not self._idle.is_set():
            await self._idle.wait()
        self._give(*self._flush())

    def _give(self, parts: list[tuple[int, Separated]], frames: list[SpeechFrame]) -> None:
        for position, part in parts:
            if part.failed:
                self.unseparated_samples += len(part)
            else:
                self._on_background(position, part.background)
            self.done_until = position + len(part)
        for frame in frames:
            self._on_frame(frame)

    # --- on the separation thread (and, while it is idle, in drain) ---

    def _process(
        self, position: int, block: Pcm, queued_s: float
    ) -> tuple[list[tuple[int, Separated]], list[SpeechFrame]]:
        parts: list[tuple[int, Separated]] = []
        frames: list[SpeechFrame] = []
        if self._expected is not None and position != self._expected:
            parts, frames = self._flush()
        if self._expected is None:
            self._background_pos = position
            self._ears.start(position)
        self._expected = position + len(block)
        self._ears.take(block)
        self._collect(self._separator.process(block, queued_s), parts, frames)
        return parts, frames

    def _flush(self) -> tuple[list[tuple[int, Separated]], list[SpeechFrame]]:
        parts: list[tuple[int, Separated]] = []
        frames: list[SpeechFrame] = []
        self._collect(self._separator.flush(), parts, frames)
        frames += self._ears.end()
        self._expected = None
        return parts, frames

    def _collect(self, part: Separated, parts: list[tuple[int, Separated]], frames: list[SpeechFrame]) -> None:
        if len(part):
            parts.append((self._background_pos, part))
            self._background_pos += len(part)
        clean = self._separator.active == "centre"
        frames += self._ears.hear(self._background_pos - len(part), part, clean)


class _Ears:
    """What the backend hears: the separator's speech estimate where the centre mask is at work (it is clean there, at
    the price of its latency), else the programme, at once. Samples go over without gap or repetition."""

    def __init__(self) -> None:
        self._downsampler = SpeechDownsampler()
        self._held: deque[Pcm] = deque()  # of the programme, from _at on: not heard yet
        self._at = 0
        self._pcm = bytearray()
        self._frame_pos = 0

    def start(self, position: int) -> None:
        self._held.clear()
        self._at = self._frame_pos = position

    def take(self, block: Pcm) -> None:
        self._held.append(block)

    def hear(self, position: int, part: Separated, clean: bool) -> list[SpeechFrame]:
        """``part`` has come out of the separator; it belongs to ``position``."""
        end = position + len(part)
        if clean and end > self._at:
            programme = self._next(end - self._at)
            self._downsample(programme if part.failed else part.speech[len(part) - len(programme) :])
        elif not clean and self._held:
            self._downsample(np.concatenate(self._held))
            self._held.clear()
        return self._frames(whole=False)

    def end(self) -> list[SpeechFrame]:
        """The rest; :meth:`start` begins anew."""
        if self._held:
            self._downsample(np.concatenate(self._held))
            self._held.clear()
        self._pcm += to_s16le(self._downsampler.flush())
        return self._frames(whole=True)

    def _next(self, n: int) -> Pcm:
        """The first ``n`` samples held, which are held no longer."""
        out = []
        while n > 0 and self._held:
            block = self._held.popleft()
            out.append(block[:n])
            if len(block) > n:
                self._held.appendleft(block[n:])
            n -= len(out[-1])
        return np.concatenate(out)

    def _downsample(self, sound: Pcm) -> None:
        self._at += len(sound)
        self._pcm += to_s16le(self._downsampler.process(sound))

    def _frames(self, *, whole: bool) -> list[SpeechFrame]:
        frames = []
        while len(self._pcm) >= _FRAME_BYTES or (whole and self._pcm):
            pcm = bytes(self._pcm[:_FRAME_BYTES])
            del self._pcm[: len(pcm)]
            frames.append(SpeechFrame(samples_to_ns(self._frame_pos), pcm))
            self._frame_pos += len(pcm) // 2 * _RATIO
        return frames

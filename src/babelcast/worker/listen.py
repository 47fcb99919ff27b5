"""From the source's sound to background and speech frames: separation in a thread, off the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from babelcast.audio.pcm import to_s16le
from babelcast.audio.resample import SpeechDownsampler
from babelcast.separate.base import Separated, Separator
from babelcast.units import RATE, SPEECH_RATE, Pcm, SpeechFrame, samples_to_ns

_QUEUE_BLOCKS = 60
_FRAME_BYTES = SPEECH_RATE // 10 * 2
_RATIO = RATE // SPEECH_RATE

BackgroundSink = Callable[[int, Pcm], None]
FrameSink = Callable[[SpeechFrame], None]


class Listener:
    """Blocks in; background and 100 ms speech frames out, by callbacks on the loop.

    The backend hears the separator's speech estimate where the centre mask is at work (it is clean there), else
    the programme. Queue of 60 blocks (6 s), *drop the oldest and count*: a machine that can't keep up loses
    background and dub, not the broadcast.
    """

    def __init__(self, separator: Separator, on_background: BackgroundSink, on_frame: FrameSink) -> None:
        self._separator = separator
        self._on_background = on_background
        self._on_frame = on_frame
        self._blocks: deque[tuple[int, Pcm]] = deque(maxlen=_QUEUE_BLOCKS)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._expected: int | None = None
        self._background_pos = 0
        self._frame_pos = 0
        self._downsampler = SpeechDownsampler()
        self._speech = bytearray()
        self.dropped_blocks = 0
        self.done_until = 0
        """Source sample up to which everything was separated."""

    @property
    def active_separation(self) -> str:
        return self._separator.active

    @property
    def queued_blocks(self) -> int:
        return len(self._blocks)

    def feed(self, position: int, block: Pcm) -> None:
        """``block``: float32, shape (n, 2), at ``position`` of the source timeline."""
        if len(self._blocks) == _QUEUE_BLOCKS:
            self.dropped_blocks += 1
        self._blocks.append((position, block))
        self._idle.clear()
        self._wake.set()

    async def run(self) -> NoReturn:
        """Runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "separate") as thread:
            while True:
                while not self._blocks:
                    self._idle.set()
                    self._wake.clear()
                    await self._wake.wait()
                position, block = self._blocks.popleft()
                parts, frames = await loop.run_in_executor(thread, self._process, position, block)
                self._give(parts, frames)

    async def drain(self) -> None:
        """Wait until all blocks are through, then give what the separator still holds back."""
        while self._blocks or not self._idle.is_set():
            await self._idle.wait()
        self._give(*self._flush())

    def _give(self, parts: list[tuple[int, Pcm]], frames: list[SpeechFrame]) -> None:
        for position, background in parts:
            self._on_background(position, background)
            self.done_until = position + len(background)
        for frame in frames:
            self._on_frame(frame)

    # --- on the separation thread (and, while it is idle, in drain) ---

    def _process(self, position: int, block: Pcm) -> tuple[list[tuple[int, Pcm]], list[SpeechFrame]]:
        parts: list[tuple[int, Pcm]] = []
        frames: list[SpeechFrame] = []
        if self._expected is not None and position != self._expected:
            parts, frames = self._flush()
        if self._expected is None:
            self._background_pos = self._frame_pos = position
        self._expected = position + len(block)
        self._collect(self._separator.process(block), parts, frames)
        return parts, frames

    def _flush(self) -> tuple[list[tuple[int, Pcm]], list[SpeechFrame]]:
        parts: list[tuple[int, Pcm]] = []
        frames: list[SpeechFrame] = []
        self._collect(self._separator.flush(), parts, frames)
        self._speech += to_s16le(self._downsampler.flush())
        self._cut(frames, whole=True)
        self._expected = None
        return parts, frames

    def _collect(self, separated: Separated, parts: list[tuple[int, Pcm]], frames: list[SpeechFrame]) -> None:
        if not len(separated):
            return
        parts.append((self._background_pos, separated.background))
        self._background_pos += len(separated)
        clean = self._separator.active == "centre"
        heard = separated.speech if clean else separated.speech + separated.background
        self._speech += to_s16le(self._downsampler.process(heard))
        self._cut(frames, whole=False)

    def _cut(self, frames: list[SpeechFrame], *, whole: bool) -> None:
        while len(self._speech) >= _FRAME_BYTES or (whole and self._speech):
            pcm = bytes(self._speech[:_FRAME_BYTES])
            del self._speech[: len(pcm)]
            frames.append(SpeechFrame(samples_to_ns(self._frame_pos), pcm))
            self._frame_pos += len(pcm) // 2 * _RATIO

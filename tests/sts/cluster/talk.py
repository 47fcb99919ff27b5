"""Live sessions of the worker's own client, at real pace, with sound of which every piece can be told apart."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.fakes.speech import FRAME, silence, sine

from babelcast.speech.base import LostEvent, SegmentEvent, SpeechTarget
from babelcast.speech.retry import OnState, RetryBackend, RetrySession, RetrySettings
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.units import NS_PER_S, SPEECH_RATE, SpeechFrame, samples_to_ns

SOUND_S, PAUSE_S = 0.7, 0.5
PERIOD_S = SOUND_S + PAUSE_S
"""The mock says each sound as one segment, once it has heard 0.3 s of the pause."""
_PERIOD = sine(SOUND_S) + silence(PAUSE_S)


@dataclass
class Talk:
    """One session: what was sent, and what came back."""

    stream_id: str
    session: RetrySession
    began: float = 0.0
    sent_s: float = 0.0
    segments: list[tuple[float, SegmentEvent]] = field(default_factory=list)
    """With the time at which each came (monotonic, s)."""
    lost: list[LostEvent] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    """As the retry wrapper says them."""

    @property
    def cut_off(self) -> int:
        """How often the session ended before the next one was open, which a drain avoids."""
        return self.states.count("retrying")

    @property
    def spoken(self) -> list[int]:
        """Numbers of the sounds that were answered, in the order of the answers."""
        return [round(event.segment.source_start_ns / NS_PER_S / PERIOD_S) for _, event in self.segments]

    def lags(self) -> list[float]:
        """Seconds from the end of a sound's 0.3 s of pause, as it was sent, to its answer."""
        ends = [event.segment.source_end_ns / NS_PER_S + 0.3 for _, event in self.segments]
        return [at - self.began - end for (at, _), end in zip(self.segments, ends, strict=True)]

    def recovered_s(self, since: float) -> float:
        """Longest time without an answer that ended behind ``since`` (monotonic), less the rhythm of the sounds."""
        times = [at for at, _ in self.segments]
        holes = [after - before for before, after in itertools.pairwise(times) if after > since]
        return max(0.0, max(holes, default=0.0) - PERIOD_S)

    async def speak(self) -> None:
        """Until cancelled."""
        self.began = time.monotonic()
        place = 0
        while True:
            pcm = _PERIOD[2 * place % len(_PERIOD) :][: 2 * FRAME]
            await asyncio.sleep(max(0.0, self.began + (place + FRAME) / SPEECH_RATE - time.monotonic()))
            await self.session.send(SpeechFrame(samples_to_ns(place, SPEECH_RATE), pcm))
            place += len(pcm) // 2
            self.sent_s = place / SPEECH_RATE

    async def listen(self) -> None:
        async for event in self.session.events():
            match event:
                case SegmentEvent():
                    self.segments.append((time.monotonic(), event))
                case LostEvent():
                    self.lost.append(event)

    def check(self) -> None:
        """Every sound but those at the very end was said: once, in order, none lost."""
        assert not self.lost and not self.session.dropped_frames, self
        assert self.spoken == list(range(len(self.spoken))), (self.stream_id, self.spoken)
        assert len(self.spoken) >= self.sent_s // PERIOD_S - 2, (self.stream_id, self.sent_s, len(self.spoken))
        sequences = [event.segment.sequence for _, event in self.segments]
        assert sequences == list(range(len(sequences)))


def into(states: list[str]) -> OnState:
    return lambda state, *_: states.append(state)


@contextlib.asynccontextmanager
async def talking(url: str, count: int) -> AsyncIterator[list[Talk]]:
    """``count`` sessions, all open, that speak while the block runs; each answers what it was sent before it ends."""
    backends = [StsStreamBackend(url) for _ in range(count)]
    settings = RetrySettings(replay_s=10.0)  # what the worker's is for a live source
    talks, tasks = [], []
    try:
        for number, backend in enumerate(backends):
            states: list[str] = []
            target = SpeechTarget(f"show-{number}", "en", "es")
            session = await RetryBackend(backend, settings, on_state=into(states)).open(target)
            talks.append(Talk(target.stream_id, session, states=states))
            tasks.append(asyncio.create_task(talks[-1].listen()))
        async with asyncio.timeout(15):
            while any(talk.states[-1:] != ["open"] for talk in talks):
                await asyncio.sleep(0.02)
        speaking = [asyncio.create_task(talk.speak()) for talk in talks]
        try:
            yield talks
        finally:
            for task in speaking:
                task.cancel()
            await asyncio.gather(*speaking, return_exceptions=True)
        await asyncio.sleep(1.0)
    finally:
        for talk in talks:
            await talk.session.aclose()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in backends:
            await backend.aclose()

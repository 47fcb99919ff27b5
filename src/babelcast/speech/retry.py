"""A wrapper that keeps a speech session alive: opens another where one ends, and says what was lost meanwhile.

The worker sees one session that never fails for a reason that may pass. Service dead at the start, dying midway, hung
or slow (a session notices both itself) all end the same way: the inner session is dropped, another is tried after a
pause (exponential with jitter; as long as the error says, where it says so), and the sound that nobody dubbed is sent
to it again as far as its dub can still be in its place on air. What is older is a LostEvent: a late fragment is never
tried again. A session that announces its end is left once the next one is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from babelcast.clock import Clock, MonotonicClock
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.speech.base import (
    ClosedEvent,
    GoingAwayEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechBackend,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
)
from babelcast.speech.events import EventQueue
from babelcast.units import NS_PER_S, SpeechFrame

log = logging.getLogger(__name__)

_MAX_EVENTS = 512
_LEAST_PAUSE_S = 0.1
"""Also where a service asks for none (``Retry-After: 0``): it would be asked as fast as it can refuse."""

OnState = Callable[[str, str | None, str | None], None]
"""Told ``opening``, ``open`` or ``retrying``, and with the last one the reason, a sentence, and the error's code."""


@dataclass(frozen=True, slots=True)
class RetrySettings:
    first_pause_s: float = 0.5
    max_pause_s: float = 5.0
    """Short, because every second of it is one more without a dub after the service is back."""
    jitter: float = 0.2
    """Pauses vary by this share, so that many workers do not come back at once."""
    steady_s: float = 10.0
    """A session that lived this long sets the pause back to the first."""
    replay_s: float = 3.0
    """The most sound that a new session hears again; RetryBackend's ``in_time_from`` may make it less."""


class Pauses:
    """The pauses between tries: doubling from the first to the longest, with jitter."""

    def __init__(self, settings: RetrySettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._tries = 0

    def next_s(self) -> float:
        settings = self._settings
        pause = min(settings.first_pause_s * 2.0**self._tries, settings.max_pause_s)
        self._tries = min(self._tries + 1, 30)
        return pause * (1 + settings.jitter * self._rng.uniform(-1, 1))

    def reset(self) -> None:
        self._tries = 0


class Tail:
    """Frames that no session has dealt with yet, the newest ``bound_s`` of them."""

    def __init__(self, bound_s: float) -> None:
        self._bound_ns = round(bound_s * NS_PER_S)
        self._frames: deque[SpeechFrame] = deque()
        self._lost_from: int | None = None

    def add(self, frame: SpeechFrame) -> None:
        self._frames.append(frame)
        while self._frames[-1].end_ns - self._frames[0].start_ns > self._bound_ns and len(self._frames) > 1:
            gone = self._frames.popleft()
            if self._lost_from is None:
                self._lost_from = gone.start_ns

    def dealt_with(self, until_ns: int) -> None:
        while self._frames and self._frames[0].end_ns <= until_ns:
            self._frames.popleft()
        if self._lost_from is not None:
            self._lost_from = max(self._lost_from, until_ns)

    def replay(self, in_time_from_ns: int) -> tuple[LostEvent | None, list[SpeechFrame]]:
        """What a new session is to hear, and what came before it and is lost."""
        while len(self._frames) > 1 and self._frames[0].start_ns < in_time_from_ns:
            gone = self._frames.popleft()
            if self._lost_from is None:
                self._lost_from = gone.start_ns
        frames = list(self._frames)
        lost = None
        if self._lost_from is not None and frames and self._lost_from < frames[0].start_ns:
            lost = LostEvent(self._lost_from, frames[0].start_ns)
        self._lost_from = None
        return lost, frames

    def after(self, frame: SpeechFrame) -> list[SpeechFrame]:
        """What has come since ``frame``."""
        return [later for later in self._frames if later.start_ns > frame.start_ns]


class RetrySession:
    """See :class:`babelcast.speech.base.SpeechSession`. Made by :meth:`RetryBackend.open`."""

    def __init__(
        self,
        backend: SpeechBackend,
        target: SpeechTarget,
        settings: RetrySettings,
        clock: Clock,
        rng: random.Random,
        on_state: OnState | None,
        in_time_from: Callable[[], int] | None,
    ) -> None:
        self._backend = backend
        self._target = target
        self._in_time_from = in_time_from
        self._settings = settings
        self._clock = clock
        self._pauses = Pauses(settings, rng)
        self._on_state = on_state
        self._tail = Tail(settings.replay_s)
        self._events = EventQueue(_MAX_EVENTS)
        self._inner: SpeechSession | None = None
        self._broken: asyncio.Future[ClosedEvent] | None = None
        """Why the inner session is left though it has not ended: a client that takes no frames."""
        self._sequence = 0
        self._spoken_until_ns: int | None = None
        self._dropped = 0
        self._finishing = False
        self._task: asyncio.Task[None] | None = None
        self._next: SpeechSession | None = None
        """Opened while the one before it, which goes away, still speaks."""
        self.reopened = 0
        """How often a session was opened again."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._live(), name="speech retry")

    @property
    def dropped_frames(self) -> int:
        return self._dropped + (self._inner.dropped_frames if self._inner else 0)

    async def send(self, frame: SpeechFrame) -> None:
        if self._events.ended:
            raise SpeechError("the session has ended", code="internal")
        self._tail.add(frame)
        if self._inner is not None:
            try:
                await self._inner.send(frame)
            except SpeechError as error:
                log.debug("frame kept for the next session: %s", error)
            except Exception as error:
                self._gives_up(error)

    async def finish(self) -> None:
        self._finishing = True
        if self._inner is not None:
            await self._inner.finish()

    def events(self) -> AsyncIterator[SpeechEvent]:
        return self._events.read()

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._next:
            await self._next.aclose()
            self._next = None
        self._events.push(ClosedEvent("finished", "closed by us", retryable=False))

    @property
    def queued_events(self) -> int:
        return len(self._events)

    def _state(self, state: str, reason: str | None = None, code: str | None = None) -> None:
        if self._on_state:
            self._on_state(state, reason, code)

    async def _live(self) -> None:
        """One inner session after the other, until one ends for good."""
        while True:
            self._state("opening")
            wait_s: float | None = None
            try:
                closed = await self._one_session()
            except SpeechError as error:
                closed = ClosedEvent(error.code, str(error), error.retryable)
                wait_s = error.retry_after_s if isinstance(error, SpeechUnavailableError) else None
            except Exception as error:
                closed = self._failed(error)
            if self._next is not None:
                self.reopened += 1
                continue
            if not closed.retryable or self._finishing:
                self._events.push(closed)
                return
            self._state("retrying", closed.reason, closed.code)
            self.reopened += 1
            pause_s = self._pauses.next_s() if wait_s is None else max(wait_s, _LEAST_PAUSE_S)
            log.warning(
                "speech session ended, next try in %.1f s: %s",
                pause_s,
                closed.reason,
                extra={"streamId": self._target.stream_id, "code": closed.code},
            )
            await asyncio.sleep(pause_s)

    def _failed(self, error: Exception) -> ClosedEvent:
        """A bug in a client must not end the dubbing of a broadcast. Called while ``error`` is handled."""
        log.exception("speech session failed", extra={"streamId": self._target.stream_id})
        return ClosedEvent("internal", f"the speech client failed: {error}", retryable=True)

    def _gives_up(self, error: Exception) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(self._failed(error))

    async def _one_session(self) -> ClosedEvent:
        inner, self._next = self._next or await self._backend.open(self._target), None
        opened_ns = self._clock.now_ns()
        try:
            lost, frames = self._tail.replay(self._in_time_from() if self._in_time_from else 0)
            if lost:
                await self._events.put(lost)
            while frames:
                for frame in frames:
                    await inner.send(frame)
                    await asyncio.sleep(0)  # the session's own queue may be shorter than what it is to hear at once
                frames = self._tail.after(frames[-1])
            self._inner = inner
            self._state("open")
            if self._finishing:
                await inner.finish()
            return await self._forward(inner)
        finally:
            self._inner = None
            self._dropped += inner.dropped_frames
            if self._clock.now_ns() - opened_ns > self._settings.steady_s * NS_PER_S:
                self._pauses.reset()
            await inner.aclose()

    async def _forward(self, inner: SpeechSession) -> ClosedEvent:
        """Pass events on until the inner session ends, is broken, or has been left for the next one."""
        leave = asyncio.Event()
        broken: asyncio.Future[ClosedEvent] = asyncio.get_running_loop().create_future()
        self._broken = broken
        reading = asyncio.create_task(self._read(inner, leave), name="speech events")
        left = asyncio.create_task(leave.wait(), name="speech left")
        try:
            waited_for: set[asyncio.Future[Any]] = {reading, left, broken}
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            if broken.done():
                return broken.result()
            return ClosedEvent("overloaded", "the speech service goes away", retryable=True)
        finally:
            for task in (reading, left):
                task.cancel()
            await asyncio.gather(reading, left, return_exceptions=True)

    async def _read(self, inner: SpeechSession, leave: asyncio.Event) -> ClosedEvent:
        moving: asyncio.Task[None] | None = None
        try:
            async for event in inner.events():
                match event:
                    case ClosedEvent():
                        return event
                    case GoingAwayEvent(deadline_s):
                        moving = moving or asyncio.create_task(self._move(deadline_s, leave), name="speech move")
                    case _:
                        await self._pass_on(event)
        finally:
            if moving:
                moving.cancel()
                await asyncio.gather(moving, return_exceptions=True)
        return ClosedEvent("internal", "the session ended without a word", retryable=True)

    async def _move(self, deadline_s: float, leave: asyncio.Event) -> None:
        """Open the next session while the present one speaks, then leave that; what it has not answered the next one
        hears again. Where none can be had before the deadline, it is left as after any end."""
        log.info("the speech service goes away", extra={"streamId": self._target.stream_id})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._next is None and not self._finishing:
                    try:
                        self._next = await self._backend.open(self._target)
                    except SpeechError as error:
                        log.debug("no other session yet: %s", error)
                        await asyncio.sleep(self._pauses.next_s())
        leave.set()

    async def _pass_on(self, event: SpeechEvent) -> None:
        match event:
            case SegmentEvent(segment):
                spoken = self._spoken_until_ns
                # heard twice, by the session that died after speaking it and by the next one
                if spoken is not None and segment.source_end_ns <= spoken:
                    return
                self._spoken_until_ns = segment.source_end_ns
                self._tail.dealt_with(segment.source_end_ns)
                await self._events.put(SegmentEvent(replace(segment, sequence=self._sequence)))
                self._sequence += 1
            case ProgressEvent(until_ns):
                self._tail.dealt_with(until_ns)
                await self._events.put(event)
            case _:
                await self._events.put(event)


class RetryBackend:
    """Wraps ``backend``. ``open`` never fails for a reason that may pass; the first try happens behind it.

    ``on_state`` is told of every change. ``in_time_from`` gives the source time (ns) from which a dub that is asked
    for now can still be in its place on air; older sound is not sent again.
    """

    def __init__(
        self,
        backend: SpeechBackend,
        settings: RetrySettings | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        on_state: OnState | None = None,
        in_time_from: Callable[[], int] | None = None,
    ) -> None:
        self._backend = backend
        self._in_time_from = in_time_from
        self._settings = settings or RetrySettings()
        self._clock = clock or MonotonicClock()
        self._rng = rng or random.Random()
        self._on_state = on_state

    @property
    def name(self) -> str:
        return self._backend.name

    async def open(self, target: SpeechTarget) -> RetrySession:
        session = RetrySession(
            self._backend, target, self._settings, self._clock, self._rng, self._on_state, self._in_time_from
        )
        session.start()
        return session

    async def aclose(self) -> None:
        await self._backend.aclose()

"""Several speech backends as one: the first that works speaks, and the first of all again once it is well.

Wrappers from outside in: retry, failover, breaker, backend. So each backend has a breaker of its own; an open one is
one more reason to take the next, and retry sees an end only where no backend is left.

- *The one that speaks fails.* If it had lived for a while it is opened once more, quickly; else the next in order.
  Sound that nobody dealt with is sent again, as far as its dub can be in time.
- *It has reached its cost ceiling*, or *a better one is well again* (which is tried after a hold that doubles with
  every relapse): the other is opened beside it and hears the same sound; both are charged. Once it has dealt with
  some seconds, it takes over at the source time up to which the old one has delivered. So there is no hole, and at
  most the sentence in between is cut; the cross-fade is that of the worker's schedule.

What several languages of a stream spend on one backend counts together: they share its Budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from babelcast.clock import Clock, MonotonicClock
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.speech.base import (
    BackendEvent,
    ClosedEvent,
    GoingAwayEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechBackend,
    SpeechEvent,
    SpeechTarget,
    UsageEvent,
)
from babelcast.speech.cost import Budget
from babelcast.speech.events import EventQueue
from babelcast.speech.members import BUDGET_CODE, FailoverSettings, Member, Pool, Slot
from babelcast.speech.retry import Tail
from babelcast.units import NS_PER_S, SpeechFrame

log = logging.getLogger(__name__)

_MAX_EVENTS = 512
_TICK_S = 0.25


class FailoverSession:
    """See :class:`babelcast.speech.base.SpeechSession`. Made by :meth:`FailoverBackend.open`.

    Events that nobody reads: at most 512, then the oldest is dropped.
    """

    def __init__(self, owner: FailoverBackend, target: SpeechTarget, first: Slot) -> None:
        self._owner = owner
        self._members = owner.members
        self._settings = owner.settings
        self._clock = owner.clock
        self._target = target
        self._tail = Tail(owner.settings.replay_s)
        self._active = first
        self._next: Slot | None = None
        self._opening: asyncio.Task[Slot] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._events = EventQueue(_MAX_EVENTS)
        self._sequence = 0
        self._spoken_until_ns = -1
        self._progress_ns = -1
        self._dropped = 0
        self._finishing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._events.push(BackendEvent(self._members[self._active.index].backend.name, self._active.reason))
        self._listen(self._active)
        self._task = asyncio.create_task(self._live(), name="speech failover")

    @property
    def speaking(self) -> str:
        """Name of the backend that speaks."""
        return self._members[self._active.index].backend.name

    @property
    def dropped_frames(self) -> int:
        return self._dropped + self._active.session.dropped_frames

    async def send(self, frame: SpeechFrame) -> None:
        if self._events.ended:
            raise SpeechUnavailableError("the session has ended", code="internal")
        self._tail.add(frame)
        for slot in (self._active, self._next):
            if slot is None or slot.closed is not None:
                continue
            if slot.start_ns is None:
                slot.start_ns = frame.start_ns
            try:
                await slot.session.send(frame)
            except SpeechError as error:
                log.debug("frame kept for the next backend: %s", error)
            except Exception as error:  # a bug in a client: the next backend
                log.exception("speech session failed", extra={"streamId": self._target.stream_id})
                slot.closed = ClosedEvent("internal", f"the speech client failed: {error}", retryable=True)
                self._wake.set()

    async def finish(self) -> None:
        self._finishing = True
        await self._active.session.finish()

    def events(self) -> AsyncIterator[SpeechEvent]:
        return self._events.read()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._drop_next()
        self._retire(self._active)
        await asyncio.gather(*self._retiring, return_exceptions=True)
        self._events.push(ClosedEvent("finished", "closed by us", retryable=False))

    # events

    def _listen(self, slot: Slot) -> None:
        slot.reader = asyncio.create_task(self._read(slot), name=f"failover {slot.index}")

    async def _read(self, slot: Slot) -> None:
        closed = ClosedEvent("internal", "the session ended without a word", retryable=True)
        try:
            async for event in slot.session.events():
                if isinstance(event, ClosedEvent):
                    closed = event
                else:
                    self._take(slot, event)
        except Exception as error:  # a bug in a client: the next backend
            log.exception("speech session failed", extra={"streamId": self._target.stream_id})
            closed = ClosedEvent("internal", f"the speech client failed: {error}", retryable=True)
        slot.closed = slot.closed or closed
        self._wake.set()

    def _take(self, slot: Slot, event: SpeechEvent) -> None:
        if isinstance(event, UsageEvent):
            budget = self._members[slot.index].budget
            if budget is not None:
                budget.add(event.usd, self._clock.now_ns())
            self._events.push(event)
            self._wake.set()
        elif isinstance(event, GoingAwayEvent):
            slot.closed = ClosedEvent("overloaded", "the speech service goes away", retryable=True)
            self._wake.set()
        elif slot is self._active:
            self._pass_on(event)
        elif slot is self._next:
            slot.buffer.append(event)
            if isinstance(event, ProgressEvent):
                slot.progress_ns = max(slot.progress_ns, event.processed_until_ns)
                self._wake.set()

    def _pass_on(self, event: SpeechEvent) -> None:
        match event:
            case SegmentEvent(segment):
                # spoken already, by the one before: more than half of it
                if (segment.source_start_ns + segment.source_end_ns) // 2 < self._spoken_until_ns:
                    return
                self._spoken_until_ns = segment.source_end_ns
                self._tail.dealt_with(segment.source_end_ns)
                self._events.push(SegmentEvent(replace(segment, sequence=self._sequence)))
                self._sequence += 1
            case ProgressEvent(until_ns):
                self._tail.dealt_with(until_ns)
                if until_ns > self._progress_ns:
                    self._progress_ns = until_ns
                    self._events.push(event)
            case _:
                self._events.push(event)

    # who speaks

    async def _live(self) -> None:
        try:
            await self._watch()
        except Exception as error:  # a bug here must not hang the stream: retry opens another session
            log.exception("failover failed", extra={"streamId": self._target.stream_id})
            self._events.push(ClosedEvent("internal", f"the failover failed: {error}", retryable=True))

    async def _watch(self) -> None:
        while not self._events.ended:
            self._wake.clear()
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            closed = self._active.closed
            if closed is not None:
                if closed.code == "finished" or not await self._replace(closed):
                    self._events.push(closed)
            elif not self._finishing:
                await self._look_for_better()

    async def _replace(self, closed: ClosedEvent) -> bool:
        """The one that speaks has ended: take another. False: there is none."""
        old, now_ns = self._active, self._clock.now_ns()
        lived_s = (now_ns - old.opened_ns) / NS_PER_S
        again = closed.retryable and lived_s >= self._settings.steady_s
        if not again:
            self._members[old.index].failed(closed.reason, now_ns, self._settings, final=not closed.retryable)
        log.warning("%s failed: %s", self.speaking, closed.reason, extra={"streamId": self._target.stream_id})
        self._retire(old)
        ready = self._next
        if ready is not None and ready.closed is None:
            dealt_ns = max(self._progress_ns, self._spoken_until_ns)
            if ready.start_ns is not None and 0 <= dealt_ns < ready.start_ns:
                self._events.push(LostEvent(dealt_ns, ready.start_ns))
            self._adopt(ready, closed.reason)
            if self._finishing:
                await ready.session.finish()
            return True
        await self._drop_next()
        try:
            slot = await self._owner.open_slot(self._target, first=old.index if again else None)
        except SpeechError as error:
            self._active.closed = ClosedEvent(error.code, str(error), error.retryable)
            self._events.push(self._active.closed)
            return False
        self._dropped += old.session.dropped_frames
        await self._start_again(slot, closed.reason)
        return True

    async def _start_again(self, slot: Slot, reason: str) -> None:
        try:
            await self._replay(slot)
        except SpeechError as error:  # it ended at once: its reader learns why, and the next one is taken
            log.debug("not all was sent again: %s", error)
        except BaseException:
            self._retire(slot)
            raise
        changed = slot.index != self._active.index
        self._active = slot
        self._listen(slot)
        if changed:
            self._say(slot, reason)
        if self._finishing:
            await slot.session.finish()

    async def _replay(self, slot: Slot) -> None:
        """Let it hear what nobody has dealt with, as far as its dub can be in time."""
        lost, frames = self._tail.replay(self._owner.in_time_from() if self._owner.in_time_from else 0)
        if lost is not None:
            self._events.push(lost)
        if frames:
            slot.start_ns = frames[0].start_ns
        while frames:
            for frame in frames:
                await slot.session.send(frame)
                await asyncio.sleep(0)  # its own queue may be shorter than what it is to hear at once
            frames = self._tail.after(frames[-1])

    async def _look_for_better(self) -> None:
        if self._next is not None:
            self._judge(self._next)
        elif self._opening is not None:
            self._opened()
        else:
            await self._open_another()

    async def _open_another(self) -> None:
        """Open a better one that may be well again, or any other where this one may spend no more."""
        now_ns = self._clock.now_ns()
        refusal = self._members[self._active.index].refusal(now_ns)
        spent = refusal is not None and refusal.code == BUDGET_CODE
        if (now_ns - self._active.opened_ns) / NS_PER_S >= self._settings.well_s:
            self._members[self._active.index].hold_s = 0.0
        others = [i for i in range(len(self._members)) if i < self._active.index or (spent and i != self._active.index)]
        able = [i for i in others if self._members[i].refusal(now_ns) is None]
        if able:
            reason = str(refusal) if spent else f"{self._members[able[0]].backend.name} is tried again"
            self._opening = asyncio.create_task(self._open_one(able, reason))
        elif spent and refusal is not None:
            log.warning("%s, and nobody else is left", refusal, extra={"streamId": self._target.stream_id})
            self._retire(self._active)
            self._events.push(ClosedEvent(BUDGET_CODE, str(refusal), retryable=True))

    async def _open_one(self, indices: Sequence[int], reason: str) -> Slot:
        error: SpeechError | None = None
        for index in indices:
            try:
                slot = await self._owner.open_member(index, self._target)
            except SpeechError as failed:
                error = failed
                continue
            slot.reason = reason
            return slot
        raise error or SpeechUnavailableError("no backend", code="internal")

    def _opened(self) -> None:
        assert self._opening is not None
        if not self._opening.done():
            return
        task, self._opening = self._opening, None
        error = task.exception()
        if error is not None:
            log.info("not yet: %s", error, extra={"streamId": self._target.stream_id})
            return
        self._next = task.result()
        self._listen(self._next)

    def _judge(self, slot: Slot) -> None:
        """Whether the one that was opened beside takes over."""
        now_ns = self._clock.now_ns()
        late = now_ns - slot.opened_ns > self._settings.proof_within_s * NS_PER_S
        if slot.closed is not None or late:
            why = slot.closed.reason if slot.closed else f"nothing within {self._settings.proof_within_s:g} s"
            final = slot.closed is not None and not slot.closed.retryable
            self._members[slot.index].failed(why, now_ns, self._settings, final=final)
            self._next = None
            self._retire(slot)
            return
        if slot.start_ns is None:
            return
        proven = slot.progress_ns - slot.start_ns >= self._settings.proof_s * NS_PER_S
        # before that the old one has to deliver what the new one did not hear
        if proven and max(self._progress_ns, self._spoken_until_ns) >= slot.start_ns:
            old = self._active
            self._adopt(slot, slot.reason)
            self._retire(old)

    def _adopt(self, slot: Slot, reason: str | None) -> None:
        """From here on ``slot`` speaks: what it said of source that the old one has delivered is left out."""
        self._next = None
        self._dropped += self._active.session.dropped_frames
        self._active = slot
        boundary_ns = self._spoken_until_ns = max(self._spoken_until_ns, self._progress_ns)
        for event in slot.buffer:
            if isinstance(event, LostEvent):
                if event.source_end_ns <= boundary_ns:
                    continue
                event = replace(event, source_start_ns=max(event.source_start_ns, boundary_ns))
            self._pass_on(event)
        slot.buffer.clear()
        self._say(slot, reason)

    def _say(self, slot: Slot, reason: str | None) -> None:
        name = self._members[slot.index].backend.name
        log.warning("%s speaks from now on: %s", name, reason, extra={"streamId": self._target.stream_id})
        self._events.push(BackendEvent(name, reason))

    def _retire(self, slot: Slot) -> None:
        """Close it behind the scenes."""
        task = asyncio.create_task(self._close(slot))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close(self, slot: Slot) -> None:
        if slot.reader is not None and slot.reader is not asyncio.current_task():
            slot.reader.cancel()
            await asyncio.gather(slot.reader, return_exceptions=True)
        await slot.session.aclose()

    async def _drop_next(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            if not opening.cancelled() and opening.exception() is None:
                self._retire(opening.result())
        slot, self._next = self._next, None
        if slot is not None:
            self._retire(slot)


class FailoverBackend(Pool):
    """``members`` in the order of preference. One for each language, as the breakers are."""

    def __init__(
        self,
        members: Sequence[Member],
        settings: FailoverSettings | None = None,
        *,
        clock: Clock | None = None,
        in_time_from: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(members, settings or FailoverSettings(), clock or MonotonicClock())
        self.in_time_from = in_time_from

    @property
    def name(self) -> str:
        return ",".join(member.backend.name for member in self.members)

    async def open(self, target: SpeechTarget) -> FailoverSession:
        """Raises what the most hopeful of them said, where none can be opened."""
        session = FailoverSession(self, target, await self.open_slot(target, first=None))
        session.start()
        return session

    async def aclose(self) -> None:
        await asyncio.gather(*(member.backend.aclose() for member in self.members))


def joined(
    breakers: Sequence[SpeechBackend],
    budgets: Sequence[Budget | None],
    *,
    clock: Clock | None = None,
    in_time_from: Callable[[], int] | None = None,
) -> SpeechBackend:
    """One language's backends, each in its breaker, as one. ``budgets`` are the stream's: all languages share them."""
    if len(breakers) == 1 and budgets[0] is None:
        return breakers[0]
    members = [Member(backend, budget) for backend, budget in zip(breakers, budgets, strict=True)]
    return FailoverBackend(members, clock=clock, in_time_from=in_time_from)

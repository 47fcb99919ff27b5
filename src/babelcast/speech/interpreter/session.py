"""One stream's life with an interpreter: paced sound in, segments out, over one connection after the other.

::

    send ─► Inbox ─► _pump: a chunk when it is due ─┬─► newest Leg ─► segments with lineage ─┐
                                                    └─► older Leg: silence, until it is spent ┴─► events, oldest first

*Rotation.* Services end a connection after some minutes. Before that, or when the service says that it goes away,
a fresh connection is opened beside the old one; at the next pause of the source (or soon, where there is none) new
sound goes to the fresh one, and the old one gets silence and speaks what it owes for some seconds. Its segments go
out first. So nothing is sent twice, nothing falls between, and the timeline keeps them apart; the cross-fade is that
of the worker's schedule. Where no fresh connection can be opened, the old one is closed in time and its session
resumed by its handle: that costs a hole, so it comes second.

An unexpected end is not mended here: the session closes, and :mod:`babelcast.speech.retry` opens another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace

from babelcast.clock import Clock, MonotonicClock
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.speech.base import (
    ClosedEvent,
    LostEvent,
    PartialEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechEvent,
    SpeechTarget,
    UsageEvent,
)
from babelcast.speech.cost import CostMeter
from babelcast.speech.interpreter.connection import Connection, Connector
from babelcast.speech.interpreter.inbox import Chunk, Inbox
from babelcast.speech.interpreter.leg import Leg
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.units import NS_PER_MS, NS_PER_S, SPEECH_RATE, SpeechFrame

log = logging.getLogger(__name__)

_MAX_EVENTS = 128
_PROGRESS_NS = 200 * NS_PER_MS
_USAGE_NS = 2 * NS_PER_S
_DRAINED_S = 1.0


class InterpreterSession:
    """See :class:`babelcast.speech.base.SpeechSession`. Made by :meth:`InterpreterBackend.open`.

    Events that nobody reads: at most 128, then the oldest is dropped, and counted where it is a segment.
    """

    def __init__(
        self,
        connector: Connector,
        target: SpeechTarget,
        first: Connection,
        clock: Clock,
        settings: InterpreterSettings,
    ) -> None:
        self._connector = connector
        self._target = target
        self._clock = clock
        self._settings = settings
        self._inbox = Inbox(settings.queue_s, connector.chunk_ms)
        self._arrived = asyncio.Event()
        self._events: deque[SpeechEvent] = deque()
        self._event_there = asyncio.Event()
        self._legs: deque[Leg] = deque()
        self._handed_over_ns = clock.now_ns()
        self._next_leg: asyncio.Task[Connection] | None = None
        self._next_try_ns = 0
        self._leaving: Leg | None = None
        self._handover_from_ns: int | None = None
        self._finish_asked = False
        self._finished_ns: int | None = None
        self._self_ending: Leg | None = None
        self._ended = False
        self._closing = False
        self._sequence = 0
        self._progress_ns: int | None = None
        self._progress_told_ns = 0
        self._partial = ""
        self._usage_told_ns = clock.now_ns()
        self._task: asyncio.Task[None] | None = None
        self.meter = CostMeter(connector.price)
        self.rotations = 0
        self.resumptions = 0
        self.dropped_segments = 0
        self._add_leg(first)

    def start(self) -> None:
        """Begin to send and receive; ``aclose`` ends both."""
        self._task = asyncio.create_task(self._run(), name=f"{self._connector.name} session")

    @property
    def dropped_frames(self) -> int:
        return self._inbox.dropped

    @property
    def drift_s(self) -> float:
        """Seconds of sound that came over the newest connection less those that went."""
        return self._legs[-1].drift_s if self._legs else 0.0

    async def send(self, frame: SpeechFrame) -> None:
        if self._ended or self._closing:
            raise SpeechUnavailableError("the session has ended", code="internal")
        if frame.rate != SPEECH_RATE:
            raise SpeechError(f"frames are at {SPEECH_RATE} Hz", code="unsupported_format")
        gone = self._inbox.put(frame)
        if gone:
            self._lost(*gone)
        self._arrived.set()

    async def finish(self) -> None:
        self._finish_asked = True
        self._arrived.set()

    async def events(self) -> AsyncIterator[SpeechEvent]:
        while True:
            while not self._events:
                self._event_there.clear()
                await self._event_there.wait()
            event = self._events.popleft()
            yield event
            if isinstance(event, ClosedEvent):
                return

    async def aclose(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._close_all()
        self._end(ClosedEvent("finished", "closed by us", retryable=False))

    async def _close_all(self) -> None:
        legs = [*self._legs, *([self._leaving] if self._leaving else [])]
        await asyncio.gather(self._drop_next(), *(leg.aclose() for leg in legs))

    async def _drop_next(self) -> None:
        task = self._next_leg
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and task.exception() is None:
            await task.result().aclose()

    # events

    def _emit(self, event: SpeechEvent) -> None:
        if self._ended:
            return
        if len(self._events) >= _MAX_EVENTS:
            self.dropped_segments += isinstance(self._events.popleft(), SegmentEvent)
        self._events.append(event)
        self._event_there.set()

    def _end(self, closed: ClosedEvent) -> None:
        """Make ``closed`` the last event."""
        self._tell_usage()
        self._emit(closed)
        self._ended = True

    def _lost(self, start_ns: int, end_ns: int) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, LostEvent) and last.source_end_ns == start_ns:
            self._events[-1] = LostEvent(last.source_start_ns, end_ns)
        else:
            self._emit(LostEvent(start_ns, end_ns))

    def _tell_usage(self) -> None:
        usd, seconds_in, seconds_out = self.meter.take()
        lag_s = self._legs[-1].lineage.lag_s if self._legs else None
        if seconds_in or seconds_out:
            self._emit(UsageEvent(self._connector.name, usd, seconds_in, seconds_out, self.drift_s, lag_s))
        self._usage_told_ns = self._clock.now_ns()

    # the life

    async def _run(self) -> None:
        closed = ClosedEvent("internal", "the interpreter's session failed", retryable=True)
        try:
            closed = await self._pump()
        except SpeechError as error:
            closed = ClosedEvent(error.code, str(error), error.retryable)
        except Exception as error:  # a bug here must not hang the stream: it gets another session
            log.exception("interpreter session failed", extra={"streamId": self._target.stream_id})
            closed = ClosedEvent("internal", f"the interpreter's client failed: {error}", retryable=True)
        if not self._closing:
            for leg in self._legs:
                self._release(leg)
            self._end(closed)
            await self._close_all()

    async def _pump(self) -> ClosedEvent:
        """A chunk to every connection whenever one is due, and everything else in between."""
        chunk_s = self._connector.chunk_ms / 1_000
        due_ns = not_before_ns = self._clock.now_ns()
        while True:
            wait_s = (max(due_ns, not_before_ns) - self._clock.now_ns()) / NS_PER_S
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            fed = await self._feed(due_ns)
            if fed is not None:
                not_before_ns = self._clock.now_ns() + round(chunk_s / self._settings.catch_up * NS_PER_S)
            await self._maintain()
            if self._is_finished():
                return ClosedEvent("finished", "all was dubbed", retryable=False)
            if fed is None:
                await self._wait_for_sound(chunk_s / 2)
            elif fed.start_ns is None:
                due_ns += round(chunk_s * NS_PER_S)
            else:
                behind = self._inbox.held_s > max(self._settings.behind_s, 2 * chunk_s)
                pace_s = chunk_s / self._settings.catch_up if behind else chunk_s
                # never a burst for what was missed: the backlog sets the pace
                due_ns = max(due_ns + round(pace_s * NS_PER_S), self._clock.now_ns())

    async def _wait_for_sound(self, at_most_s: float) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout(at_most_s):
                await self._arrived.wait()
        except TimeoutError:
            pass

    async def _feed(self, due_ns: int) -> Chunk | None:
        """Send the next chunk, or silence where there was none for too long. None: nothing was due."""
        if not self._legs or self._self_ending is self._legs[-1]:
            return None
        chunk = self._inbox.take(last=self._finish_asked)
        if chunk is None and self._finish_asked:
            await self._begin_finish()
            if self._self_ending is self._legs[-1]:
                return None
        elif chunk is None and self._clock.now_ns() - due_ns < self._settings.gap_s * NS_PER_S:
            return None
        chunk = chunk or self._inbox.silence
        for leg in list(self._legs):
            if leg is self._legs[-1]:
                await leg.hear(chunk)
            elif leg is not self._self_ending and not leg.ended:
                await leg.hear(self._inbox.silence)
        return chunk

    async def _begin_finish(self) -> None:
        if self._finished_ns is None:
            self._finished_ns = self._clock.now_ns()
            if await self._legs[-1].finish():
                self._self_ending = self._legs[-1]

    def _is_finished(self) -> bool:
        if self._finished_ns is None or len(self._legs) != 1:
            return False
        since_s = (self._clock.now_ns() - self._finished_ns) / NS_PER_S
        leg = self._legs[0]
        says_when = leg is self._self_ending and not leg.ended
        if since_s < self._settings.finish_max_s and (since_s < _DRAINED_S or says_when or not leg.spent()):
            return False
        self._release(leg)
        self._settle(leg)
        return True

    def _settle(self, leg: Leg) -> None:
        """The leg says no more: what it still owes is lost, and all that it heard is dealt with."""
        unspoken = leg.lineage.unspoken_ns(1 << 62)
        if unspoken is not None:
            self._lost(*unspoken)
        if leg.lineage.sent_until_ns is not None:
            self._tell_progress(leg.lineage.sent_until_ns)

    async def _maintain(self) -> None:
        now_ns = self._clock.now_ns()
        for leg in list(self._legs):
            leg.check()
        await self._retire()
        if not self._legs:
            await self._resumed()
            return
        newest = self._legs[-1]
        if newest.error and not (newest.ended and self._finished_ns is not None):
            raise newest.error
        if newest.ended and self._finished_ns is None:
            raise SpeechUnavailableError("the interpreter ended the session", code="internal")
        self._release(self._legs[0])
        if now_ns - self._progress_told_ns >= _PROGRESS_NS:
            self._progress(self._legs[0])
        if now_ns - self._usage_told_ns >= _USAGE_NS:
            self._tell_usage()
        if self._finished_ns is None and not self._finish_asked:
            await self._rotate(newest, now_ns)

    def _release(self, leg: Leg) -> None:
        while leg.ready:
            segment = leg.ready.popleft()
            self._emit(SegmentEvent(replace(segment, sequence=self._sequence)))
            self._sequence += 1

    def _progress(self, leg: Leg) -> None:
        self._progress_told_ns = self._clock.now_ns()
        if leg.speaking or leg.ready:
            return
        lost = leg.lineage.give_up()
        if lost is not None:
            self._lost(*lost)
        until_ns = leg.lineage.progress_ns(round(leg.quiet_s * NS_PER_S))
        if until_ns is not None:
            self._tell_progress(until_ns)
        text = leg.partial.strip()
        if text and text != self._partial and leg.lineage.sent_until_ns is not None:
            self._partial = text
            start_ns = min(self._progress_ns or 0, leg.lineage.sent_until_ns)
            self._emit(PartialEvent(start_ns, leg.lineage.sent_until_ns, text))

    def _tell_progress(self, until_ns: int) -> None:
        if self._progress_ns is None or until_ns > self._progress_ns:
            self._progress_ns = until_ns
            self._emit(ProgressEvent(until_ns))

    # one connection after the other

    def _add_leg(self, connection: Connection) -> None:
        leg = Leg(connection, self.rotations + self.resumptions, self.meter, self._clock, self._settings)
        leg.start()
        self._legs.append(leg)

    async def _rotate(self, leg: Leg, now_ns: int) -> None:
        """Open the next connection where it is time, and hand over to it once it is there."""
        if len(self._legs) > 1:
            return
        if self._next_leg is None:
            age_s = (now_ns - leg.opened_ns) / NS_PER_S
            if now_ns >= self._next_try_ns and (leg.closes_at_ns is not None or age_s >= self._settings.rotate_after_s):
                self._next_leg = asyncio.create_task(self._open(None), name="interpreter rotation")
            else:
                self._give_up_in_time(leg, now_ns)
            return
        if not self._next_leg.done():
            return
        error = self._next_leg.exception()
        if error is not None:
            log.warning("the next interpreter connection failed: %s", error)
            self._next_leg = None
            self._next_try_ns = now_ns + round(self._settings.reopen_pause_s * NS_PER_S)
            return
        self._handover_from_ns = self._handover_from_ns or now_ns
        waited_s = (now_ns - self._handover_from_ns) / NS_PER_S
        if leg.lineage.pausing or waited_s >= self._settings.handover_wait_s:
            await self._hand_over(leg)

    async def _hand_over(self, old: Leg) -> None:
        assert self._next_leg is not None
        connection, self._next_leg, self._handover_from_ns = self._next_leg.result(), None, None
        if await old.finish():
            self._self_ending = old
        self.rotations += 1
        self._handed_over_ns = self._clock.now_ns()
        self._add_leg(connection)
        log.info("interpreter connection %d takes over", self.rotations, extra={"streamId": self._target.stream_id})

    async def _retire(self) -> None:
        """Close the old connection when it has said what it owed, or had the time for it."""
        if len(self._legs) < 2:
            return
        old, since_s = self._legs[0], (self._clock.now_ns() - self._handed_over_ns) / NS_PER_S
        gone = old.ended or old.error is not None
        if gone or since_s >= self._settings.drain_max_s or (since_s >= self._settings.drain_min_s and old.spent()):
            self._release(old)
            self._settle(old)
            self._legs.popleft()
            await old.aclose()

    def _give_up_in_time(self, leg: Leg, now_ns: int) -> None:
        """No fresh connection opened, and the end is near: resume, for which the old one must be closed first."""
        if leg.closes_at_ns is None or leg.handle is None:
            return
        if now_ns < leg.closes_at_ns - self._settings.goaway_margin_s * NS_PER_S:
            return
        self._release(leg)
        self._settle(leg)
        self._legs.clear()
        self._leaving = leg
        self._next_leg = asyncio.create_task(self._resume(leg, leg.handle), name="interpreter resumption")

    async def _resume(self, old: Leg, handle: str) -> Connection:
        await old.aclose()
        self._leaving = None
        return await self._open(handle)

    async def _resumed(self) -> None:
        """Without a connection sound waits in the inbox."""
        if self._next_leg is None or not self._next_leg.done():
            return
        task, self._next_leg = self._next_leg, None
        connection = task.result()
        self.resumptions += 1
        self._add_leg(connection)
        log.info("interpreter session resumed", extra={"streamId": self._target.stream_id})

    async def _open(self, handle: str | None) -> Connection:
        return await open_connection(self._connector, self._target, self._settings.open_timeout_s, handle)


async def open_connection(
    connector: Connector, target: SpeechTarget, timeout_s: float, handle: str | None = None
) -> Connection:
    """Raises SpeechError; SpeechUnavailableError with code ``deadline`` where the service accepts and says nothing."""
    try:
        async with asyncio.timeout(timeout_s):
            return await connector.connect(target, handle)
    except TimeoutError as error:
        raise SpeechUnavailableError(f"{connector.name} does not answer", code="deadline") from error


class InterpreterBackend:
    """See :class:`babelcast.speech.base.SpeechBackend`."""

    def __init__(
        self, connector: Connector, *, settings: InterpreterSettings | None = None, clock: Clock | None = None
    ) -> None:
        self._connector = connector
        self._settings = settings or InterpreterSettings()
        self._clock = clock or MonotonicClock()

    @property
    def name(self) -> str:
        return self._connector.name

    async def open(self, target: SpeechTarget) -> InterpreterSession:
        connection = await open_connection(self._connector, target, self._settings.open_timeout_s)
        session = InterpreterSession(self._connector, target, connection, self._clock, self._settings)
        session.start()
        return session

    async def aclose(self) -> None:
        await self._connector.aclose()

"""A circuit breaker round a speech backend: while the backend fails or is slow, nothing is sent to it.

A session is not a request, so a *call* is a stretch of one second of source: it begins when its last frame is sent,
and is answered when a ProgressEvent passes its end. It failed when a LostEvent names it or the session ends before
the answer; it is slow when the answer takes longer than it may (also one that never comes). A session that can't be
opened is one failed call.

Wrappers from outside in: retry, (failover,) breaker, backend. So each of several backends has a breaker of its own,
retry sees an open breaker as one more reason to wait, and what retry sends again has passed its own rule: nothing
that could not be on air in its place any more.

:class:`CircuitBreaker` and :class:`Stretches` are pure: the time is a parameter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Literal

from babelcast.clock import Clock, MonotonicClock
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.spec import BreakerSpec, BreakerStatus
from babelcast.speech.base import (
    ClosedEvent,
    LostEvent,
    ProgressEvent,
    SpeechBackend,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
)
from babelcast.units import NS_PER_S, SpeechFrame

log = logging.getLogger(__name__)

BreakerState = Literal["closed", "open", "half-open"]

OPEN_CODE = "breaker_open"
"""``code`` of the errors and ClosedEvents by which an open breaker refuses."""
_STRETCH_NS = NS_PER_S
_MOST_CALLS = 1_000

OnChange = Callable[[BreakerStatus], None]


class CircuitBreaker:
    """closed → open when, of the calls in the window, too many failed or were slow; open → half-open when
    ``open_s`` is over and somebody asks; half-open → closed after ``probes`` good calls, → open after a bad one.

    ``slow_call_s`` where the spec leaves it open. ``on_change`` is told the new status.
    """

    def __init__(self, backend: str, spec: BreakerSpec, slow_call_s: float, on_change: OnChange | None = None) -> None:
        self._backend = backend
        self._spec = spec
        self.slow_call_s = slow_call_s if spec.slow_call_s is None else spec.slow_call_s
        self._on_change = on_change
        self._calls: deque[tuple[int, Literal["good", "slow", "failed"]]] = deque(maxlen=_MOST_CALLS)
        self._good_probes = 0
        self._open_until_ns = 0
        self.state: BreakerState = "closed"
        self.reason: str | None = None
        """Why it opened last, a sentence."""
        self.opened = 0

    @property
    def status(self) -> BreakerStatus:
        return BreakerStatus(state=self.state, backend=self._backend, reason=self.reason, opened=self.opened)

    def wait_s(self, now_ns: int) -> float:
        """Seconds until a call may be made, 0.0 where it may now. Asking turns open into half-open."""
        if self.state != "open":
            return 0.0
        if now_ns < self._open_until_ns:
            return (self._open_until_ns - now_ns) / NS_PER_S
        self._good_probes = 0
        self._become("half-open")
        return 0.0

    def good(self, now_ns: int) -> None:
        if self.state == "half-open":
            self._good_probes += 1
            if self._good_probes >= self._spec.probes:
                self._calls.clear()
                self._become("closed")
        else:
            self._count(now_ns, "good")

    def slow(self, now_ns: int) -> None:
        self._bad(now_ns, "slow", f"no answer within {self.slow_call_s:g} s")

    def failed(self, now_ns: int, why: str) -> None:
        self._bad(now_ns, "failed", why)

    def _bad(self, now_ns: int, kind: Literal["slow", "failed"], why: str) -> None:
        if self.state == "half-open":
            self._open(now_ns, f"a probe failed: {why}")
        elif self.state == "closed":
            self._count(now_ns, kind)
            spec, total = self._spec, len(self._calls)
            bad = sum(what == kind for _, what in self._calls)
            limit = spec.failure_rate if kind == "failed" else spec.slow_rate
            if total >= spec.min_calls and bad >= limit * total:
                self._open(now_ns, f"{bad} of {total} calls {'failed' if kind == 'failed' else 'were slow'}: {why}")

    def _count(self, now_ns: int, kind: Literal["good", "slow", "failed"]) -> None:
        self._calls.append((now_ns, kind))
        while self._calls[0][0] < now_ns - self._spec.window_s * NS_PER_S:
            self._calls.popleft()

    def _open(self, now_ns: int, reason: str) -> None:
        self._open_until_ns = now_ns + round(self._spec.open_s * NS_PER_S)
        self._calls.clear()
        self.reason = reason
        self.opened += 1
        self._become("open")

    def _become(self, state: BreakerState) -> None:
        self.state = state
        if self._on_change is not None:
            self._on_change(self.status)


class Stretches:
    """The calls of one session that have no answer yet."""

    def __init__(self) -> None:
        self._pending: deque[tuple[int, int, int]] = deque(maxlen=_MOST_CALLS)  # start, end, sent at
        self._start_ns: int | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def sent(self, frame: SpeechFrame, now_ns: int) -> None:
        if self._start_ns is None:
            self._start_ns = frame.start_ns
        if frame.end_ns - self._start_ns >= _STRETCH_NS:
            self._pending.append((self._start_ns, frame.end_ns, now_ns))
            self._start_ns = frame.end_ns

    def answered(self, until_ns: int) -> list[int]:
        """The times at which those were sent that a ProgressEvent answers."""
        times = []
        while self._pending and self._pending[0][1] <= until_ns:
            times.append(self._pending.popleft()[2])
        return times

    def lost(self, start_ns: int, end_ns: int) -> int:
        """How many a LostEvent names; they are not pending any more."""
        left = [call for call in self._pending if call[1] <= start_ns or call[0] >= end_ns]
        gone = len(self._pending) - len(left)
        if gone:
            self._pending = deque(left, maxlen=_MOST_CALLS)
        return gone

    def overdue(self, sent_before_ns: int) -> int:
        """How many were sent before then; they are not pending any more."""
        gone = 0
        while self._pending and self._pending[0][2] < sent_before_ns:
            self._pending.popleft()
            gone += 1
        return gone


class BreakerSession:
    """See :class:`babelcast.speech.base.SpeechSession`. Made by :meth:`BreakerBackend.open`."""

    def __init__(self, inner: SpeechSession, breaker: CircuitBreaker, clock: Clock) -> None:
        self._inner = inner
        self._breaker = breaker
        self._clock = clock
        self._calls = Stretches()
        self._tripped = asyncio.Event()
        self._closing = False

    @property
    def dropped_frames(self) -> int:
        return self._inner.dropped_frames

    async def send(self, frame: SpeechFrame) -> None:
        if self._tripped.is_set():
            raise refusal(self._breaker, self._clock.now_ns())
        await self._inner.send(frame)
        now_ns = self._clock.now_ns()
        self._calls.sent(frame, now_ns)
        self._look_for_overdue(now_ns)

    async def finish(self) -> None:
        await self._inner.finish()

    async def aclose(self) -> None:
        self._closing = True
        await self._inner.aclose()

    async def events(self) -> AsyncIterator[SpeechEvent]:
        source = self._inner.events()
        tripped = asyncio.create_task(self._tripped.wait())
        step: asyncio.Task[SpeechEvent | None] | None = None
        try:
            while not tripped.done():
                # a session that hangs gives no event, so both are waited for
                step = asyncio.create_task(_next(source))
                await asyncio.wait({step, tripped}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    break
                event = step.result()
                if event is None:
                    return
                self._observe(event)
                yield event
                if isinstance(event, ClosedEvent):
                    return
                if self._tripped.is_set():
                    break
            yield ClosedEvent(OPEN_CODE, str(refusal(self._breaker, self._clock.now_ns())), retryable=True)
        finally:
            tasks = [task for task in (tripped, step) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _observe(self, event: SpeechEvent) -> None:
        breaker, now_ns = self._breaker, self._clock.now_ns()
        if isinstance(event, ProgressEvent):
            self._look_for_overdue(now_ns)
            for _ in self._calls.answered(event.processed_until_ns):
                breaker.good(now_ns)
        elif isinstance(event, LostEvent):
            for _ in range(self._calls.lost(event.source_start_ns, event.source_end_ns)):
                breaker.failed(now_ns, "a stretch of sound was lost")
        elif isinstance(event, ClosedEvent) and event.retryable and not self._closing:
            for _ in range(max(1, len(self._calls))):
                breaker.failed(now_ns, event.reason)
        self._trip_if_open()

    def _look_for_overdue(self, now_ns: int) -> None:
        """Frames come ten times a second, so this needs no timer of its own."""
        for _ in range(self._calls.overdue(now_ns - round(self._breaker.slow_call_s * NS_PER_S))):
            self._breaker.slow(now_ns)
        self._trip_if_open()

    def _trip_if_open(self) -> None:
        if self._breaker.state == "open":
            self._tripped.set()


async def _next(source: AsyncIterator[SpeechEvent]) -> SpeechEvent | None:
    return await anext(source, None)


def refusal(breaker: CircuitBreaker, now_ns: int) -> SpeechUnavailableError:
    wait_s = breaker.wait_s(now_ns)
    return SpeechUnavailableError(
        f"{breaker.reason}; it is left alone for {wait_s:.1f} s (circuit breaker)", code=OPEN_CODE, retry_after_s=wait_s
    )


class BreakerBackend:
    """Wraps ``backend`` for one language. ``open`` raises SpeechUnavailableError with the code ``breaker_open`` and
    ``retry_after_s`` while the breaker is open; a session that is open when it opens ends with the same code."""

    def __init__(
        self,
        backend: SpeechBackend,
        spec: BreakerSpec,
        slow_call_s: float,
        *,
        clock: Clock | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        self._backend = backend
        self._clock = clock or MonotonicClock()
        self._on_change = on_change
        self._log_fields: dict[str, str] = {"stage": "sts", "backend": backend.name}
        self.breaker = CircuitBreaker(backend.name, spec, slow_call_s, self._changed)

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def status(self) -> BreakerStatus:
        return self.breaker.status

    async def open(self, target: SpeechTarget) -> BreakerSession:
        self._log_fields["language"] = target.target_language
        breaker, clock = self.breaker, self._clock
        if breaker.wait_s(clock.now_ns()) > 0:
            raise refusal(breaker, clock.now_ns())
        try:
            inner = await self._backend.open(target)
        except SpeechError as error:
            if error.retryable:  # a language that it can't speak says nothing about its health
                breaker.failed(clock.now_ns(), str(error))
            raise
        except Exception as error:
            breaker.failed(clock.now_ns(), f"the speech client failed: {error}")
            raise
        return BreakerSession(inner, breaker, clock)

    async def aclose(self) -> None:
        await self._backend.aclose()

    def _changed(self, status: BreakerStatus) -> None:
        level = logging.WARNING if status.state == "open" else logging.INFO
        reason = f": {status.reason}" if status.state == "open" else ""
        log.log(level, "circuit breaker %s%s", status.state, reason, extra=self._log_fields)
        if self._on_change is not None:
            self._on_change(status)

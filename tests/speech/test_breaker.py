"""The circuit breaker: the state machine on a clock of its own, and the wrapper round scripted sessions."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.speech.scripted import TARGET, ScriptedBackend, ScriptedSession, frame, until

from babelcast.clock import ManualClock
from babelcast.errors import SpeechUnavailableError, UnsupportedLanguageError
from babelcast.spec import BreakerSpec, BreakerStatus
from babelcast.speech.base import ClosedEvent, LostEvent, ProgressEvent, SpeechEvent
from babelcast.speech.breaker import OPEN_CODE, BreakerBackend, BreakerSession, CircuitBreaker, Stretches
from babelcast.speech.retry import RetryBackend, RetrySettings
from babelcast.units import NS_PER_MS, NS_PER_S, SpeechFrame

pytestmark = pytest.mark.unit

S = NS_PER_S
SPEC = BreakerSpec(window_s=10.0, min_calls=4, failure_rate=0.5, slow_rate=0.75, open_s=5.0, probes=2)


def breaker(**changes: object) -> tuple[CircuitBreaker, list[BreakerStatus]]:
    told: list[BreakerStatus] = []
    return CircuitBreaker("sts", SPEC.model_copy(update=changes), 3.0, told.append), told


def state(made: CircuitBreaker) -> str:
    return made.state


def test_it_opens_when_too_many_calls_failed_but_not_before_there_were_some() -> None:
    made, told = breaker()
    for second in range(3):
        made.failed(second * S, "connection refused")
    assert state(made) == "closed"
    made.good(3 * S)
    made.failed(4 * S, "connection refused")
    assert state(made) == "open"
    assert told == [
        BreakerStatus(state="open", backend="sts", reason="4 of 5 calls failed: connection refused", opened=1)
    ]


def test_failures_below_the_rate_and_slow_calls_below_theirs_do_not_open_it() -> None:
    made, _ = breaker()
    for second in range(100):
        [made.good, made.good, made.slow][second % 3](second * S)
    assert state(made) == "closed"


def test_calls_that_are_too_slow_open_it() -> None:
    made, _ = breaker()
    made.good(0)
    for second in range(1, 4):
        made.slow(second * S)
    assert (state(made), made.reason) == ("open", "3 of 4 calls were slow: no answer within 3 s")


def test_old_calls_leave_the_window() -> None:
    made, _ = breaker()
    for second in range(3):
        made.failed(second * S, "no")
    for second in range(13, 16):
        made.good(second * S)
    made.failed(16 * S, "no")
    assert state(made) == "closed", "three failures are older than the window"


def test_it_lets_a_probe_through_after_a_while_and_closes_after_two_good_ones() -> None:
    made, told = breaker()
    for second in range(4):
        made.failed(second * S, "no")
    assert made.wait_s(4 * S) == 4.0
    assert made.wait_s(8 * S) == 0.0
    assert state(made) == "half-open"
    made.good(9 * S)
    assert state(made) == "half-open"
    made.good(10 * S)
    assert [status.state for status in told] == ["open", "half-open", "closed"]
    made.failed(11 * S, "no")
    assert state(made) == "closed", "what was before it closed does not count"


@pytest.mark.parametrize("how", ["slow", "failed"])
def test_one_bad_probe_opens_it_again(how: str) -> None:
    made, told = breaker()
    for second in range(4):
        made.failed(second * S, "no")
    made.wait_s(8 * S)
    made.good(9 * S)
    made.slow(10 * S) if how == "slow" else made.failed(10 * S, "refused")
    assert [status.state for status in told] == ["open", "half-open", "open"]
    assert (made.opened, made.wait_s(11 * S)) == (2, 4.0)
    assert "a probe failed" in (made.reason or "")


def test_what_comes_late_to_an_open_breaker_changes_nothing() -> None:
    made, told = breaker()
    for second in range(4):
        made.failed(second * S, "no")
    made.good(5 * S)
    made.slow(5 * S)
    made.failed(5 * S, "no")
    assert len(told) == 1 and made.wait_s(4 * S) == 4.0


def test_a_stretch_is_a_second_of_sound_from_its_last_frame_to_its_answer() -> None:
    calls = Stretches()
    for i in range(25):
        calls.sent(SpeechFrame(i * 100 * NS_PER_MS, bytes(3_200)), i)
    assert len(calls) == 2
    assert calls.answered(1 * S) == [9]
    assert calls.lost(5 * S, 6 * S) == 0
    assert calls.lost(1_500 * NS_PER_MS, 1_600 * NS_PER_MS) == 1
    assert calls.overdue(100) == 0


def test_a_stretch_that_is_overdue_is_counted_once() -> None:
    calls = Stretches()
    calls.sent(frame(0), 10)
    calls.sent(frame(1), 20)
    assert (calls.overdue(10), calls.overdue(11), calls.overdue(11)) == (0, 1, 0)
    assert calls.answered(2 * S) == [20]


class Rig:
    """A breaker round scripted sessions on a clock that the test moves."""

    def __init__(self, *script: ScriptedSession | Exception) -> None:
        self.clock = ManualClock(1_000 * S)
        self.inner = ScriptedBackend(*script)
        self.told: list[str] = []
        self.backend = BreakerBackend(
            self.inner, SPEC, 3.0, clock=self.clock, on_change=lambda status: self.told.append(status.state)
        )

    async def send(self, session: BreakerSession, first: int, last: int) -> None:
        """A second of sound each second."""
        for second in range(first, last):
            self.clock.advance(S)
            await session.send(frame(second))


async def collect(session: BreakerSession, events: list[SpeechEvent]) -> None:
    async for event in session.events():
        events.append(event)


async def test_a_session_that_hangs_is_ended_once_its_calls_are_overdue() -> None:
    inner = ScriptedSession()
    rig = Rig(inner)
    session = await rig.backend.open(TARGET)
    events: list[SpeechEvent] = []
    listening = asyncio.create_task(collect(session, events))
    await rig.send(session, 0, 7)
    assert rig.told == []
    await rig.send(session, 7, 8)
    await asyncio.wait_for(listening, 5)
    assert rig.told == ["open"]
    assert [(event.code, event.retryable) for event in events if isinstance(event, ClosedEvent)] == [(OPEN_CODE, True)]
    with pytest.raises(SpeechUnavailableError) as refused:
        await session.send(frame(8))
    assert (refused.value.code, refused.value.retry_after_s) == (OPEN_CODE, 5.0)
    assert len(inner.heard) == 8
    await session.aclose()
    assert inner.closed


async def test_a_session_that_answers_in_time_keeps_it_closed() -> None:
    inner = ScriptedSession()
    rig = Rig(inner)
    session = await rig.backend.open(TARGET)
    events: list[SpeechEvent] = []
    listening = asyncio.create_task(collect(session, events))
    for second in range(50):
        await rig.send(session, second, second + 1)
        inner.says.put_nowait(ProgressEvent((second - 1) * S))  # two seconds behind
        await until(lambda: inner.says.empty())
    assert (rig.told, rig.backend.status.state) == ([], "closed")
    listening.cancel()


async def test_lost_stretches_are_failures() -> None:
    inner = ScriptedSession()
    rig = Rig(inner)
    session = await rig.backend.open(TARGET)
    await rig.send(session, 0, 4)
    inner.says.put_nowait(LostEvent(0, 4 * S))
    events: list[SpeechEvent] = []
    await asyncio.wait_for(collect(session, events), 5)
    assert events[0] == LostEvent(0, 4 * S), "the event itself is passed on"
    assert rig.told == ["open"]


async def test_a_session_that_dies_fails_what_it_has_not_answered() -> None:
    inner = ScriptedSession()
    rig = Rig(inner)
    session = await rig.backend.open(TARGET)
    await rig.send(session, 0, 4)
    inner.says.put_nowait(ClosedEvent("internal", "the connection was lost", retryable=True))
    events: list[SpeechEvent] = []
    await asyncio.wait_for(collect(session, events), 5)
    assert len(events) == 1
    assert "4 of 4 calls failed: the connection was lost" in str(rig.backend.status.reason)


async def test_a_service_that_is_not_there_opens_it_and_a_language_that_is_not_does_not() -> None:
    rig = Rig(*[UnsupportedLanguageError("no such pair")] * 10, *[SpeechUnavailableError("refused")] * 4)
    for _ in range(10):
        with pytest.raises(UnsupportedLanguageError):
            await rig.backend.open(TARGET)
    for _ in range(4):
        with pytest.raises(SpeechUnavailableError, match="refused"):
            await rig.backend.open(TARGET)
    with pytest.raises(SpeechUnavailableError, match=r"left alone for 5\.0 s") as refused:
        await rig.backend.open(TARGET)
    assert (refused.value.code, refused.value.retry_after_s) == (OPEN_CODE, 5.0)
    assert rig.inner.opened == 14


async def test_closing_it_ourselves_is_no_failure() -> None:
    inner = ScriptedSession()
    rig = Rig(inner)
    session = await rig.backend.open(TARGET)
    await rig.send(session, 0, 3)
    await session.finish()
    events: list[SpeechEvent] = []
    await collect(session, events)
    assert events == [ClosedEvent("finished", "", retryable=False)]
    assert rig.backend.status == BreakerStatus(backend="scripted")


async def test_under_retry_it_is_left_alone_then_probed_with_what_can_still_be_in_its_place() -> None:
    hung, well = ScriptedSession(), ScriptedSession()
    rig = Rig(hung, well)
    states: list[tuple[str, str | None]] = []
    settings = RetrySettings(first_pause_s=0.01, max_pause_s=0.01, replay_s=20.0)
    # what is older than two seconds comes too late
    retrying = RetryBackend(
        rig.backend,
        settings,
        clock=rig.clock,
        rng=random.Random(1),
        on_state=lambda state, _reason, code: states.append((state, code)),
        in_time_from=lambda: rig.clock.now_ns() - 1_000 * S - 2 * S,
    )
    session = await retrying.open(TARGET)
    found: list[SpeechEvent] = []

    async def listen() -> None:
        async for event in session.events():
            found.append(event)

    listening = asyncio.create_task(listen())
    await until(lambda: states[-1:] == [("open", None)])
    for second in range(8):
        rig.clock.advance(S)
        await session.send(frame(second))
    await until(lambda: ("retrying", OPEN_CODE) in states)
    rig.clock.advance(6 * S)
    for second in range(8, 14):
        await session.send(frame(second))
    await until(lambda: well.heard[1:])
    assert well.heard == [frame(12), frame(13)]
    assert rig.told == ["open", "half-open"]
    await until(lambda: LostEvent(0, 12 * S) in found)
    for second in (14, 15):
        rig.clock.advance(S)
        await session.send(frame(second))
    well.says.put_nowait(ProgressEvent(16 * S))
    await until(lambda: rig.told == ["open", "half-open", "closed"])
    listening.cancel()
    await session.aclose()

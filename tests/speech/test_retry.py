"""The retry wrapper round scripted sessions."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from tests.speech.scripted import TARGET, ScriptedBackend, ScriptedSession, frame, segment, until

from babelcast.errors import SpeechUnavailableError, UnsupportedLanguageError
from babelcast.speech.base import (
    ClosedEvent,
    GoingAwayEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
)
from babelcast.speech.problems import error_for, retry_after
from babelcast.speech.retry import Pauses, RetryBackend, RetrySession, RetrySettings
from babelcast.units import NS_PER_S, SpeechFrame

pytestmark = pytest.mark.unit

QUICK = RetrySettings(first_pause_s=0.01, max_pause_s=0.02, replay_s=2.0)


async def opened(*script: ScriptedSession | Exception) -> tuple[ScriptedBackend, RetrySession]:
    backend = ScriptedBackend(*script)
    return backend, await RetryBackend(backend, QUICK, rng=random.Random(1)).open(TARGET)


async def test_service_dead_at_the_start_is_tried_again_and_hears_what_waited() -> None:
    inner = ScriptedSession()
    _, session = await opened(SpeechUnavailableError("no"), SpeechUnavailableError("no"), inner)
    await session.send(frame(0))
    await until(lambda: inner.heard)
    assert inner.heard == [frame(0)]
    assert session.reopened == 2
    await session.aclose()
    assert inner.closed


async def test_a_bug_in_a_client_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    inner, states = ScriptedSession(), []
    backend = ScriptedBackend(ZeroDivisionError("oops"), SpeechUnavailableError("no engine"), inner)
    session = await RetryBackend(backend, QUICK, on_state=lambda *state: states.append(state)).open(TARGET)
    await session.send(frame(0))
    await until(lambda: inner.heard)
    assert [reason for state, reason, _ in states if state == "retrying"] == [
        "the speech client failed: oops",
        "no engine",
    ]
    assert "speech session failed" in caplog.text
    await session.aclose()


async def test_a_bug_in_what_takes_the_frames_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(ScriptedSession):
        async def send(self, frame: SpeechFrame) -> None:
            if frame.start_ns:
                raise ZeroDivisionError("oops")
            await super().send(frame)

    first, second = Deaf(), ScriptedSession()
    _, session = await opened(first, second)
    await session.send(frame(0))
    await until(lambda: first.heard)
    await session.send(frame(1))
    await until(lambda: second.heard == [frame(0), frame(1)])
    assert first.closed
    assert "ZeroDivisionError: oops" in caplog.text
    await session.aclose()


async def test_sequences_go_on_over_sessions_and_nothing_is_said_twice() -> None:
    first, second = ScriptedSession(), ScriptedSession()
    _, session = await opened(first, second)
    events = session.events()
    first.says.put_nowait(segment(0, 0, 1))
    first.says.put_nowait(segment(1, 1, 2))
    first.says.put_nowait(ClosedEvent("internal", "died", retryable=True))
    second.says.put_nowait(segment(0, 1, 2))  # heard again
    second.says.put_nowait(segment(1, 2, 3))
    found = [await anext(events) for _ in range(3)]
    assert [
        (e.segment.sequence, e.segment.source_start_ns // NS_PER_S) for e in found if isinstance(e, SegmentEvent)
    ] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    await session.aclose()


async def test_what_was_not_dealt_with_is_heard_again_and_what_is_too_old_is_lost() -> None:
    first, second = ScriptedSession(), ScriptedSession()
    _, session = await opened(first, second)
    events = session.events()
    await session.send(frame(0))
    await until(lambda: first.heard)
    for second_number in range(1, 6):
        await session.send(frame(second_number))
    first.says.put_nowait(ProgressEvent(2 * NS_PER_S))
    first.says.put_nowait(ClosedEvent("internal", "died", retryable=True))
    assert await anext(events) == ProgressEvent(2 * NS_PER_S)
    lost = await anext(events)
    await until(lambda: len(second.heard) == 2)
    assert second.heard == [frame(4), frame(5)]
    assert lost == LostEvent(2 * NS_PER_S, 4 * NS_PER_S)
    await session.aclose()


async def test_what_could_not_be_in_its_place_any_more_is_never_sent_again() -> None:
    first, second = ScriptedSession(), ScriptedSession()
    backend = ScriptedBackend(first, second)
    in_time = [0]
    settings = replace(QUICK, replay_s=20.0)
    session = await RetryBackend(backend, settings, in_time_from=lambda: in_time[0]).open(TARGET)
    events = session.events()
    for second_number in range(6):
        await session.send(frame(second_number))
    await until(lambda: len(first.heard) == 6)
    in_time[0] = 4 * NS_PER_S
    first.says.put_nowait(ClosedEvent("internal", "died", retryable=True))
    assert await anext(events) == LostEvent(0, 4 * NS_PER_S)
    await until(lambda: second.heard == [frame(4), frame(5)])
    await session.aclose()


async def test_what_comes_while_a_session_hears_the_rest_again_is_in_its_order() -> None:
    class Slow(ScriptedSession):
        async def send(self, frame: SpeechFrame) -> None:
            await asyncio.sleep(0.01)
            await super().send(frame)

    inner = Slow()
    _, session = await opened(SpeechUnavailableError("no"), inner)
    for second_number in range(2):
        await session.send(frame(second_number))
    await until(lambda: inner.heard)
    await session.send(frame(2))
    await until(lambda: len(inner.heard) == 3)
    assert inner.heard == [frame(0), frame(1), frame(2)]
    await session.aclose()


async def test_an_error_that_says_how_long_is_waited_for() -> None:
    inner = ScriptedSession()
    slow = RetrySettings(first_pause_s=30.0, jitter=0.0)
    backend = ScriptedBackend(SpeechUnavailableError("not now", retry_after_s=0.01), inner)
    session = await RetryBackend(backend, slow).open(TARGET)
    await session.send(frame(0))
    await until(lambda: inner.heard)
    await session.aclose()


@pytest.mark.parametrize("wait_s", [0.0, -5.0])
async def test_a_service_that_asks_for_no_pause_is_not_hammered(wait_s: float) -> None:
    backend = ScriptedBackend(*[SpeechUnavailableError("busy", retry_after_s=wait_s) for _ in range(100)])
    session = await RetryBackend(backend).open(TARGET)
    await asyncio.sleep(0.25)
    assert 1 <= backend.opened <= 4
    await session.aclose()


async def test_going_away_moves_over_once_the_next_one_is_open() -> None:
    first, second = ScriptedSession(), ScriptedSession()
    backend, session = await opened(first, SpeechUnavailableError("full"), second)
    await session.send(frame(0))
    await until(lambda: first.heard)
    first.says.put_nowait(GoingAwayEvent(5.0))
    events = session.events()
    await until(lambda: backend.opened == 2)  # refused, so the first one goes on
    first.says.put_nowait(segment(0, 0, 0.5))
    event = await anext(events)
    assert isinstance(event, SegmentEvent) and event.segment.sequence == 0
    await until(lambda: second.heard)
    assert first.closed and second.heard == [frame(0)]  # not answered whole: heard again
    await session.aclose()
    assert second.closed


async def test_going_away_with_nowhere_to_go_ends_at_the_deadline_and_is_tried_again() -> None:
    first, second = ScriptedSession(), ScriptedSession()
    backend = ScriptedBackend(first, *[SpeechUnavailableError("full") for _ in range(2)], second)
    settings = RetrySettings(first_pause_s=0.1, max_pause_s=0.1, jitter=0.0)
    session = await RetryBackend(backend, settings).open(TARGET)
    await until(lambda: backend.opened == 1)
    first.says.put_nowait(GoingAwayEvent(0.15))
    await until(lambda: backend.opened == 4)
    assert first.closed
    await session.aclose()


async def test_a_final_refusal_ends_the_session() -> None:
    _, session = await opened(UnsupportedLanguageError("no", code="unsupported_language"))
    events = [event async for event in session.events()]
    assert events == [ClosedEvent("unsupported_language", "no", retryable=False)]


async def test_finish_passes_through() -> None:
    inner = ScriptedSession()
    _, session = await opened(inner)
    await session.send(frame(0))
    await until(lambda: inner.heard)
    await session.finish()
    assert [event async for event in session.events()] == [ClosedEvent("finished", "", retryable=False)]
    assert inner.finished


def test_pauses_double_to_a_bound_with_jitter() -> None:
    settings = RetrySettings(first_pause_s=1.0, max_pause_s=8.0, jitter=0.2)
    pauses = Pauses(settings, random.Random(3))
    found = [pauses.next_s() for _ in range(6)]
    for pause, middle in zip(found, (1, 2, 4, 8, 8, 8), strict=True):
        assert 0.8 * middle <= pause <= 1.2 * middle
    assert len(set(found)) == 6
    pauses.reset()
    assert pauses.next_s() < 1.3


def test_a_service_can_not_ask_for_more_than_a_minute() -> None:
    error = error_for(503, retry_after_s=retry_after({"Retry-After": "86400"}))
    assert isinstance(error, SpeechUnavailableError) and error.retry_after_s == 60.0
    said = error_for(None, "overloaded", "full", True, 1e9)
    assert isinstance(said, SpeechUnavailableError) and said.retry_after_s == 60.0
    assert retry_after({"Retry-After": "Sat, 28 Nov 2026 17:00:00 GMT"}) is None

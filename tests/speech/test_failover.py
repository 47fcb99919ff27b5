"""Failover between backends that do as they are told, in virtual time; and once between the real clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import numpy as np
import pytest
from tests.fakes.certificates import loopback_tls
from tests.fakes.gemini_server import gemini_server
from tests.fakes.interpreter import Script
from tests.fakes.openai_realtime_server import openai_server
from tests.fakes.virtual_time import LoopClock, run_virtual
from tests.speech.interpreting import TARGET, Take, coverage, listen, play, programme, sound

from babelcast.errors import SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.spec import BreakerSpec
from babelcast.speech.base import (
    BackendEvent,
    ClosedEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechBackend,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
    UsageEvent,
)
from babelcast.speech.breaker import BreakerBackend
from babelcast.speech.cost import Budget
from babelcast.speech.failover import FailoverBackend
from babelcast.speech.gemini_live import GeminiSettings, make_gemini
from babelcast.speech.members import Member, hopeful
from babelcast.speech.openai_realtime import OpenAiSettings, make_openai
from babelcast.speech.retry import RetryBackend
from babelcast.units import NS_PER_S, DubSegment, SpeechFrame

pytestmark = pytest.mark.integration

LAG_S = 2.0
RATE = 16_000


class Told:
    """Speaks every whole second of source ``LAG_S`` after it heard it."""

    def __init__(self, backend: ToldBackend) -> None:
        self._backend = backend
        self._events: asyncio.Queue[SpeechEvent] = asyncio.Queue()
        self._second: int | None = None
        self._owed: deque[int] = deque()
        self._count = 0
        self.ended = False
        self.dropped_frames = 0

    async def send(self, frame: SpeechFrame) -> None:
        if self.ended:
            raise SpeechUnavailableError("ended")
        self._backend.heard_s.append(frame.start_ns / NS_PER_S)
        if self._second is None:
            self._second = -(-frame.start_ns // NS_PER_S)
        while (self._second + 1) * NS_PER_S <= frame.end_ns:
            self._owed.append(self._second)
            asyncio.get_running_loop().call_later(LAG_S, self._speak)
            self._second += 1

    def _speak(self) -> None:
        second = self._owed.popleft()
        if self.ended or self._backend.hangs:
            return
        start = second * NS_PER_S
        voice = np.full(RATE, 0.1, np.float32)
        self._events.put_nowait(
            SegmentEvent(DubSegment("x", self._count, start, start + NS_PER_S, voice, RATE, voice=self._backend.name))
        )
        self._count += 1
        self._events.put_nowait(UsageEvent(self._backend.name, self._backend.usd_per_s, 1.0, 1.0))
        self._events.put_nowait(ProgressEvent(start + NS_PER_S))

    def end(self, code: str, retryable: bool) -> None:
        self.ended = True
        self._events.put_nowait(ClosedEvent(code, f"{self._backend.name} was told to end", retryable))

    async def events(self) -> AsyncIterator[SpeechEvent]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, ClosedEvent):
                return

    async def finish(self) -> None:
        await asyncio.sleep(LAG_S + 0.1)
        self.end("finished", False)

    async def aclose(self) -> None:
        self.ended = True


class ToldBackend:
    def __init__(self, name: str, usd_per_s: float = 0.0) -> None:
        self.name = name
        self.usd_per_s = usd_per_s
        self.error: SpeechError | None = None
        self.bug: Exception | None = None
        self.open_s = 0.0
        self.hangs = False
        self.sessions: list[Told] = []
        self.heard_s: list[float] = []

    async def open(self, target: SpeechTarget) -> Told:
        await asyncio.sleep(self.open_s)
        if self.bug is not None:
            raise self.bug
        if self.error is not None:
            raise self.error
        self.sessions.append(Told(self))
        return self.sessions[-1]

    def down(self) -> None:
        """Not to be opened any more, and what is open dies."""
        self.error = SpeechUnavailableError(f"{self.name} is down")
        for session in self.sessions:
            if not session.ended:
                session.end("internal", True)

    async def aclose(self) -> None:
        pass


class DeadAtOnce(ToldBackend):
    """Opens, and ends with the first frame."""

    async def open(self, target: SpeechTarget) -> Told:
        session = await super().open(target)
        session.end("internal", True)
        return session


Event = tuple[float, Callable[[], object]]


def run(
    members: list[Member],
    happenings: Iterable[Event],
    length_s: float,
    source: Iterator[SpeechFrame] | None = None,
) -> Take:
    """A source of ``length_s`` through retry and failover, with things that happen at their time."""

    async def main() -> Take:
        failover = FailoverBackend(members, clock=LoopClock())
        session, take = await RetryBackend(failover, clock=LoopClock()).open(TARGET), Take()
        loop = asyncio.get_running_loop()
        for at, happen in happenings:
            loop.call_later(at, happen)
        listening = asyncio.create_task(listen(session, take))
        await play(session, source or sound([], length_s))
        await asyncio.sleep(LAG_S + 1.0)
        await session.aclose()
        await listening
        return take

    return run_virtual(main())


def voices(take: Take) -> list[str]:
    """Who spoke each second; every second once."""
    spoken: dict[int, list[str]] = {}
    for segment in take.segments:
        spoken.setdefault(segment.source_start_ns // NS_PER_S, []).append(segment.voice)
    assert all(len(who) == 1 for who in spoken.values()), spoken
    assert [segment.sequence for segment in take.segments] == list(range(len(take.segments)))
    return [spoken.get(second, ["-"])[0] for second in range(max(spoken) + 1)]


def names(take: Take) -> list[str]:
    return [event.backend for event in take.events if isinstance(event, BackendEvent)]


def latest(take: Take) -> float:
    """The longest time from the end of a second of source to its dub."""
    return max(
        at - event.segment.source_end_ns / NS_PER_S
        for at, event in zip(take.times_s, take.events, strict=True)
        if isinstance(event, SegmentEvent)
    )


def test_the_first_speaks_and_nobody_else_is_opened() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")
    take = run([Member(a), Member(b)], [], 20.0)
    assert voices(take) == ["a"] * 20
    assert not b.sessions and names(take) == ["a"]


def test_a_dead_one_is_replaced_without_a_hole() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")
    take = run([Member(a), Member(b)], [(8.05, a.down)], 20.0)
    who = voices(take)
    assert "-" not in who and who == sorted(who) and who.count("b") >= 12
    assert not take.lost
    assert latest(take) <= 2 * LAG_S + 1.0  # within what a delay of 6 s has to spare
    assert names(take) == ["a", "b"]
    reason = next(e.reason for e in take.events if isinstance(e, BackendEvent) and e.backend == "b")
    assert reason == "a was told to end"


def test_one_that_lived_for_a_while_is_opened_once_more_first() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")
    take = run([Member(a), Member(b)], [(12.0, lambda: a.sessions[0].end("internal", True))], 24.0)
    assert voices(take) == ["a"] * 24 and not b.sessions
    assert len(a.sessions) == 2


def test_one_that_hangs_at_opening_does_not_hold_up_the_switch() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    def dies() -> None:
        a.open_s = 60.0
        a.sessions[0].end("internal", True)

    take = run([Member(a), Member(b)], [(12.0, dies)], 24.0)
    assert "-" not in voices(take) and voices(take)[-1] == "b"
    assert latest(take) <= 2 * LAG_S + 1.0 + 1.6


def test_the_first_comes_back_after_a_hold_and_the_hold_doubles() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    def up() -> None:
        a.error = None

    take = run([Member(a), Member(b)], [(5.0, a.down), (6.0, up), (35.0, a.down), (36.0, up)], 120.0)
    who = voices(take)
    assert "-" not in who
    assert names(take) == ["a", "b", "a", "b", "a"]
    first_back, second_back = who.index("a", who.index("b")), len(who) - 1 - who[::-1].index("b") + 1
    assert 25 <= first_back <= 31  # 20 s of hold, then the proof
    assert 35 + 40 <= second_back <= 35 + 47


def test_one_that_is_not_well_yet_takes_nothing_over() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    def up_but_mute() -> None:
        a.error, a.hangs = None, True

    take = run([Member(a), Member(b)], [(5.0, a.down), (6.0, up_but_mute)], 90.0)
    who = voices(take)
    assert "-" not in who and set(who[10:]) == {"b"}
    assert names(take) == ["a", "b"]
    assert len(a.sessions) >= 2  # it was tried


def test_the_one_beside_takes_over_at_once_when_the_other_dies() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    def up() -> None:
        a.error = None

    take = run([Member(a), Member(b)], [(5.0, a.down), (6.0, up), (28.5, b.down)], 60.0)
    assert voices(take)[-1] == "a"
    missing = voices(take).count("-")
    assert missing <= 3 and (not missing or take.lost)


def test_a_spent_budget_moves_to_the_next_and_back_when_money_is_free_again() -> None:
    a, b = ToldBackend("a", usd_per_s=0.001), ToldBackend("b")
    budget = Budget(1.0)  # used up after 1,000 s
    seconds = (SpeechFrame(second * NS_PER_S, bytes(2 * RATE)) for second in range(5_000))
    take = run([Member(a, budget), Member(b)], [], 5_000.0, seconds)
    who = voices(take)
    assert "-" not in who and not take.lost
    assert who[900] == "a" and who[1_100] == "b"
    assert 3_550 <= who.index("a", 1_100) <= 3_900
    spent = [e for e in take.events if isinstance(e, BackendEvent)][1]
    assert spent.backend == "b" and "cost ceiling of $1 an hour" in (spent.reason or "")
    dollars = sum(usage.usd for usage in take.usage if usage.backend == "a")
    assert dollars <= 2 * 1.03


def test_a_spent_budget_with_nobody_else_ends_with_its_code_and_says_when() -> None:
    a = ToldBackend("a", usd_per_s=0.1)

    async def main() -> None:
        failover = FailoverBackend([Member(a, Budget(1.0))], clock=LoopClock())
        session, take = await failover.open(TARGET), Take()
        listening = asyncio.create_task(listen(session, take))
        with pytest.raises(SpeechError):
            await play(session, sound([], 60.0))
        await listening
        assert (take.closed.code, take.closed.retryable) == ("budget", True)
        await session.aclose()
        with pytest.raises(SpeechUnavailableError) as caught:
            await failover.open(TARGET)
        assert caught.value.code == "budget"
        assert 3_500 < (caught.value.retry_after_s or 0.0) <= 3_661

    run_virtual(main())


def test_languages_share_a_streams_budget() -> None:
    budget = Budget(1.0)
    a, b = ToldBackend("a", usd_per_s=0.001), ToldBackend("a", usd_per_s=0.001)

    async def main() -> None:
        backends = [FailoverBackend([Member(each, budget)], clock=LoopClock()) for each in (a, b)]
        sessions = [await backend.open(TARGET) for backend in backends]
        takes = [Take(), Take()]
        listening = [asyncio.create_task(listen(s, t)) for s, t in zip(sessions, takes, strict=True)]
        playing = [asyncio.create_task(play(session, sound([], 900.0))) for session in sessions]
        await asyncio.gather(*playing, return_exceptions=True)
        await asyncio.gather(*listening)
        assert [take.closed.code for take in takes] == ["budget", "budget"]
        await asyncio.gather(*(session.aclose() for session in sessions))

    run_virtual(main())
    assert 480 <= len(a.heard_s) / 10 <= 520


def test_with_its_breaker_a_sick_one_is_left_and_probed() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    def well() -> None:
        a.hangs = False

    def sick() -> None:
        a.hangs = True

    async def main() -> tuple[Take, list[str]]:
        states: list[str] = []
        breaker = BreakerBackend(
            a, BreakerSpec(open_s=5.0), slow_call_s=5.0, clock=LoopClock(), on_change=lambda s: states.append(s.state)
        )
        failover = FailoverBackend([Member(breaker), Member(b)], clock=LoopClock())
        session, take = await RetryBackend(failover, clock=LoopClock()).open(TARGET), Take()
        loop = asyncio.get_running_loop()
        loop.call_later(10.0, sick)
        loop.call_later(50.0, well)
        listening = asyncio.create_task(listen(session, take))
        await play(session, sound([], 140.0))
        await session.aclose()
        await listening
        return take, states

    take, states = run_virtual(main())
    assert names(take) == ["a", "b", "a"]
    assert states[:2] == ["open", "half-open"] and states[-1] == "closed"
    who = voices(take)
    assert who[40] == "b" and who[-1] == "a"


def test_final_refusals_go_to_the_next_and_only_to_the_caller_when_all_refuse() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")
    a.error = UnsupportedLanguageError("no such language", code="unsupported_language")
    take = run([Member(a), Member(b)], [], 10.0)
    assert set(voices(take)) == {"b"}
    assert names(take) == ["b"]

    async def main() -> None:
        b.error = UnsupportedLanguageError("nor here", code="unsupported_language")
        with pytest.raises(UnsupportedLanguageError):
            await FailoverBackend([Member(a), Member(b)], clock=LoopClock()).open(TARGET)

    run_virtual(main())


def test_all_down_is_retried_and_comes_back_soon() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    def up() -> None:
        b.error = None

    take = run([Member(a), Member(b)], [(5.0, b.down), (5.1, a.down), (15.0, up)], 40.0)
    who = voices(take)
    assert who[-1] == "b" and set(who[22:]) == {"b"}


def test_one_that_dies_while_it_hears_the_rest_again_is_passed_over() -> None:
    a, b, c = ToldBackend("a"), DeadAtOnce("b"), ToldBackend("c")
    take = run([Member(a), Member(b), Member(c)], [(8.05, a.down)], 20.0)
    who = voices(take)
    assert "-" not in who and who[-1] == "c" and "b" not in who
    assert b.sessions


class FailsToTake(ToldBackend):
    """Its client has a bug that shows after some seconds, and then each time."""

    async def open(self, target: SpeechTarget) -> Told:
        session = await super().open(target)
        send = session.send

        async def buggy(frame: SpeechFrame) -> None:
            if frame.start_ns > 8 * NS_PER_S:
                raise ZeroDivisionError("oops")
            await send(frame)

        session.send = buggy  # type: ignore[method-assign]
        return session


def test_a_client_with_a_bug_is_left_for_the_next_one_as_one_that_fails() -> None:
    a, b = FailsToTake("a"), ToldBackend("b")
    take = run([Member(a), Member(b)], [], 20.0)
    who = voices(take)
    assert "-" not in who and who[-1] == "b" and not take.lost
    broken, b = ToldBackend("a"), ToldBackend("b")
    broken.bug = ZeroDivisionError("oops")
    take = run([Member(broken), Member(b)], [], 10.0)
    assert voices(take) == ["b"] * 10
    reason = next(e.reason for e in take.events if isinstance(e, BackendEvent))
    assert reason == "the speech client failed: oops"


def test_a_bug_ends_the_session_and_does_not_hang_it() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    async def main() -> None:
        session, take = await FailoverBackend([Member(a), Member(b)], clock=LoopClock()).open(TARGET), Take()
        listening = asyncio.create_task(listen(session, take))
        b.bug = ZeroDivisionError("oops")
        a.down()
        async with asyncio.timeout(10.0):
            await listening
        assert take.closed.retryable
        await session.aclose()

    run_virtual(main())


@pytest.mark.unit
def test_which_error_is_told() -> None:
    budget = SpeechUnavailableError("spent", code="budget", retry_after_s=100.0)
    breaker = SpeechUnavailableError("open", code="breaker_open", retry_after_s=4.0)
    final = SpeechError("no key", code="unauthorized")
    said = hopeful([budget, breaker, final])
    assert (said.code, said.retryable) == ("breaker_open", True)
    assert isinstance(said, SpeechUnavailableError) and said.retry_after_s == 4.0
    assert hopeful([budget, final]).code == "budget"
    assert hopeful([final]) is final


async def with_two_open(a: ToldBackend, b: ToldBackend) -> tuple[SpeechSession, Take, asyncio.Task[Take]]:
    """``b`` speaks, and ``a``, which is better and up again, is open beside it."""
    a.error = SpeechUnavailableError("down")
    session = await FailoverBackend([Member(a), Member(b)], clock=LoopClock()).open(TARGET)
    a.error = None
    take = Take()
    listening = asyncio.create_task(listen(session, take))
    await play(session, sound([], 21.5))
    assert [each.ended for each in a.sessions] == [False]
    return session, take, listening


def test_aclose_is_quick_also_with_two_open() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    async def main() -> None:
        session, take, listening = await with_two_open(a, b)
        async with asyncio.timeout(1.0):
            await session.aclose()
        assert a.sessions[0].ended and b.sessions[0].ended
        await listening
        assert take.closed.code == "finished"

    run_virtual(main())


def test_the_one_beside_is_told_of_the_end_that_the_other_dies_in() -> None:
    a, b = ToldBackend("a"), ToldBackend("b")

    async def main() -> None:
        session, take, listening = await with_two_open(a, b)
        finishing = asyncio.create_task(session.finish())
        await asyncio.sleep(0.5)
        b.down()
        async with asyncio.timeout(30.0):
            await asyncio.gather(listening, finishing)
        assert take.closed.code == "finished"
        await session.aclose()

    run_virtual(main())


def test_between_the_real_clients() -> None:
    """Gemini Live dies for good; OpenAI Realtime goes on; every sentence is spoken, once."""
    sentences = programme(40.0)

    async def main() -> Take:
        dying = Script(close_s=11.0, close=(1011, "Internal error encountered."))
        refusing = Script(refuse=(1011, "no capacity"))
        async with gemini_server(lambda n: dying if n == 0 else refusing) as one, openai_server() as two:
            gemini = GeminiSettings("key", base_url=one.url, tls=loopback_tls()[1])
            members: list[SpeechBackend] = [
                make_gemini(gemini, clock=LoopClock()),
                make_openai(OpenAiSettings("key", base_url=two.url), clock=LoopClock()),
            ]
            failover = FailoverBackend([Member(each) for each in members], clock=LoopClock())
            session, take = await RetryBackend(failover, clock=LoopClock()).open(TARGET), Take()
            listening = asyncio.create_task(listen(session, take))
            await play(session, sound(sentences, 40.0))
            await asyncio.sleep(8.0)
            await session.aclose()
            await listening
            await failover.aclose()
            return take

    take = run_virtual(main())
    assert names(take) == ["gemini-live", "openai-realtime"]
    found = coverage(sentences, take.segments)
    assert all(one.spoken_s >= 0.9 * (one.sentence.end_s - one.sentence.start_s) for one in found), found
    # what was being spoken when it died may be spoken again from its start
    assert sum(one.spoken_s > 1.1 * (one.sentence.end_s - one.sentence.start_s) for one in found) <= 1
    assert {usage.backend for usage in take.usage} == {"gemini-live", "openai-realtime"}

"""Several languages on one session of the speech service: who opens, who hears what, and what the end of one means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.fakes.speech import frames, silence, sine
from tests.speech.scripted import ScriptedBackend, ScriptedSession, until

from babelcast.errors import SpeechError, UnsupportedLanguageError
from babelcast.speech.base import ClosedEvent, ProgressEvent, SegmentEvent, SpeechEvent, SpeechSession, SpeechTarget
from babelcast.speech.retry import RetryBackend
from babelcast.speech.shared import SharedBackend
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.serve import serving
from babelcast.sts.service import Limits, Service
from babelcast.sts.tone import ToneEngine

pytestmark = pytest.mark.integration

LANGUAGES = ("es", "de", "fr")
TALK = silence(0.3) + sine(1.0) + silence(0.6) + sine(0.8, 500.0) + silence(0.6)


def target(language: str) -> SpeechTarget:
    return SpeechTarget("show", "en", language)


async def hear(session: SpeechSession) -> list[SpeechEvent]:
    async with asyncio.timeout(20):
        return [event async for event in session.events()]


async def feed(sessions: list[SpeechSession], pcm: bytes) -> None:
    for frame in frames(pcm):
        for session in sessions:
            await session.send(frame)
        await asyncio.sleep(0.005)
    for session in sessions:
        await session.finish()


def spans(events: list[SpeechEvent]) -> list[tuple[int, int, int]]:
    return [
        (event.segment.sequence, event.segment.source_start_ns, event.segment.source_end_ns)
        for event in events
        if isinstance(event, SegmentEvent)
    ]


def heard_s(service: Service) -> float:
    return service.metrics.registry.get_sample_value("sts_audio_seconds_total") or 0.0


async def test_every_language_has_all_its_segments_from_one_session() -> None:
    service = Service(ToneEngine(), Limits(sessions=1), token="secret")
    async with serving(service) as url:
        backend = SharedBackend(StsStreamBackend(url, token="secret"), LANGUAGES)
        sessions: list[SpeechSession] = [*await asyncio.gather(*(backend.open(target(tag)) for tag in LANGUAGES))]
        assert len(service.streams) == 1
        hearing = asyncio.gather(*(hear(session) for session in sessions))
        await feed(sessions, TALK)
        found = await hearing
        for session in sessions:
            await session.aclose()
        await backend.aclose()
    assert heard_s(service) == pytest.approx(len(TALK) / 32_000)  # once, not once a language
    assert len(spans(found[0])) == 2 and [sequence for sequence, _, _ in spans(found[0])] == [0, 1]
    assert spans(found[0]) == spans(found[1]) == spans(found[2])
    for tag, events in zip(LANGUAGES, found, strict=True):
        assert {event.language for event in events if isinstance(event, SegmentEvent)} == {tag}
        assert any(isinstance(event, ProgressEvent) for event in events)
        assert isinstance(events[-1], ClosedEvent) and events[-1].code == "finished"


async def test_a_language_that_leaves_does_not_end_the_others_and_the_last_one_frees_the_service() -> None:
    service = Service(ToneEngine(), Limits(sessions=1))
    async with serving(service) as url:
        backend = SharedBackend(StsStreamBackend(url), ("es", "de"))
        leaving, staying = await backend.open(target("es")), await backend.open(target("de"))
        await leaving.aclose()
        with pytest.raises(SpeechError):
            await leaving.send(next(iter(frames(TALK))))
        hearing = asyncio.create_task(hear(staying))
        await feed([staying], TALK)
        assert len(spans(await hearing)) == 2
        assert isinstance((await hear(leaving))[-1], ClosedEvent)
        await staying.aclose()
        async with asyncio.timeout(5):
            while service.streams:
                await asyncio.sleep(0.01)
        again = await backend.open(target("es"))
        assert len(service.streams) == 1
        await again.aclose()
        await backend.aclose()


async def test_a_language_that_joins_late_gets_what_it_missed() -> None:
    async with serving(Service(ToneEngine())) as url:
        backend = SharedBackend(StsStreamBackend(url), ("es", "de"))
        first = await backend.open(target("es"))
        hearing = asyncio.create_task(hear(first))
        for frame in frames(TALK):
            await first.send(frame)
        await asyncio.sleep(0.5)
        late = await backend.open(target("de"))
        late_hearing = asyncio.create_task(hear(late))
        await feed([late, first], TALK)  # all of it was sent before
        assert spans(await late_hearing) == spans(await hearing) and len(spans(late_hearing.result())) == 2
        await backend.aclose()


async def test_who_opens_a_second_one_before_the_first_is_over_gets_another_session() -> None:
    """As :class:`RetryBackend` does when a service says that it goes away."""
    service = Service(ToneEngine(), Limits(sessions=2))
    async with serving(service) as url:
        backend = SharedBackend(StsStreamBackend(url), ("es", "de"))
        old = [await backend.open(target(tag)) for tag in ("es", "de")]
        new = [await backend.open(target(tag)) for tag in ("es", "de")]
        assert len(service.streams) == 2
        for session in old:
            await session.aclose()
        hearing = asyncio.gather(*(hear(session) for session in new))
        await feed([*new], TALK)
        assert all(len(spans(events)) == 2 for events in await hearing)
        await backend.aclose()


async def test_a_service_that_dies_costs_all_languages_a_reconnect_and_no_segment_twice() -> None:
    first, second = Service(ToneEngine()), Service(ToneEngine())
    async with serving(first) as url:
        port = int(url.rsplit(":", 1)[1])
        backend = SharedBackend(StsStreamBackend(url), ("es", "de"))
        retrying = RetryBackend(backend)
        sessions = [await retrying.open(target(tag)) for tag in ("es", "de")]
        hearing = asyncio.gather(*(hear(session) for session in sessions))
        frame_list = list(frames(TALK + TALK))
        half = len(frame_list) // 2
        for frame in frame_list[:half]:
            for session in sessions:
                await session.send(frame)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
    async with serving(second, port=port):
        for frame in frame_list[half:]:
            for session in sessions:
                await session.send(frame)
            await asyncio.sleep(0.05)
        await asyncio.sleep(2.0)
        for session in sessions:
            await session.finish()
        found = await hearing
        for session in sessions:
            await session.aclose()
        await backend.aclose()
    for events in found:
        starts = [start for _, start, _ in spans(events)]
        assert len(starts) == len(set(starts)) and len(starts) >= 3
    assert spans(found[0]) == spans(found[1])
    assert heard_s(second) > 0


async def test_an_unknown_language_is_no_member() -> None:
    backend = SharedBackend(StsStreamBackend("http://127.0.0.1:1"), ("es", "de"))
    with pytest.raises(SpeechError, match="none of es, de"):
        await backend.open(target("fr"))
    await backend.aclose()


class SpanishAndGerman:
    """Speaks two languages, and remembers who was asked for."""

    name = "two"

    def __init__(self, url: str) -> None:
        self.asked: list[str] = []
        self._inner = StsStreamBackend(url)

    async def open(self, target: SpeechTarget) -> SpeechSession:
        wanted = (target.target_language, *target.also)
        self.asked.append("+".join(wanted))
        if "fi" in wanted:
            raise UnsupportedLanguageError("no Finnish here", code="unsupported_language")
        return await self._inner.open(target)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_a_language_that_is_not_spoken_costs_the_others_nothing() -> None:
    service = Service(ToneEngine(), Limits(sessions=3))
    async with serving(service) as url:
        inner = SpanishAndGerman(url)
        backend = SharedBackend(inner, ("es", "fi", "de"))
        first = await backend.open(target("es"))
        with pytest.raises(UnsupportedLanguageError):
            await backend.open(target("fi"))
        third = await backend.open(target("de"))
        again = await backend.open(target("es"))
        with pytest.raises(UnsupportedLanguageError):
            await backend.open(target("fi"))
        hearing = asyncio.gather(hear(first), hear(third))
        await feed([first, third, again], TALK)
        assert [len(spans(events)) for events in await hearing] == [2, 2]
        for session in (first, third, again):
            await session.aclose()
        await backend.aclose()
    assert inner.asked == ["es+fi+de", "es", "es+fi+de", "fi", "es+de", "fi"]


@pytest.mark.unit
async def test_a_bug_in_the_client_ends_all_languages() -> None:
    class Broken(ScriptedSession):
        async def events(self) -> AsyncIterator[SpeechEvent]:
            async for _ in super().events():
                raise ZeroDivisionError("oops")
            yield ProgressEvent(0)

    broken = Broken()
    broken.says.put_nowait(ProgressEvent(0))
    backend = SharedBackend(ScriptedBackend(broken, ScriptedSession()), ("es", "de"))
    members = [await backend.open(target(tag)) for tag in ("es", "de")]
    for events in await asyncio.gather(*(hear(member) for member in members)):
        assert isinstance(events[-1], ClosedEvent) and events[-1].retryable and "oops" in events[-1].reason
    await asyncio.gather(*(member.aclose() for member in members))
    await (await backend.open(target("es"))).aclose()
    await backend.aclose()


@pytest.mark.unit
async def test_what_was_said_is_kept_only_until_all_have_joined() -> None:
    inner = ScriptedSession()
    backend = SharedBackend(ScriptedBackend(inner), ("es", "de"))
    first, shared = await backend.open(target("es")), backend._shared[0]
    inner.says.put_nowait(ProgressEvent(1))
    await until(lambda: shared._said)
    second = await backend.open(target("de"))
    inner.says.put_nowait(ProgressEvent(2))
    inner.says.put_nowait(ClosedEvent("finished", "", retryable=False))
    for member in (first, second):
        assert [e.processed_until_ns for e in await hear(member) if isinstance(e, ProgressEvent)] == [1, 2]
        assert not shared._said
        await member.aclose()
    await backend.aclose()


async def test_a_language_that_leaves_before_the_end_does_not_keep_it_from_the_others() -> None:
    session = ScriptedSession()
    backend = SharedBackend(ScriptedBackend(session), ("es", "de"))
    staying, leaving = await backend.open(target("es")), await backend.open(target("de"))
    await staying.finish()
    assert session.says.empty(), "the other one may have more to say"
    await leaving.aclose()
    closed = (await hear(staying))[-1]
    assert isinstance(closed, ClosedEvent) and closed.code == "finished"
    await staying.aclose()
    await backend.aclose()


async def test_who_comes_after_the_end_was_said_gets_another_session() -> None:
    ending, another = ScriptedSession(), ScriptedSession()
    backend = SharedBackend(ScriptedBackend(ending, another), ("es", "de"))
    first = await backend.open(target("es"))
    await first.finish()
    late = await backend.open(target("de"))
    for frame in frames(TALK):
        await late.send(frame)
    assert another.heard and not ending.heard
    for session in (first, late):
        await session.aclose()
    await backend.aclose()

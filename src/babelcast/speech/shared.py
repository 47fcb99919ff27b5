"""Several target languages of a stream from one session: what is said is recognised once, and not once a language.

The worker has a session for each language, with its own retry and breaker. :class:`SharedBackend` gives each of them a
member of one session of the speech service that speaks all languages. Whoever opens first opens it; the others join.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace

from babelcast.errors import SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.speech.base import ClosedEvent, SegmentEvent, SpeechBackend, SpeechEvent, SpeechSession, SpeechTarget
from babelcast.speech.events import EventQueue
from babelcast.units import SpeechFrame

log = logging.getLogger(__name__)

_MAX_EVENTS = 256
_MISSED = 64
"""Events that a language gets which joins late."""


class SharedMember:
    """See :class:`babelcast.speech.base.SpeechSession`: one language of a shared session."""

    def __init__(self, shared: _Shared, language: str) -> None:
        self._shared = shared
        self.language = language
        self.finished = False
        self._events = EventQueue(_MAX_EVENTS)
        self._sequence = 0

    @property
    def dropped_frames(self) -> int:
        return self._shared.session.dropped_frames

    async def send(self, frame: SpeechFrame) -> None:
        if self._events.ended:
            raise SpeechUnavailableError("the session has ended", code="internal")
        await self._shared.send(frame)

    async def finish(self) -> None:
        self.finished = True
        await self._shared.finish()

    def events(self) -> AsyncIterator[SpeechEvent]:
        return self._events.read()

    async def aclose(self) -> None:
        self._events.push(ClosedEvent("finished", "closed by us", retryable=False))
        await self._shared.leave(self)

    def take(self, event: SpeechEvent) -> None:
        """Full policy: this member ends, retryable. One that is not read must not hold up the other languages."""
        if isinstance(event, SegmentEvent):
            if event.language != self.language:
                return
            event = replace(event, segment=replace(event.segment, sequence=self._sequence))
            self._sequence += 1
        if self._events.full and not isinstance(event, ClosedEvent):
            event = ClosedEvent("internal", "the session's events were not read", retryable=True)
        self._events.push(event)


class _Shared:
    """The one session, and the members that listen to it."""

    def __init__(self, session: SpeechSession, languages: tuple[str, ...]) -> None:
        self.session = session
        self.over = False
        self.finishing = False
        self._members: dict[str, SharedMember] = {}
        self._awaited = set(languages)  # that have not joined yet
        self._said: deque[SpeechEvent] = deque(maxlen=_MISSED)
        """For a language that joins when the first one's sound was answered already, as after a reconnect."""
        self._sent_until_ns: int | None = None
        self._pump = asyncio.create_task(self._deliver(), name="sts languages")

    def has(self, language: str) -> bool:
        return language in self._members

    def join(self, language: str) -> SharedMember:
        member = self._members[language] = SharedMember(self, language)
        if language in self._awaited:
            self._awaited.discard(language)
            for event in self._said:
                member.take(event)
        if not self._awaited:
            self._said.clear()
        return member

    async def send(self, frame: SpeechFrame) -> None:
        """Every member sends the same sound; the first to send a frame sends it for all."""
        if self._sent_until_ns is None or frame.start_ns >= self._sent_until_ns:
            self._sent_until_ns = frame.end_ns
            await self.session.send(frame)

    async def finish(self) -> None:
        if all(member.finished for member in self._members.values()):
            self.finishing = True  # who comes now has more to say
            await self.session.finish()

    async def leave(self, member: SharedMember) -> None:
        if self._members.get(member.language) is not member:
            return
        del self._members[member.language]
        if not self._members:
            await self.aclose()
        elif not self.over and not member.finished:
            await self.finish()  # perhaps it was the only one with more to say

    async def aclose(self) -> None:
        self.over = True
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        await self.session.aclose()

    async def _deliver(self) -> None:
        closed = ClosedEvent("internal", "the session ended without a word", retryable=True)
        try:
            async for event in self.session.events():
                if isinstance(event, ClosedEvent):
                    closed = event
                    break
                if self._awaited:
                    self._said.append(event)
                self._tell(event)
        except Exception as error:  # a bug in the client must not leave the languages waiting
            log.exception("speech session failed")
            closed = ClosedEvent("internal", f"the speech client failed: {error}", retryable=True)
        self.over = True  # before a member can ask for the next one
        self._tell(closed)

    def _tell(self, event: SpeechEvent) -> None:
        for member in list(self._members.values()):
            member.take(event)


class SharedBackend:
    """``languages``: all target languages of the stream. ``inner`` opens sessions for several (``SpeechTarget.also``).
    One voice, if any, is for all of them. A language that the service has not is no reason to refuse the others."""

    def __init__(self, inner: SpeechBackend, languages: tuple[str, ...]) -> None:
        self._inner = inner
        self._known = languages
        self._languages = languages
        """Those that are asked for together."""
        self._shared: list[_Shared] = []
        self._opening = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._inner.name

    async def open(self, target: SpeechTarget) -> SpeechSession:
        if target.target_language not in self._known:
            raise SpeechError(f"{target.target_language} is none of {', '.join(self._known)}", code="bad_request")
        async with self._opening:
            self._shared = [shared for shared in self._shared if not shared.over]
            # a member that is still here wants another session, as one does before its service goes away
            if target.target_language not in self._languages:
                return await self._inner.open(target)  # it may have been installed since
            latest = self._shared[-1] if self._shared else None
            if latest is None or latest.finishing or latest.has(target.target_language):
                lead, *also = self._languages
                wanted = replace(target, target_language=lead, also=tuple(also))
                try:
                    session = await self._inner.open(wanted)
                except UnsupportedLanguageError:
                    return await self._alone(target)
                self._shared.append(_Shared(session, self._languages))
                log.info("one session for %s", ", ".join(self._languages))
            return self._shared[-1].join(target.target_language)

    async def _alone(self, target: SpeechTarget) -> SpeechSession:
        """One of the languages is not spoken. Where it is this one, the others are asked for without it from now on;
        else this one has a session of its own."""
        try:
            return await self._inner.open(target)
        except UnsupportedLanguageError:
            others = tuple(each for each in self._languages if each != target.target_language)
            self._languages = others or self._languages
            raise

    async def aclose(self) -> None:
        for shared in self._shared:
            with contextlib.suppress(SpeechError):
                await shared.aclose()
        self._shared = []
        await self._inner.aclose()

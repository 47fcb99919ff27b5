"""Client of the speech service's REST contract: stateless, one request per fragment.

Without context between fragments this is for services that offer nothing better, and for the ``tone`` mock. A request
has one target language, as a session here has; several from one recognition are the WebSocket's.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from babelcast import wire
from babelcast.audio.chunk import Chunker
from babelcast.audio.pcm import from_s16le
from babelcast.errors import (
    ConfigError,
    SpeechError,
    SpeechProtocolError,
    SpeechUnavailableError,
    UnsupportedLanguageError,
)
from babelcast.speech.base import (
    ClosedEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechEvent,
    SpeechTarget,
)
from babelcast.speech.events import EventQueue
from babelcast.speech.problems import error_for, retry_after, unreachable
from babelcast.units import NS_PER_MS, SPEECH_RATE, DubSegment, Fragment, SpeechFrame, ns_to_samples

log = logging.getLogger(__name__)

_OPEN_TIMEOUT_S = 5.0
_IN_FLIGHT = 2
_MAX_WAITING = 4
_MAX_FAILURES = 3
"""Fragments that may fail one after the other before the session gives up."""
_MAX_EVENTS = 256
_MAX_ANSWERS = 8


class StsHttpSession:
    """See :class:`babelcast.speech.base.SpeechSession`. Made by :meth:`StsHttpBackend.open`.

    Fragments are sent as they fill, two at a time, and their answers delivered in order. A fragment that waits too
    long is dropped and one that fails is lost: late dubs are worth nothing, so nothing is sent twice.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, target: SpeechTarget, deadline_s: float) -> None:
        self._http = http
        self._url = url
        self._target = target
        self._deadline_s = deadline_s
        self._chunker = Chunker(target.stream_id, rate=SPEECH_RATE, channels=1)
        self._waiting: deque[Fragment] = deque()
        self._wake = asyncio.Event()
        self._answers: asyncio.Queue[tuple[Fragment, asyncio.Task[wire.ProcessResponse]] | None] = asyncio.Queue(
            _MAX_ANSWERS
        )
        self._lost: LostEvent | None = None
        self._turns = asyncio.Semaphore(_IN_FLIGHT)
        self._events = EventQueue(_MAX_EVENTS)
        self._requests: set[asyncio.Task[wire.ProcessResponse]] = set()
        self._sequence = 0
        self._failures = 0
        self._dropped = 0
        self._finishing = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work; ``aclose`` ends it."""
        self._tasks = [
            asyncio.create_task(self._request_all(), name="sts requests"),
            asyncio.create_task(self._deliver_all(), name="sts answers"),
        ]

    @property
    def dropped_frames(self) -> int:
        """Counted in whole frames of 100 ms, as far as fragments were dropped."""
        return self._dropped

    async def send(self, frame: SpeechFrame) -> None:
        if self._events.ended or self._closing:
            raise SpeechUnavailableError("the session has ended", code="internal")
        if frame.rate != SPEECH_RATE:
            raise SpeechError(f"frames are at {SPEECH_RATE} Hz", code="unsupported_format")
        for fragment in self._chunker.push(frame.start_ns, frame.pcm):
            self._enqueue(fragment)

    def _enqueue(self, fragment: Fragment) -> None:
        self._waiting.append(fragment)
        if len(self._waiting) > _MAX_WAITING:
            oldest = self._waiting.popleft()
            self._dropped += max(1, (oldest.duration_ns - oldest.overlap_ns) // (100 * NS_PER_MS))
            start_ns = self._lost.source_start_ns if self._lost else oldest.start_ns + oldest.overlap_ns
            self._lost = LostEvent(start_ns, oldest.end_ns)
        if self._lost and not self._events.full:
            self._events.push(self._lost)
            self._lost = None
        self._wake.set()

    async def finish(self) -> None:
        rest = self._chunker.flush()
        if rest:
            self._enqueue(rest)
        self._finishing = True
        self._wake.set()

    def events(self) -> AsyncIterator[SpeechEvent]:
        return self._events.read()

    async def aclose(self) -> None:
        if self._closing:
            return
        self._closing = True
        tasks = [*self._tasks, *self._requests]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._events.push(ClosedEvent("finished", "closed by us", retryable=False))

    async def _request_all(self) -> None:
        while True:
            while not self._waiting:
                if self._finishing:
                    await self._answers.put(None)
                    return
                self._wake.clear()
                await self._wake.wait()
            await self._turns.acquire()
            if not self._waiting:  # dropped while we waited for our turn
                self._turns.release()
                continue
            fragment = self._waiting.popleft()
            request = asyncio.create_task(self._request(fragment), name=f"sts {fragment.fragment_id}")
            self._requests.add(request)
            request.add_done_callback(self._request_done)
            await self._answers.put((fragment, request))

    def _request_done(self, request: asyncio.Task[wire.ProcessResponse]) -> None:
        self._requests.discard(request)
        self._turns.release()
        if not request.cancelled():
            request.exception()  # seen, also where the session ended before its turn came

    async def _request(self, fragment: Fragment) -> wire.ProcessResponse:
        body = wire.ProcessRequest(
            fragment_id=fragment.fragment_id,
            stream_id=fragment.stream_id,
            sequence_number=fragment.sequence_number,
            duration_ms=round(fragment.duration_ns / NS_PER_MS),
            sample_rate=fragment.rate,
            channels=fragment.channels,
            audio=base64.b64encode(fragment.pcm).decode(),
            source_language=self._target.source_language,
            target_language=self._target.target_language,
            voice=self._target.voice,
        )
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._deadline_s),
                self._http.post(
                    self._url + wire.PROCESS_PATH, data=body.model_dump_json(), headers=headers
                ) as response,
            ):
                return _answer(response.status, await response.read(), retry_after(response.headers))
        except TimeoutError as error:
            raise SpeechUnavailableError("the speech service does not answer in time", code="deadline") from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._url, error) from error

    async def _deliver_all(self) -> None:
        """Answers in the order of their fragments, then a ClosedEvent."""
        closed: ClosedEvent | None = None
        while closed is None:
            answer = await self._answers.get()
            if answer is None:
                closed = ClosedEvent("finished", "all was dubbed", retryable=False)
            else:
                closed = await self._deliver(*answer)
        for left in list(self._requests):
            left.cancel()
        await self._events.put(closed)

    async def _deliver(self, fragment: Fragment, request: asyncio.Task[wire.ProcessResponse]) -> ClosedEvent | None:
        start_ns = fragment.start_ns + fragment.overlap_ns
        try:
            segment = self._segment(fragment, await request)
            self._failures = 0
            if segment:
                await self._events.put(SegmentEvent(segment))
            await self._events.put(ProgressEvent(fragment.end_ns))
        except SpeechError as error:
            await self._events.put(LostEvent(start_ns, fragment.end_ns))
            self._failures += 1
            if not error.retryable or self._failures >= _MAX_FAILURES:
                return ClosedEvent(error.code, str(error), error.retryable)
        except Exception as error:  # a bug here must not leave the stream waiting
            log.exception("speech session failed", extra={"streamId": self._target.stream_id})
            return ClosedEvent("internal", f"the speech client failed: {error}", retryable=True)
        return None

    def _segment(self, fragment: Fragment, answer: wire.ProcessResponse) -> DubSegment | None:
        """The dub without the overlap, so that consecutive ones join; None where nothing was said."""
        try:
            pcm = base64.b64decode(answer.audio, validate=True)
        except ValueError as error:
            raise SpeechProtocolError("the answer's audio is not base64", code="internal") from error
        if answer.fragment_id != fragment.fragment_id or len(pcm) != len(fragment.pcm):
            raise SpeechProtocolError("the answer does not fit its fragment", code="internal")
        if not answer.translation:
            return None
        sequence, self._sequence = self._sequence, self._sequence + 1
        return DubSegment(
            segment_id=fragment.fragment_id,
            sequence=sequence,
            source_start_ns=fragment.start_ns + fragment.overlap_ns,
            source_end_ns=fragment.end_ns,
            samples=from_s16le(pcm, channels=1)[ns_to_samples(fragment.overlap_ns, fragment.rate) :],
            rate=fragment.rate,
            transcript=answer.transcript,
            translation=answer.translation,
            voice=self._target.voice or "",
        )


def _answer(status: int, text: bytes, retry_s: float | None) -> wire.ProcessResponse:
    """Raises SpeechError for anything but a response."""
    try:
        if status == 200:
            return wire.ProcessResponse.model_validate_json(text)
    except ValidationError as error:
        raise SpeechProtocolError("not an answer of the protocol", code="internal") from error
    try:
        problem = _Problem.model_validate_json(text)
    except ValidationError:
        raise error_for(status, retry_after_s=retry_s) from None
    raise error_for(status, problem.code, problem.detail, problem.retryable, retry_s)


class _Problem(BaseModel):
    """The members of a problem (RFC 9457) that we read."""

    detail: str
    code: wire.ErrorCode
    retryable: bool


class StsHttpBackend:
    """``url`` is the service's base address; a fragment whose answer takes longer than ``deadline_s`` is lost."""

    name = "sts-http"

    def __init__(self, url: str, *, token: str | None = None, deadline_s: float = 4.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError("the speech service's address must begin with http:// or https://", key="speech.url")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._deadline_s = deadline_s
        self._http: aiohttp.ClientSession | None = None

    async def open(self, target: SpeechTarget) -> StsHttpSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(headers=self._headers)
        await self._check(self._http, target)
        session = StsHttpSession(self._http, self._url, target, self._deadline_s)
        session.start()
        return session

    async def _check(self, http: aiohttp.ClientSession, target: SpeechTarget) -> None:
        """A stateless contract says yes or no only per fragment, so ask for the pair first."""
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S), http.get(self._url + wire.LANGUAGES_PATH) as response:
                text = await response.read()
        except TimeoutError as error:
            raise SpeechUnavailableError("the speech service does not answer", code="deadline") from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._url, error) from error
        if response.status != 200:
            raise error_for(response.status, retry_after_s=retry_after(response.headers))
        try:
            pairs = wire.languages.validate_json(text)
        except ValidationError as error:
            raise SpeechProtocolError("not a list of languages", code="internal") from error
        source, wanted = target.source_language.split("-")[0], target.target_language.split("-")[0]
        if not any(pair.target == wanted and source in (pair.source, wire.UNDETERMINED) for pair in pairs):
            raise UnsupportedLanguageError(
                f"the speech service can't dub {target.source_language} to {target.target_language}",
                code="unsupported_language",
            )

    async def aclose(self) -> None:
        if self._http:
            await self._http.close()
            self._http = None

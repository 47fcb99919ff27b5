"""Client of the speech service's WebSocket session: the default backend."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import aiohttp
from pydantic import ValidationError

from babelcast import wire
from babelcast.audio.pcm import from_s16le
from babelcast.errors import ConfigError, SpeechError, SpeechProtocolError, SpeechUnavailableError
from babelcast.speech.base import (
    ClosedEvent,
    GoingAwayEvent,
    LostEvent,
    PartialEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechEvent,
    SpeechTarget,
)
from babelcast.speech.events import EventQueue
from babelcast.speech.problems import error_for, retry_after, unreachable
from babelcast.telemetry.redact import redact_url
from babelcast.units import NS_PER_S, SPEECH_RATE, DubSegment, SpeechFrame

log = logging.getLogger(__name__)

_OPEN_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 0.5
_MAX_SEGMENT_S = 60.0
_BEYOND_NS = 5 * NS_PER_S
"""How far past what was sent a segment's source may end: a service may pad what it hears with silence."""
_MAX_EVENTS = 256
_ALIVE = 3
"""So often the client says that it is there, in the time after which a service gives up one that says nothing."""
_LEAST_ALIVE_S = 0.1
_CUT_OFF = {"internal", "deadline"}
"""Codes of an end that the service did not mean: the connection was lost, or it says nothing any more."""


class FrameQueue:
    """Frames on their way to the service. Full policy: drop the oldest and count it."""

    def __init__(self, bound_s: float) -> None:
        self._bound_ns = int(bound_s * 1e9)
        self._frames: deque[SpeechFrame] = deque()
        self._held_ns = 0
        self._wake = asyncio.Event()
        self._ended = False
        self.dropped = 0

    def put(self, frame: SpeechFrame) -> list[SpeechFrame]:
        """Add a frame; the frames that had to go are returned."""
        self._frames.append(frame)
        self._held_ns += frame.duration_ns
        gone = []
        while self._held_ns > self._bound_ns and len(self._frames) > 1:
            oldest = self._frames.popleft()
            self._held_ns -= oldest.duration_ns
            gone.append(oldest)
        self.dropped += len(gone)
        self._wake.set()
        return gone

    def end(self) -> None:
        """No more frames come."""
        self._ended = True
        self._wake.set()

    async def take(self) -> SpeechFrame | None:
        """The next frame; None at the end."""
        while not self._frames:
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        self._held_ns -= frame.duration_ns
        return frame


class _Assembly:
    """A segment whose sound is still coming."""

    def __init__(self, message: wire.Segment) -> None:
        self.language = message.language
        if message.samples > _MAX_SEGMENT_S * message.sample_rate:
            raise SpeechProtocolError("a segment of impossible length", code="internal")
        self._message = message
        self._pcm = bytearray()

    def add(self, data: bytes) -> DubSegment | None:
        """The segment, once it is whole. Raises SpeechProtocolError."""
        message = self._message
        sequence, offset, flags = wire.DUB_FRAME.unpack_from(data)
        self._pcm += data[wire.DUB_FRAME.size :]
        if sequence != message.sequence or offset > len(self._pcm) // 2 or len(self._pcm) > 2 * message.samples:
            raise SpeechProtocolError("dubbed frames out of order", code="internal")
        if not flags & wire.LAST_FRAME:
            return None
        if len(self._pcm) != 2 * message.samples:
            raise SpeechProtocolError("a segment ended early", code="internal")
        return DubSegment(
            segment_id=message.segment_id,
            sequence=message.sequence,
            source_start_ns=message.source_start_ns,
            source_end_ns=message.source_end_ns,
            samples=from_s16le(self._pcm, channels=1),
            rate=message.sample_rate,
            transcript=message.transcript,
            translation=message.translation,
            voice=message.voice,
        )


class StsStreamSession:
    """See :class:`babelcast.speech.base.SpeechSession`. Made by :meth:`StsStreamBackend.open`."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        ready: wire.Ready,
        queue_s: float,
        silent_s: float,
        on_cut_off: Callable[[StsStreamSession], None] | None = None,
    ) -> None:
        self.ready = ready
        self._on_cut_off = on_cut_off
        self._socket = socket
        self._silent_s = silent_s
        self._unanswered_since: float | None = None
        """When the first sound after the latest answer was sent, by the loop's clock."""
        self._sent_until_ns = 0
        self._queue = FrameQueue(queue_s)
        self._events = EventQueue(_MAX_EVENTS)
        self._assembly: _Assembly | None = None
        self._lost: LostEvent | None = None
        self._answered_until_ns: int | None = None
        self._next_sequence = 0
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send and receive; ``aclose`` ends both."""
        self._tasks = [
            asyncio.create_task(self._send_frames(), name="sts send"),
            asyncio.create_task(self._receive(), name="sts receive"),
        ]

    @property
    def dropped_frames(self) -> int:
        return self._queue.dropped

    @property
    def resume(self) -> wire.Resume | None:
        """How another session goes on where the answers of this one ended; None where it gave none, or can't."""
        if self.ready.resume_token is None or self._answered_until_ns is None:
            return None
        return wire.Resume(
            token=self.ready.resume_token,
            answered_until_ns=self._answered_until_ns,
            next_sequence=self._next_sequence,
        )

    async def send(self, frame: SpeechFrame) -> None:
        if self._events.ended or self._closing:
            raise SpeechUnavailableError("the session has ended", code="internal")
        if frame.rate != SPEECH_RATE:
            raise SpeechError(f"frames are at {SPEECH_RATE} Hz", code="unsupported_format")
        for gone in self._queue.put(frame):
            start = self._lost.source_start_ns if self._lost else gone.start_ns
            self._lost = LostEvent(start, gone.end_ns)
        if self._lost and not self._events.full:
            self._events.push(self._lost)
            self._lost = None

    async def finish(self) -> None:
        self._queue.end()

    def events(self) -> AsyncIterator[SpeechEvent]:
        return self._events.read()

    async def aclose(self) -> None:
        if self._closing:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._socket.close()
        self._events.push(ClosedEvent("finished", "closed by us", retryable=False))

    async def _send_frames(self) -> None:
        try:
            while frame := await self._next_frame():
                if self._unanswered_since is None:
                    self._unanswered_since = asyncio.get_running_loop().time()
                self._sent_until_ns = frame.end_ns
                await self._socket.send_bytes(wire.SOURCE_FRAME.pack(frame.start_ns) + frame.pcm)
            await self._socket.send_str(wire.Finish().model_dump_json())
        except (aiohttp.ClientError, ConnectionError) as error:
            log.debug("sending ended: %s", error)  # the receiver learns the reason and says it

    async def _next_frame(self) -> SpeechFrame | None:
        """None at the end. A source that is away gives no sound, and the session is to be there when it is back."""
        idle_s = self.ready.idle_s
        every_s = None if idle_s is None else max(_LEAST_ALIVE_S, idle_s / _ALIVE)
        while True:
            try:
                async with asyncio.timeout(every_s):
                    return await self._queue.take()
            except TimeoutError:
                await self._socket.send_str(wire.KeepAlive().model_dump_json())

    async def _receive(self) -> None:
        closed = ClosedEvent("internal", "the connection to the speech service was lost", retryable=True)
        try:
            while (message := await self._next_message()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                end = await self._take(message)
                if end:
                    closed = end
                    break
        except SpeechError as error:
            closed = ClosedEvent(error.code, str(error), error.retryable)
        except (aiohttp.ClientError, ConnectionError) as error:
            closed = ClosedEvent("internal", f"the connection to the speech service was lost: {error}", retryable=True)
        except Exception as error:  # a bug here must not leave the stream waiting
            log.exception("speech session failed")
            closed = ClosedEvent("internal", f"the speech client failed: {error}", retryable=True)
        if closed.retryable and closed.code in _CUT_OFF and self._on_cut_off:
            self._on_cut_off(self)
        await self._events.put(closed)

    async def _next_message(self) -> aiohttp.WSMessage:
        """Raises SpeechUnavailableError when the service hears sound and says nothing: it answers at least once a
        second (progress, statistics)."""
        loop, wait_s = asyncio.get_running_loop(), self._silent_s
        self._unanswered_since = None
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    return await self._socket.receive()
            except TimeoutError as error:
                since = self._unanswered_since
                wait_s = self._silent_s if since is None else since + self._silent_s - loop.time()
                if wait_s <= 0:
                    raise SpeechUnavailableError("the speech service says nothing", code="deadline") from error

    async def _take(self, message: aiohttp.WSMessage) -> ClosedEvent | None:
        """Handle one message; a full event queue holds up the socket (the service then sees back pressure)."""
        if message.type is aiohttp.WSMsgType.BINARY:
            if self._assembly is None or len(message.data) < wire.DUB_FRAME.size:
                raise SpeechProtocolError("sound without a segment", code="internal")
            segment = self._assembly.add(message.data)
            if segment:
                language, self._assembly = self._assembly.language, None
                self._next_sequence = segment.sequence + 1
                # of several languages another one's segment of the same clause may still be on its way
                several = len(self.ready.targets or ()) > 1
                self._answered(segment.source_start_ns if several else segment.source_end_ns)
                await self._events.put(SegmentEvent(segment, language))
            return None
        event = self._translate(parse(message.data))
        if isinstance(event, ClosedEvent):
            return event
        if event:
            await self._events.put(event)
        return None

    def _answered(self, until_ns: int) -> None:
        self._answered_until_ns = max(until_ns, self._answered_until_ns or until_ns)

    def _translate(self, message: wire.ServerMessage) -> SpeechEvent | None:
        match message:
            case wire.Segment():
                if self._assembly is not None:
                    raise SpeechProtocolError("a segment within a segment", code="internal")
                if not message.source_start_ns <= message.source_end_ns <= self._sent_until_ns + _BEYOND_NS:
                    raise SpeechProtocolError("a segment of source that was never sent", code="internal")
                self._assembly = _Assembly(message)
            case wire.Partial():
                return PartialEvent(message.source_start_ns, message.source_end_ns, message.transcript)
            case wire.Progress():
                self._answered(message.processed_until_ns)
                return ProgressEvent(message.processed_until_ns)
            case wire.GoingAway():
                return GoingAwayEvent(message.deadline_s)
            case wire.ErrorMessage():
                return ClosedEvent(message.code, message.message, message.retryable)
            case wire.Finished():
                return ClosedEvent("finished", "all was dubbed", retryable=False)
        return None


class StsStreamBackend:
    """``url`` is the service's base address. ``queue_s`` bounds the sound that waits to be sent; a session that hears
    sound and says nothing for ``silent_s`` is taken for hung."""

    name = "sts"

    def __init__(self, url: str, *, token: str | None = None, queue_s: float = 5.0, silent_s: float = 6.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError("the speech service's address must begin with http:// or https://", key="speech.url")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._queue_s = queue_s
        self._silent_s = silent_s
        self._http: aiohttp.ClientSession | None = None
        self._cut_off: dict[SpeechTarget, tuple[float, wire.Resume]] = {}
        """What was cut off lately, and until when it may go on (monotonic)."""

    async def open(self, target: SpeechTarget) -> StsStreamSession:
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                return await self._open(target)
        except TimeoutError as error:
            raise SpeechUnavailableError(
                f"the speech service at {redact_url(self._url)} does not answer", code="deadline"
            ) from error
        except aiohttp.WSServerHandshakeError as error:
            raise error_for(error.status, retry_after_s=retry_after(error.headers)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._url, error) from error

    async def _open(self, target: SpeechTarget) -> StsStreamSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(headers=self._headers)
        socket = await self._http.ws_connect(
            self._url + wire.STREAM_PATH, max_msg_size=1 << 20, heartbeat=10.0, compress=0
        )
        try:
            start = wire.Start(
                stream_id=target.stream_id,
                source_language=target.source_language,
                target_language=None if target.also else target.target_language,
                target_languages=(target.target_language, *target.also) if target.also else (),
                voice=target.voice,
                resume=self._resume(target),
            )
            await socket.send_str(start.model_dump_json(exclude_none=True))
            session = StsStreamSession(
                socket,
                await _ready(socket),
                self._queue_s,
                self._silent_s,
                lambda ended: self._keep(target, ended),
            )
            self._cut_off.pop(target, None)
        except BaseException:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await socket.close()
            raise
        session.start()
        return session

    def _keep(self, target: SpeechTarget, session: StsStreamSession) -> None:
        resume = session.resume
        if resume:
            self._cut_off[target] = (time.monotonic() + (session.ready.resume_s or 0.0), resume)

    def _resume(self, target: SpeechTarget) -> wire.Resume | None:
        until, resume = self._cut_off.get(target, (0.0, None))
        return resume if time.monotonic() < until else None

    async def aclose(self) -> None:
        if self._http:
            await self._http.close()
            self._http = None


async def _ready(socket: aiohttp.ClientWebSocketResponse) -> wire.Ready:
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise SpeechUnavailableError("the speech service closed the session at once")
    match parse(message.data):
        case wire.Ready() as ready:
            return ready
        case wire.ErrorMessage() as error:
            raise error_for(None, error.code, error.message, error.retryable, error.retry_after_s)
        case _:
            raise SpeechProtocolError("the speech service did not answer the start", code="internal")


def parse(text: str) -> wire.ServerMessage:
    try:
        return wire.server_message.validate_json(text)
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise SpeechProtocolError(
            f"what the speech service sent is not a message of the protocol, see that both are of one version: {what}"
        ) from error

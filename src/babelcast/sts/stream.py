"""One WebSocket session: reads frames into a bounded inbox, runs the engine's session in a thread, sends what it says.

The reader never waits for the engine. What the client sends faster than the engine hears waits in the inbox; beyond
``Limits.queue_s`` the session ends as overloaded. What the client does not read waits in the socket, and where that
is full for ``Limits.send_s`` the session ends. So memory is bounded however the client behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import cast, get_args

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from starlette.types import Message
from starlette.websockets import WebSocketState

from babelcast.errors import BabelcastError, SpeechError, SpeechUnavailableError
from babelcast.sts.admission import Factor
from babelcast.sts.auth import Client
from babelcast.sts.engine import Output, Session, Spoken
from babelcast.sts.inbox import Inbox
from babelcast.sts.mt.base import primary
from babelcast.sts.service import Service
from babelcast.units import Pcm, samples_to_ns
from babelcast.wire import (
    DUB_FRAME,
    LAST_FRAME,
    PROTOCOL_VERSION,
    SOURCE_FRAME,
    ErrorCode,
    ErrorMessage,
    Finish,
    Finished,
    GoingAway,
    KeepAlive,
    Partial,
    Progress,
    Ready,
    Segment,
    Start,
    Stats,
    Target,
    client_message,
)

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 5.0
_FRAME_S = 0.1
_STATS_S = 1.0
_GRACE_S = 10.0
"""Between the request to go and the end of a session that is too long."""
_CLOSE_CODES: dict[str, int] = {
    "overloaded": 1013,
    "rate_limited": 1013,
    "internal": 1011,
    "engine_failed": 1011,
    "deadline": 1011,
}
_MEANT = {1000, 1001}
"""Close codes of a client that goes by its own will and will not be back."""
_NEWER = {"language", "speaker", "targets", "resume_token", "resume_s", "idle_s", "retry_after_s"}
"""Members that version 1 does not know."""

ServerSent = Ready | Partial | Progress | Segment | Stats | ErrorMessage | GoingAway | Finished


class Stream:
    """See :class:`babelcast.sts.service.Member`."""

    def __init__(self, socket: WebSocket, service: Service, client: Client) -> None:
        self._socket = socket
        self._service = service
        self._client = client
        self.session_id = uuid.uuid4().hex[:12]
        self.factor = Factor()
        self._version = 1
        """What the client speaks; until it says so, the least."""
        self._stream_id = ""
        self._inbox: Inbox | None = None
        self._received_ns = 0
        self._segments = 0
        self._told_to_end = asyncio.Event()
        self._why = ""

    @property
    def queued_s(self) -> float:
        return self._inbox.queued_s if self._inbox else 0.0

    async def run(self) -> None:
        """The whole life of the session; returns when the socket is closed."""
        reason = "finished"
        try:
            with self._client.session():
                await self._live()
        except WebSocketDisconnect:
            reason = "client_left"
        except BabelcastError as error:
            reason = error_code(error)
            await self._fail(error)
        except Exception:
            if self._socket.application_state is WebSocketState.DISCONNECTED:
                reason = "client_left"  # found out by sending
            else:
                log.exception("session failed", extra=self._ids())
                reason = "internal"
                await self._fail(SpeechUnavailableError("internal error", code="internal"))
        self._service.metrics.closed.labels(reason).inc()
        log.info("session ended", extra={**self._ids(), "reason": reason})

    async def _live(self) -> None:
        self._service.handshakes += 1
        try:
            start = await self._receive_start()
        finally:
            self._service.handshakes -= 1
        self._stream_id, self._version = start.stream_id, start.version
        self._service.admit(self, self._resume(start))
        try:
            await self._converse(start)
        except WebSocketDisconnect as left:
            if left.code not in _MEANT and not self._told_to_end.is_set():
                self._service.resumption.keep_place(self.session_id)
            raise
        finally:
            self._service.leave(self)
        await self._close(1000)

    def _resume(self, start: Start) -> str | None:
        """Take over the identity of the session that ``start`` goes on with."""
        if start.resume is None:
            return None
        found = self._service.resumption.session_of(start.resume.token, self._client.name, start.stream_id)
        if found:
            self.session_id = found
            self._service.metrics.resumed.inc()
        return found

    async def going_away(self, deadline_s: float) -> None:
        with contextlib.suppress(Exception):
            await self._send(GoingAway(deadline_s=deadline_s))

    def end(self, why: str) -> None:
        self._why = self._why or why
        self._told_to_end.set()

    def _ids(self) -> dict[str, str]:
        return {"streamId": self._stream_id, "sessionId": self.session_id, "client": self._client.name}

    async def _receive_start(self) -> Start:
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                text = await self._socket.receive_text()
        except TimeoutError as error:
            raise SpeechError("no start message", code="deadline") from error
        except KeyError as error:
            raise SpeechError("the first message must be start", code="bad_request") from error
        message = _parse(text)
        if not isinstance(message, Start):
            raise SpeechError("the first message must be start", code="bad_request")
        if not 1 <= message.version <= PROTOCOL_VERSION:
            raise SpeechError(f"this service speaks version 1 to {PROTOCOL_VERSION}", code="bad_request")
        return message

    async def _converse(self, start: Start) -> None:
        service = self._service
        engine = service.engine
        voices = [engine.resolve_voice(start.source_language, tag, start.voice) for tag in start.targets]
        session = await service.run(engine.open, start, self.session_id)
        service.preload_soon()
        self._inbox = inbox = Inbox(start.sample_rate, service.limits.queue_s)
        asr, mt, tts = engine.stages
        log.info("session opened", extra=self._ids())
        try:
            await self._send(
                Ready(
                    version=start.version,
                    session_id=self.session_id,
                    voice=voices[0],
                    asr=asr,
                    mt=mt,
                    tts=tts,
                    targets=tuple(Target(language=t, voice=v) for t, v in zip(start.targets, voices, strict=True)),
                    resume_token=service.resumption.issue(self.session_id, self._client.name, self._stream_id),
                    resume_s=service.resumption.keep_s,
                    idle_s=service.limits.idle_s,
                )
            )
            await self._work_while_reading(session, inbox, start)
        finally:
            self._inbox = None
            # after the thread's last call: push and close never run at once (see _call)
            await service.run(session.close)

    async def _work_while_reading(self, session: Session, inbox: Inbox, start: Start) -> None:
        reader = asyncio.create_task(self._read(inbox, start.sample_rate), name="sts reader")
        worker = asyncio.create_task(self._work(session, inbox, start), name="sts worker")
        watch = asyncio.create_task(self._watch(), name="sts watch")
        tasks = (reader, worker, watch)
        try:
            while not worker.done():
                pending = {task for task in tasks if not task.done()}
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # raises what ended it: the client left, a bad frame, overload
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Ends the session when it is told to, or when it has lasted long enough."""
        limit_s = self._service.limits.session_s
        try:
            async with asyncio.timeout(limit_s):
                await self._told_to_end.wait()
        except TimeoutError:
            await self.going_away(_GRACE_S)
            await asyncio.sleep(_GRACE_S)
            raise SpeechUnavailableError(f"sessions last {limit_s:g} s here", code="overloaded") from None
        raise SpeechUnavailableError(self._why, code="overloaded")

    async def _read(self, inbox: Inbox, rate: int) -> None:
        """Until Finish; raises WebSocketDisconnect or SpeechError."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            data = message.get("bytes")
            if data is not None:
                if len(data) < SOURCE_FRAME.size:
                    raise SpeechError("a frame without its source time", code="bad_request")
                (source_ns,) = SOURCE_FRAME.unpack_from(data)
                pcm = data[SOURCE_FRAME.size :]
                inbox.put(source_ns, pcm)
                self._client.check_audio(len(pcm) / 2 / rate)
                self._received_ns = source_ns + samples_to_ns(len(pcm) // 2, rate)
                continue
            said = _parse(message.get("text") or "")
            if isinstance(said, Finish):
                inbox.end()
                return
            if not isinstance(said, KeepAlive):
                raise SpeechError("start comes once", code="bad_request")

    async def _receive(self) -> Message:
        """Raises SpeechUnavailableError where nothing comes."""
        idle_s = self._service.limits.idle_s
        try:
            async with asyncio.timeout(idle_s):
                return await self._socket.receive()
        except TimeoutError as error:
            raise SpeechUnavailableError(
                f"nothing came for {idle_s:g} s; where there is no sound, send keep_alive", code="deadline"
            ) from error

    async def _work(self, session: Session, inbox: Inbox, start: Start) -> None:
        stats_at = time.monotonic() + _STATS_S
        heard = self._service.metrics.heard.labels(self._client.name)
        while batch := await inbox.take():
            began = time.perf_counter()
            outputs = await self._call(session, batch)
            audio_s = sum(len(pcm) for _, pcm in batch) / 2 / start.sample_rate
            self._service.measure(self.factor, audio_s, time.perf_counter() - began)
            heard.inc(audio_s)
            await self._send_all(outputs, start)
            if time.monotonic() >= stats_at:
                stats_at = time.monotonic() + _STATS_S
                await self._send(self._stats(inbox))
        await self._send_all(await self._call(session, None), start)
        await self._send(Finished())

    async def _call(self, session: Session, batch: list[tuple[int, bytes]] | None) -> list[Output]:
        """Run the session in a thread. A cancelled caller still waits for it: the session is not shared."""

        def work() -> list[Output]:
            if batch is None:
                return session.finish()
            return [output for source_ns, pcm in batch for output in session.push(source_ns, pcm)]

        future = asyncio.ensure_future(self._service.run(work))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            raise

    def _stats(self, inbox: Inbox) -> Stats:
        return Stats(
            received_until_ns=self._received_ns,
            queued_ms=inbox.queued_s * 1e3,
            realtime_factor=round(self.factor.value, 4),
            segments=self._segments,
        )

    async def _send_all(self, outputs: list[Output], start: Start) -> None:
        metrics = self._service.metrics
        for output in outputs:
            if isinstance(output, Spoken):
                message = output.message
                self._segments += 1
                metrics.segments.inc()
                metrics.observe(message.stages)
                language = primary(message.language or start.targets[0])
                metrics.spoken.labels(self._client.name, language).inc(message.samples / message.sample_rate)
                await self._send(message)
                for frame in frames(output):
                    async with self._patience():
                        await self._socket.send_bytes(frame)
            else:
                await self._send(output)

    async def _send(self, message: ServerSent) -> None:
        left_out = _NEWER if self._version < 2 else None
        text = message.model_dump_json(exclude_none=True, exclude=left_out)
        async with self._patience():
            await self._socket.send_text(text)

    @contextlib.asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """The socket's buffer is full while nobody reads at the other end."""
        try:
            async with asyncio.timeout(self._service.limits.send_s):
                yield
        except TimeoutError as error:
            raise SpeechError("the client does not read", code="deadline") from error

    async def _close(self, code: int, reason: str = "") -> None:
        async with self._patience():
            await self._socket.close(code, reason[:100])

    async def _fail(self, error: BabelcastError) -> None:
        code = error_code(error)
        log.warning("session ends: %s", error, extra={**self._ids(), "code": code})
        if code == "rate_limited":
            self._service.metrics.limited.labels(self._client.name).inc()
        retry_s = error.retry_after_s if isinstance(error, SpeechUnavailableError) else None
        with contextlib.suppress(Exception):
            message = str(error)[:1_000]
            await self._send(ErrorMessage(code=code, message=message, retryable=error.retryable, retry_after_s=retry_s))
            await self._close(_CLOSE_CODES.get(code, 1008), code)


def frames(spoken: Spoken) -> list[bytes]:
    """A segment's sound as binary messages."""
    pcm = to_s16(spoken.samples)
    step = int(_FRAME_S * spoken.message.sample_rate)
    count = len(spoken.samples)
    return [
        DUB_FRAME.pack(spoken.message.sequence, offset, LAST_FRAME if offset + step >= count else 0)
        + pcm[2 * offset : 2 * (offset + step)]
        for offset in range(0, count, step)
    ]


def to_s16(samples: Pcm) -> bytes:
    """Float samples in [-1, 1] as S16LE, the inverse of division by 32768."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def error_code(error: BabelcastError) -> ErrorCode:
    if isinstance(error, SpeechError) and error.code in get_args(ErrorCode):
        return cast(ErrorCode, error.code)
    return "internal"


def _parse(text: str) -> Start | KeepAlive | Finish:
    try:
        return client_message.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise SpeechError(f"not a message of this protocol: {what}", code="bad_request") from error

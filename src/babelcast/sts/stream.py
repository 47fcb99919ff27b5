"""One WebSocket session: reads frames into a bounded inbox, runs the engine's session in a thread, sends what it says.

The reader never waits for the engine. What the client sends faster than the engine hears waits in the inbox; beyond
``Limits.queue_s`` the session ends as overloaded, so memory is bounded however the client behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from starlette.websockets import WebSocketState

from babelcast.errors import BabelcastError, SpeechError, SpeechUnavailableError
from babelcast.sts.engine import Output, Session, Spoken
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
    Partial,
    Progress,
    Ready,
    Segment,
    Start,
    Stats,
    client_message,
)

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 5.0
_FRAME_S = 0.1
_BATCH_S = 0.3
_MAX_FRAME_S = 2.0
_STATS_S = 1.0
_CLOSE_CODES: dict[str, int] = {"overloaded": 1013, "internal": 1011, "engine_failed": 1011, "deadline": 1011}

ServerSent = Ready | Partial | Progress | Segment | Stats | ErrorMessage | GoingAway | Finished


class Inbox:
    """Frames that wait, in order. Full policy: raise SpeechUnavailableError, which ends the session."""

    def __init__(self, rate: int, bound_s: float) -> None:
        self._rate = rate
        self._bound = int(bound_s * rate) * 2
        self._frames: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._ended = False

    @property
    def queued_s(self) -> float:
        return self._bytes / 2 / self._rate

    def put(self, source_ns: int, pcm: bytes) -> None:
        if self._ended:
            raise SpeechError("a frame after finish", code="bad_request")
        if not pcm or len(pcm) % 2 or len(pcm) > _MAX_FRAME_S * self._rate * 2:
            raise SpeechError("a frame is 1 sample to 2 s of S16LE mono", code="bad_request")
        if self._bytes + len(pcm) > self._bound:
            raise SpeechUnavailableError("the session can't keep up with its sound", code="overloaded")
        self._frames.append((source_ns, pcm))
        self._bytes += len(pcm)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def take(self) -> list[tuple[int, bytes]]:
        """At least one frame, at most about :data:`_BATCH_S` of sound; empty at the end."""
        while not self._frames:
            if self._ended:
                return []
            self._wake.clear()
            await self._wake.wait()
        batch, size = [], 0
        while self._frames and size < _BATCH_S * self._rate * 2:
            frame = self._frames.popleft()
            batch.append(frame)
            size += len(frame[1])
        self._bytes -= size
        return batch


class Stream:
    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket = socket
        self._service = service
        self._session_id = uuid.uuid4().hex[:12]
        self._stream_id = ""
        self._sending = asyncio.Lock()
        self._received_ns = 0
        self._segments = 0
        self._factor = 0.0

    async def run(self) -> None:
        """The whole life of the session; returns when the socket is closed."""
        try:
            start = await self._receive_start()
            self._stream_id = start.stream_id
            self._service.admit(self)
            try:
                await self._converse(start)
            finally:
                self._service.leave(self)
            await self._socket.close(1000)
        except WebSocketDisconnect:
            log.info("client left", extra=self._ids())
        except BabelcastError as error:
            await self._fail(error)
        except Exception:
            if self._socket.application_state is WebSocketState.DISCONNECTED:
                log.info("client left", extra=self._ids())  # found out by sending
                return
            log.exception("session failed", extra=self._ids())
            await self._fail(SpeechUnavailableError("internal error", code="internal"))

    async def going_away(self) -> None:
        with contextlib.suppress(Exception):
            await self._send(GoingAway(deadline_s=0.5))

    def _ids(self) -> dict[str, str]:
        return {"streamId": self._stream_id, "sessionId": self._session_id}

    async def _receive_start(self) -> Start:
        try:
            text = await asyncio.wait_for(self._socket.receive_text(), _START_TIMEOUT_S)
        except TimeoutError as error:
            raise SpeechError("no start message", code="deadline") from error
        except KeyError as error:
            raise SpeechError("the first message must be start", code="bad_request") from error
        message = _parse(text)
        if not isinstance(message, Start):
            raise SpeechError("the first message must be start", code="bad_request")
        if message.version != PROTOCOL_VERSION:
            raise SpeechError(f"this service speaks version {PROTOCOL_VERSION}", code="bad_request")
        return message

    async def _converse(self, start: Start) -> None:
        service = self._service
        voice = service.engine.resolve_voice(start.source_language, start.target_language, start.voice)
        session = await service.run(service.engine.open, start, self._session_id)
        service.preload_soon()
        inbox = Inbox(start.sample_rate, service.limits.queue_s)
        asr, mt, tts = service.engine.stages
        log.info("session opened", extra=self._ids())
        try:
            await self._send(Ready(session_id=self._session_id, voice=voice, asr=asr, mt=mt, tts=tts))
            await self._work_while_reading(session, inbox, start)
        finally:
            # after the thread's last call: push and close never run at once (see _call)
            await service.run(session.close)
            log.info("session closed", extra={**self._ids(), "segments": self._segments})

    async def _work_while_reading(self, session: Session, inbox: Inbox, start: Start) -> None:
        reader = asyncio.create_task(self._read(inbox, start.sample_rate), name="sts reader")
        worker = asyncio.create_task(self._work(session, inbox, start.sample_rate), name="sts worker")
        try:
            done, _ = await asyncio.wait({reader, worker}, return_when=asyncio.FIRST_COMPLETED)
            if reader in done:
                reader.result()  # raises what ended it: the client left, a bad frame, overload
            await worker
        finally:
            for task in (reader, worker):
                task.cancel()
            await asyncio.gather(reader, worker, return_exceptions=True)

    async def _read(self, inbox: Inbox, rate: int) -> None:
        """Until Finish; raises WebSocketDisconnect or SpeechError."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            data = message.get("bytes")
            if data is not None:
                if len(data) < SOURCE_FRAME.size:
                    raise SpeechError("a frame without its source time", code="bad_request")
                (source_ns,) = SOURCE_FRAME.unpack_from(data)
                pcm = data[SOURCE_FRAME.size :]
                inbox.put(source_ns, pcm)
                self._received_ns = source_ns + samples_to_ns(len(pcm) // 2, rate)
                self._service.metrics.queue.set(inbox.queued_s)
            elif isinstance(_parse(message.get("text") or ""), Finish):
                inbox.end()
                return
            else:
                raise SpeechError("start comes once", code="bad_request")

    async def _work(self, session: Session, inbox: Inbox, rate: int) -> None:
        stats_at = time.monotonic() + _STATS_S
        while batch := await inbox.take():
            began = time.perf_counter()
            outputs = await self._call(session, batch)
            self._measure(sum(len(pcm) for _, pcm in batch) / 2 / rate, time.perf_counter() - began)
            await self._send_all(outputs)
            if time.monotonic() >= stats_at:
                stats_at = time.monotonic() + _STATS_S
                await self._send(self._stats(inbox))
        await self._send_all(await self._call(session, None))
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

    def _measure(self, audio_s: float, busy_s: float) -> None:
        metrics = self._service.metrics
        metrics.audio.inc(audio_s)
        metrics.busy.inc(busy_s)
        self._factor += 0.05 * (busy_s / audio_s - self._factor)
        metrics.factor.set(self._factor)

    def _stats(self, inbox: Inbox) -> Stats:
        return Stats(
            received_until_ns=self._received_ns,
            queued_ms=inbox.queued_s * 1e3,
            realtime_factor=round(self._factor, 4),
            segments=self._segments,
        )

    async def _send_all(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Spoken):
                self._segments += 1
                self._service.metrics.segments.inc()
                self._service.metrics.observe(output.message.stages)
                await self._send(output.message)
                for frame in frames(output):
                    await self._socket.send_bytes(frame)
            else:
                await self._send(output)

    async def _send(self, message: ServerSent) -> None:
        async with self._sending:
            await self._socket.send_text(message.model_dump_json())

    async def _fail(self, error: BabelcastError) -> None:
        code = error_code(error)
        log.warning("session ends: %s", error, extra={**self._ids(), "code": code})
        with contextlib.suppress(Exception):
            await self._send(ErrorMessage(code=code, message=str(error), retryable=error.retryable))
            await self._socket.close(_CLOSE_CODES.get(code, 1008))


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


_ERROR_CODES: dict[str, ErrorCode] = {
    "bad_request": "bad_request",
    "unsupported_language": "unsupported_language",
    "unsupported_format": "unsupported_format",
    "overloaded": "overloaded",
    "unauthorized": "unauthorized",
    "engine_failed": "engine_failed",
    "deadline": "deadline",
}


def error_code(error: BabelcastError) -> ErrorCode:
    return _ERROR_CODES.get(error.code, "internal") if isinstance(error, SpeechError) else "internal"


def _parse(text: str) -> Start | Finish:
    try:
        return client_message.validate_json(text)
    except ValidationError as error:
        raise SpeechError(f"not a message of this protocol: {error.errors()[0]['msg']}", code="bad_request") from error

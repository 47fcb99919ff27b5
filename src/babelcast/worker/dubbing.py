"""One language's dialogue with the speech backend: frames go out, segments come back, sessions are renewed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from babelcast.audio.fallback import FallbackCause
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.speech.base import (
    BackendEvent,
    ClosedEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechBackend,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
    UsageEvent,
)
from babelcast.speech.breaker import OPEN_CODE, BreakerBackend
from babelcast.speech.retry import RetryBackend, RetrySession, RetrySettings
from babelcast.telemetry.redact import redact
from babelcast.units import NS_PER_MS, NS_PER_S, SPEECH_RATE, DubSegment, SpeechFrame, ns_to_samples

log = logging.getLogger(__name__)

BackendState = Literal["none", "opening", "open", "retrying", "unsupported"]

EVERYTHING_NS = 1 << 62
"""A watermark past all source: nothing more will come."""
_QUEUE_FRAMES = 400
_FILL_NS = 3 * NS_PER_S
"""Gaps up to this are sent as silence, because a session's frames are gapless; a longer one takes a new session."""
_AHEAD_NS = 10 * NS_PER_S
_DEALING_NS = NS_PER_S
"""What a backend needs at the least for a piece of sound that it gets late: less than that ahead of air is too late."""
_LIVE = RetrySettings(replay_s=_AHEAD_NS / NS_PER_S)
_PACED = RetrySettings(replay_s=2 * _AHEAD_NS / NS_PER_S)
_SILENCE = bytes(3_200)
_CAUSES: dict[str, FallbackCause] = {OPEN_CODE: "breaker", "budget": "budget"}


def in_time_from(playhead_ns: int) -> int:
    """Source time from which a dub that is asked for now can still be in its place on air."""
    return playhead_ns + _DEALING_NS


class SegmentSink(Protocol):
    """Implemented by programme.Programme."""

    def take_segment(self, segment: DubSegment) -> None: ...


class Dubbing:
    """Runs until cancelled. While no session is open, frames wait in a bounded queue (*drop the oldest*), and what
    the playhead has passed is not sent any more.

    ``paced`` is for files: no frame is dropped, and none is sent more than 10 s ahead of what is dealt with.
    ``breakers`` are those that ``backend`` is wrapped in, for what they say.
    """

    def __init__(
        self,
        backend: SpeechBackend,
        target: SpeechTarget,
        sink: SegmentSink,
        playhead_ns: Callable[[], int],
        *,
        paced: bool = False,
        breakers: Sequence[BreakerBackend] = (),
    ) -> None:
        self._backend = backend
        self.breakers = tuple(breakers)
        self._target = target
        self._sink = sink
        self._playhead_ns = playhead_ns
        self._paced = paced
        self._frames: deque[SpeechFrame] = deque(maxlen=_QUEUE_FRAMES)
        self._wake = asyncio.Event()
        self._input_ended = False
        self._sent_until_ns: int | None = None
        self._session: RetrySession | None = None
        self._ended_by: str | None = None
        self._log_fields: dict[str, Any] = {"language": target.target_language, "stage": "sts"}
        self.state: BackendState = "opening"
        self.last_error: str | None = None
        self.watermark_ns = 0
        """All source before this is dealt with: delivered, or without speech."""
        self.lost: deque[tuple[int, int]] = deque(maxlen=64)
        """The latest source spans (ns) that will not be dubbed although a later watermark passes them."""
        self.dropped_frames = 0
        self.sessions = 0
        self.backend: str | None = backend.name if len(self.breakers) < 2 else None
        """Which of several speaks now; None before the first session."""
        self.cost: float | None = None
        """US dollars, where a backend charges."""

    @property
    def language(self) -> str:
        return self._target.target_language

    @property
    def queued_frames(self) -> int:
        return len(self._frames)

    @property
    def queued_events(self) -> int:
        return self._session.queued_events if self._session is not None else 0

    @property
    def closed(self) -> FallbackCause | None:
        """Why there is no session that can be relied on, None where there is one."""
        if self.state == "open":
            probing = self.breakers and all(each.status.state != "closed" for each in self.breakers)
            return "breaker" if probing else None
        return _CAUSES.get(self._ended_by or "", "closed")

    def feed(self, frame: SpeechFrame) -> None:
        """Take the next frame of the source."""
        if len(self._frames) == _QUEUE_FRAMES:
            self.dropped_frames += 1
        self._frames.append(frame)
        self._wake.set()

    def end_input(self) -> None:
        """No more frames: the session is finished, and then ``watermark_ns`` is past everything."""
        self._input_ended = True
        self._wake.set()

    async def run(self) -> None:
        """Returns at the end of the input, or when the backend refuses for good (state ``unsupported``).

        Raises SpeechUnavailableError where ``paced`` and the last of the input could not be dubbed.
        """
        retrying = RetryBackend(
            self._backend,
            _PACED if self._paced else _LIVE,
            on_state=self._on_state,
            in_time_from=None if self._paced else lambda: in_time_from(self._playhead_ns()),
        )
        while not (self._input_ended and not self._frames):
            self._session = session = await retrying.open(self._target)
            closed = await self._hold(session)
            if closed.code == "finished":
                continue
            self.last_error = redact(closed.reason)
            if not closed.retryable:
                fields = {**self._log_fields, "code": closed.code}
                log.log(
                    logging.INFO if self._paced else logging.ERROR, "can't be dubbed: %s", closed.reason, extra=fields
                )
                self.state = "unsupported"
                return
            if self._paced and self._input_ended and not self._frames:
                raise SpeechUnavailableError(closed.reason, code=closed.code)
        self.watermark_ns = EVERYTHING_NS

    def _on_state(self, state: str, reason: str | None, code: str | None) -> None:
        if state == "open":
            self.state = "open"
            self.last_error = self._ended_by = None
            self.sessions += 1
            log.info("speech session open", extra=self._log_fields)
        elif state == "retrying":
            self.state = "retrying"
            self._ended_by = code
            self.last_error = redact(f"{reason or 'the speech session ended'}; it is tried again")
        elif self.state != "retrying":
            self.state = "opening"

    async def _hold(self, session: SpeechSession) -> ClosedEvent:
        """One session from open to closed."""
        sender = asyncio.create_task(self._send_all(session))
        closed = ClosedEvent("internal", "the speech session ended without a word", retryable=True)
        try:
            async for event in session.events():
                if isinstance(event, ClosedEvent):
                    closed = event
                else:
                    self._take(event)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self.dropped_frames += session.dropped_frames
            await session.aclose()
        return closed

    def _take(self, event: SpeechEvent) -> None:
        if isinstance(event, SegmentEvent):
            self._sink.take_segment(event.segment)
        elif isinstance(event, ProgressEvent):
            self.watermark_ns = max(self.watermark_ns, event.processed_until_ns)
            self._wake.set()
        elif isinstance(event, LostEvent):
            self.lost.append((event.source_start_ns, event.source_end_ns))
            seconds = (event.source_end_ns - event.source_start_ns) / NS_PER_S
            log.info("%.1f s of the source will not be dubbed", seconds, extra=self._log_fields)
        elif isinstance(event, UsageEvent):
            self.cost = (self.cost or 0.0) + event.usd
        elif isinstance(event, BackendEvent):
            self.backend = event.backend

    async def _send_all(self, session: SpeechSession) -> None:
        """Send frames until the input ends or has a long gap; then finish the session."""
        self._sent_until_ns = None
        try:
            while True:
                frame = await self._next_frame()
                if frame is None or not await self._send(session, frame):
                    break
                if self._paced:
                    await asyncio.sleep(0)  # let the session put it on the wire: its queue holds a few seconds
        except SpeechError as error:
            log.debug("sending stopped: %s", error, extra=self._log_fields)
            return
        await session.finish()

    async def _next_frame(self) -> SpeechFrame | None:
        """The next frame that is still worth sending; None at the end of the input. Leaves it in the queue."""
        while True:
            if not self._paced:
                playhead = self._playhead_ns()
                while self._frames and self._frames[0].end_ns < playhead:
                    self._frames.popleft()
                    self.dropped_frames += 1
            if self._frames and not self._too_far_ahead():
                return self._frames[0]
            if self._input_ended and not self._frames:
                return None
            self._wake.clear()
            await self._wake.wait()

    def _too_far_ahead(self) -> bool:
        """Whether what was sent and is not dealt with is as much as may be."""
        if not self._paced or self._sent_until_ns is None:
            return False
        return self._sent_until_ns > max(self.watermark_ns, self._playhead_ns()) + _AHEAD_NS

    async def _send(self, session: SpeechSession, frame: SpeechFrame) -> bool:
        """False: there is a long gap before the frame, which takes a new session."""
        if self._sent_until_ns is not None:
            gap = frame.start_ns - self._sent_until_ns
            if gap > _FILL_NS:
                return False
            while gap >= NS_PER_MS:
                samples = min(ns_to_samples(gap, SPEECH_RATE), len(_SILENCE) // 2)
                silence = SpeechFrame(self._sent_until_ns, _SILENCE[: samples * 2])
                await session.send(silence)
                self._sent_until_ns = silence.end_ns
                gap -= silence.duration_ns
        if self._frames and self._frames[0] is frame:
            self._frames.popleft()
        await session.send(frame)
        self._sent_until_ns = frame.end_ns
        return True

"""One destination: an output session at a time, opened when something is due, opened anew when it is lost."""

from __future__ import annotations

import logging
from typing import Any, Literal, NoReturn

from babelcast.audio.fade import CROSSFADE, linear_in
from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.clock import Clock
from babelcast.errors import PublishError
from babelcast.gst.publish import PRIMER_NS, PublishPipeline
from babelcast.telemetry.redact import redact
from babelcast.units import CHANNELS, NS_PER_MS, NS_PER_S, AccessUnit, samples_to_ns
from babelcast.worker.backoff import Backoff
from babelcast.worker.pulse import Pulse

log = logging.getLogger(__name__)

OutputState = Literal["idle", "connecting", "live", "retrying"]

FLV_LIMIT_NS = (2**32 - 3_600_000) * NS_PER_MS
"""FLV's timestamps are 32 bits of milliseconds: a session is ended an hour before they wrap, after 49.7 days."""
_WATCH_TICKS = 2
_CONNECT_TIMEOUT_NS = 20 * NS_PER_S
_END_S = 2.0
_STABLE_NS = 10 * NS_PER_S
_CATCH_UP_NS = NS_PER_S
_BYTES_PER_SAMPLE = 4


class Output:
    """``push_video`` and ``push_audio`` never wait; what can't be sent now is thrown away: *drop and count*.

    A session begins with sound, faded in, and with the codec headers of the pictures where there are any; the pictures
    join at the next key frame. Should pictures come into a session that began without their headers, it is replaced.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        audio_bitrate: int,
        log_fields: dict[str, Any],
        session_limit_ns: int = FLV_LIMIT_NS,
        pulse: Pulse | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._bitrate = audio_bitrate
        self._log_fields = {**log_fields, "stage": "publish"}
        self._limit_ns = session_limit_ns
        self._pulse = pulse or Pulse()
        self._pipeline: PublishPipeline | None = None
        self._video_caps: str | None = None
        self._with_video = False
        self._awaits_key = False
        self._opened_ns = 0
        self._retry_at_ns = 0
        self._caught_up_at_ns: int | None = None
        self._begins_at_ns: int | None = None
        self._wrong_shape = False
        self._silent_so_far = True
        self._off = False
        self._leaving = False
        self._published_samples = 0
        self.state: OutputState = "idle"
        self.last_error: str | None = None
        self.sessions = 0
        self.dropped_units = 0

    @property
    def published_seconds(self) -> float:
        return self._published_samples / 48_000

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait in front of the muxer."""
        return self._pipeline.pending_bytes if self._pipeline is not None else 0

    def expect_video(self, caps: str) -> None:
        """Pictures of this format will come: a session that is opened from now on announces them."""
        self._video_caps = caps

    def push_video(self, units: list[AccessUnit], air_offset_ns: int) -> None:
        """Units that are due. ``air_offset_ns`` plus source time is the wall time at which it is on air."""
        for unit in units:
            if self._pipeline is not None and not self._with_video:
                self._wrong_shape = True
            if self._pipeline is None and unit.key and self._may_open():
                self._open(unit.caps, unit.dts_ns + air_offset_ns)
            if self._pipeline is None or not self._with_video or (self._awaits_key and not unit.key):
                self.dropped_units += 1
                continue
            self._awaits_key = False
            self._begin_media()
            shift = air_offset_ns - self._opened_ns
            self._pipeline.push_video(unit, unit.pts_ns + shift, unit.dts_ns + shift)

    def push_audio(self, position: int, pcm: bytes, air_offset_ns: int, *, video_expected: bool) -> None:
        """``pcm`` S16LE stereo at 48 kHz, whose first sample has ``position`` on the source timeline."""
        if self._pipeline is None:
            # before the first source sample is due, pictures may still show up: sound often comes first
            may_have_video = video_expected or position < 0
            if not self._may_open() or (may_have_video and self._video_caps is None):
                return
            self._open(self._video_caps, samples_to_ns(position) + air_offset_ns)
        assert self._pipeline is not None
        self._begin_media()
        if self._silent_so_far:
            pcm, self._silent_so_far = _faded_in(pcm), False
        start_ns = samples_to_ns(position) + air_offset_ns - self._opened_ns
        samples = len(pcm) // _BYTES_PER_SAMPLE
        self._pipeline.push_audio(pcm, start_ns, samples)
        self._published_samples += samples

    def end(self) -> None:
        """The programme is over: the session is closed with EOS, and no other is opened until :meth:`begin`."""
        self._off = True

    def begin(self) -> None:
        """There is a programme again."""
        self._off = False

    def _may_open(self) -> bool:
        return not self._off and not self._leaving and self._clock.now_ns() >= self._retry_at_ns

    def prepare(self, video_caps: str | None, first_ns: int, begins_ns: int) -> None:
        """Open the session now, though what comes first, due on air at ``first_ns``, is pushed at ``begins_ns`` only:
        so that whoever is to read it is there by then."""
        if self._pipeline is None and self._may_open():
            self._open(video_caps, first_ns, begins_ns)

    def _open(self, video_caps: str | None, first_ns: int, begins_ns: int | None = None) -> None:
        """``first_ns``: time on air of what comes first. It may have passed: a worker that goes on where another one
        broke off begins with the key frame before. Until that is through the muxer goes by a later clock, for it does
        not wait for the other track where it is late, and would get them out of order."""
        now_ns = self._clock.now_ns()
        begins_ns = now_ns if begins_ns is None else begins_ns
        self._opened_ns = min(begins_ns, first_ns) - PRIMER_NS
        self._caught_up_at_ns = begins_ns + _CATCH_UP_NS if first_ns < begins_ns else None
        self._begins_at_ns = begins_ns if begins_ns > now_ns else None
        self._with_video = video_caps is not None
        self._awaits_key = True
        self._wrong_shape = False
        self._silent_so_far = True
        self._pipeline = PublishPipeline(
            self._url, with_video=self._with_video, audio_bitrate=self._bitrate, base_time_ns=now_ns - PRIMER_NS
        )
        self._pipeline.start()
        if video_caps is not None:
            self._pipeline.announce_video(video_caps)
        self._pipeline.prime()
        self.sessions += 1
        self.state = "connecting"

    def _begin_media(self) -> None:
        """What a prepared session begins with comes now."""
        if self._begins_at_ns is not None and self._pipeline is not None:
            self._begins_at_ns = None
            self._pipeline.catch_up(self._clock.now_ns() - PRIMER_NS)

    async def run(self) -> NoReturn:
        """Watch the session; close it and allow the next one after an error. Runs until it is cancelled."""
        backoff = Backoff(first_s=0.5, most_s=10.0)
        while True:
            await self._pulse.next_tick(_WATCH_TICKS)
            pipeline = self._pipeline
            if pipeline is None:
                continue
            if self._off:
                log.info("output ended with the programme", extra=self._log_fields)
                self._leaving = True
                await self.finish(_END_S)
                self._leaving = False
                continue
            if (
                self._caught_up_at_ns is not None
                and self._clock.now_ns() >= self._caught_up_at_ns
                and pipeline.connected
            ):
                self._caught_up_at_ns = None
                pipeline.catch_up(self._opened_ns)
            if pipeline.connected and self.state != "live":
                self.state = "live"
                self.last_error = None
                log.info("output connected", extra=self._log_fields)
            if self.state == "live" and self._clock.now_ns() - self._opened_ns > _STABLE_NS:
                backoff.reset()
            reason = self._reason_to_close(pipeline)
            if reason is None:
                continue
            self._pipeline = None
            planned = reason in (_WRONG_SHAPE, _WRAP)
            self.state = "connecting" if planned else "retrying"
            wait_s = 0.0 if planned else backoff.next_s()
            self._retry_at_ns = self._clock.now_ns() + round(wait_s * NS_PER_S)
            if not planned:
                self.last_error = redact(reason)
            log.warning("output closed: %s; next attempt in %.1f s", reason, wait_s, extra=self._log_fields)
            # a server refuses a second session on the path: the next one waits for the end of one that still works
            self._leaving = planned
            await pipeline.stop()
            self._leaving = False

    def _reason_to_close(self, pipeline: PublishPipeline) -> str | None:
        end = pipeline.poll_end()
        if end is not None:
            return end.error or "the destination ended the session"
        if self._wrong_shape:
            return _WRONG_SHAPE
        age_ns = self._clock.now_ns() - self._opened_ns
        if age_ns > self._limit_ns:
            return _WRAP
        if self.state == "connecting" and age_ns > _CONNECT_TIMEOUT_NS:
            return "the destination took no media within 20 s"
        if pipeline.congested and self._caught_up_at_ns is None:
            return "the destination takes the stream slower than it comes"
        return None

    async def finish(self, timeout_s: float) -> None:
        """End the session with EOS, so that its receiver knows; at once where that takes too long."""
        pipeline, self._pipeline = self._pipeline, None
        self.state = "idle"
        if pipeline is None:
            return
        try:
            await pipeline.finish(timeout_s)
        except PublishError as error:
            log.info("output: %s", error, extra=self._log_fields)


def _faded_in(pcm: bytes) -> bytes:
    """A session may begin in the middle of sound: where one is lost, or a worker goes on after another one."""
    block = from_s16le(pcm, CHANNELS).copy()
    fade = min(CROSSFADE, len(block))
    block[:fade] *= linear_in(fade)[:, None]
    return to_s16le(block)


_WRONG_SHAPE = "pictures have come: a new session with them"
_WRAP = "FLV timestamps would wrap: a new session"

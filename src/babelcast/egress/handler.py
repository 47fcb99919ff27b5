"""A destination's handler: owns retry, backoff, state, last error, counters and the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from datetime import UTC, datetime
from urllib.parse import urlsplit

from babelcast.clock import Clock, MonotonicClock
from babelcast.config import Destination
from babelcast.egress.dest import Dest
from babelcast.egress.feed import Feed
from babelcast.egress.settings import EgressSettings
from babelcast.egress.source import play_forever
from babelcast.egress.standby import SlateCache, SlateMaker, Standby
from babelcast.egress.status import DestinationState, DestinationStatus
from babelcast.egress.wire import SlateSpec
from babelcast.errors import RtmpError
from babelcast.telemetry.redact import MASK, redact, redact_url

log = logging.getLogger(__name__)

_OBSERVE_S = 0.5
_SAY_AGAIN_S = 10.0
_BITRATE_SAMPLES = 8
_STALE_MS = 5_000
"""A programme that ended this long ago is not worth a new session with the destination."""


class EgressHandler:
    """Keeps one destination of one stream supplied from ``source_url`` (``live/<id>/out`` on the media server).

    ``run()`` until cancelled, or ``start()`` and ``stop()``. Whether the destination is enabled is the caller's
    business. Handlers share nothing but finished slates: a destination that is slow, refuses or hangs costs the
    others nothing. ``tls`` replaces the default context for ``rtmps://``. Without ``slate`` the connection is held
    with nothing sent while the programme is away.
    """

    def __init__(
        self,
        stream_id: str,
        source_url: str,
        destination: Destination,
        settings: EgressSettings | None = None,
        *,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
        slate: SlateSpec | None = None,
        slates: SlateMaker | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.destination = destination
        self._source_url = source_url
        self._settings = settings or EgressSettings()
        self._clock = clock or MonotonicClock()
        self._tls = tls
        self._task: asyncio.Task[None] | None = None
        self._feed = Feed(self._settings.queue_bytes, self._settings.queue_items)
        self._dest: Dest | None = None
        self._state: DestinationState = "stopped"
        self._since = datetime.now(UTC)
        self._connected_since: datetime | None = None
        self._sessions = 0
        self._failing_since: float | None = None
        self._warned: tuple[str | None, float] = (None, 0.0)
        self._past_bytes = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=_BITRATE_SAMPLES)
        self._last_error: str | None = None
        self._last_error_at: datetime | None = None
        self._fields = {"streamId": stream_id, "destination": destination.name}
        self._standby = Standby(slate, slates or SlateCache(), self._fields)

    @property
    def status(self) -> DestinationStatus:
        return DestinationStatus(
            stream_id=self.stream_id,
            name=self.destination.name,
            url=shown_url(self.destination),
            enabled=True,
            state=self._state,
            since=self._since,
            connected_since=self._connected_since,
            bytes_sent=self._bytes_sent(),
            bitrate_kbps=self._bitrate_kbps(),
            reconnects=max(0, self._sessions - 1),
            dropped_tags=self._feed.dropped,
            last_error=self._last_error,
            last_error_at=self._last_error_at,
            slate=self._dest is not None and self._dest.slate_since is not None,
        )

    async def start(self) -> None:
        """Run in the background. A second call changes nothing."""
        if self._task is None:
            self._enter("idle")
            self._task = asyncio.create_task(self.run(), name=f"egress {self.stream_id} {self.destination.name}")

    async def stop(self) -> None:
        """End the session with a goodbye, within 2 s. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self) -> None:
        """Forward until cancelled."""
        try:
            while True:
                try:
                    await self._forward()
                except Exception as error:  # a fault of ours must not end a broadcast
                    log.exception("unexpected error in a forwarder; it begins again", extra=self._fields)
                    await self._failed(RtmpError(f"internal error: {type(error).__name__}"))
        finally:
            self._enter("stopped")

    async def _forward(self) -> None:
        self._enter("idle")
        async with asyncio.TaskGroup() as group:
            group.create_task(
                play_forever(self._source_url, self._feed, self._settings, self._clock, self._fields),
                name=f"egress source {self.stream_id} {self.destination.name}",
            )
            group.create_task(self._observe(), name=f"egress observer {self.stream_id} {self.destination.name}")
            group.create_task(self._standby.run(), name=f"egress slate {self.stream_id} {self.destination.name}")
            await self._sessions_forever()

    async def _sessions_forever(self) -> None:
        while True:
            if self._state != "idle":
                self._enter("idle")
            # a destination is not bothered before there is something to send
            self._feed.drop_older_than(self._now_ms() - _STALE_MS)
            await self._something_to_send()
            self._enter("connecting")
            try:
                await self._session()
                log.info("the programme is gone: the destination is let go", extra=self._fields)
            except RtmpError as error:
                await self._failed(error)
            except Exception as error:  # a fault of ours must not take a broadcast's other destinations along
                log.exception("unexpected error in a forwarder", extra=self._fields)
                await self._failed(RtmpError(f"internal error: {type(error).__name__}"))

    async def _something_to_send(self) -> None:
        while not self._slate_is_due():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_OBSERVE_S):
                    await self._feed.wait()
                    return

    def _slate_is_due(self) -> bool:
        """The programme is away, and the destination lost its session meanwhile: the slate may open a new one."""
        latest_ms = self._feed.latest_ms
        if latest_ms is None or self._standby.ready is None or not self._feed.empty:
            return False
        away_s = (self._now_ms() - latest_ms) / 1_000
        return self._sessions > 0 and self._settings.slate_after_s <= away_s < self._settings.slate_hold_s

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    async def _failed(self, error: RtmpError) -> None:
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        self._note_error(error)
        away_s = now - self._failing_since
        wait_s = self._settings.wait_s(away_s) if error.retryable else self._settings.backoff_max_s
        wait_s *= random.uniform(0.8, 1.2)
        self._enter("failed" if not error.retryable or away_s >= self._settings.failed_after_s else "retrying")
        log.log(self._level(now), "%s; next attempt in %.1f s", self._last_error, wait_s, extra=self._fields)
        await asyncio.sleep(wait_s)

    def _level(self, now: float) -> int:
        """A warning where it is news, or has not been said for a while."""
        said, at = self._warned
        if said == self._last_error and now - at < _SAY_AGAIN_S:
            return logging.DEBUG
        self._warned = (self._last_error, now)
        return logging.WARNING

    async def _session(self) -> None:
        self._dest = dest = Dest(self.destination, self._feed, self._standby, self._settings, self._clock, self._tls)
        loop = asyncio.get_running_loop()
        opened_at: float | None = None

        def connected() -> None:
            nonlocal opened_at
            opened_at = loop.time()
            self._sessions += 1
            self._connected_since = datetime.now(UTC)
            self._enter("live")
            self._warned = (None, 0.0)
            log.info("publishing to %s", shown_url(self.destination), extra=self._fields)

        try:
            await dest.run(connected)
            self._failing_since = None
        finally:
            if opened_at is not None and loop.time() - opened_at >= self._settings.steady_after_s:
                self._failing_since = None
            self._connected_since = None
            self._past_bytes += dest.bytes_sent
            self._dest = None

    async def _observe(self) -> None:
        """Tells ``live`` from ``stalled``, and measures the bitrate."""
        loop = asyncio.get_running_loop()
        while True:
            self._samples.append((loop.time(), self._bytes_sent()))
            if self._dest is not None and self._state in ("live", "stalled"):
                still_s = loop.time() - self._dest.moved_at
                state: DestinationState = "stalled" if still_s > self._settings.stalled_after_s else "live"
                if state != self._state:
                    self._enter(state)
            await asyncio.sleep(_OBSERVE_S)

    def _enter(self, state: DestinationState) -> None:
        log.debug("%s", state, extra=self._fields)
        self._state = state
        self._since = datetime.now(UTC)

    def _note_error(self, error: RtmpError) -> None:
        text = redact(str(error))
        if self.destination.key and (key := self.destination.key.get_secret_value()):
            text = text.replace(key, MASK)  # servers like to quote what they refuse
        self._last_error = f"{text} [{error.code}]" if error.code and error.code not in text else text
        self._last_error_at = datetime.now(UTC)

    def _bytes_sent(self) -> int:
        return self._past_bytes + (self._dest.bytes_sent if self._dest else 0)

    def _bitrate_kbps(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (t0, b0), (t1, b1) = self._samples[0], self._samples[-1]
        return round((b1 - b0) * 8 / 1000 / (t1 - t0), 1) if t1 > t0 else 0.0


def shown_url(destination: Destination) -> str:
    """The destination's address without its key. Where the key is part of the address it is the last component."""
    if destination.key is not None:
        return redact_url(destination.url)
    parts = urlsplit(destination.url)
    head = parts.path.rpartition("/")[0]
    return redact_url(f"{parts.scheme}://{parts.netloc}{head}/{MASK}")

"""What an operator should be told of: thresholds over the status, raised once and cleared once."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import aiohttp

from babelcast.bridge.settings import BridgeSettings
from babelcast.bridge.status import Alert, BridgeStatus
from babelcast.errors import why

log = logging.getLogger(__name__)

_SETTLE_S = 6.0
_QUEUE = 64
_ATTEMPTS = 3
_TIMEOUT_S = 5.0


class Change(NamedTuple):
    what: Literal["raised", "cleared"]
    alert: Alert


def breaches(status: BridgeStatus, settings: BridgeSettings, now: datetime) -> dict[str, str]:
    """Name of the alert → what is wrong. Pure."""
    found: dict[str, str] = {}
    if status.state in ("stopped", "failed"):
        return found
    source_s = (now - status.source.since).total_seconds()
    if status.source.state in ("lost", "connecting"):
        # ``since`` restarts with every attempt, so the bridge's own state is what counts
        away_s = (now - status.since).total_seconds() if status.state in ("slate", "waiting") else 0.0
        if settings.alert_source_after and away_s > settings.alert_source_after:
            found["source"] = f"the source is away: {status.source.last_error or 'nothing came from it yet'}"
    elif status.source.state == "live" and source_s > _SETTLE_S:
        bitrate, fps = status.encoder.bitrate_kbps, status.encoder.fps
        if bitrate * 1_000 < settings.alert_min_bitrate:
            found["bitrate"] = f"{bitrate:.0f} kb/s go out, fewer than {settings.alert_min_bitrate / 1_000:.0f}"
        if fps < settings.alert_min_fps:
            found["fps"] = f"{fps:.1f} pictures a second, fewer than {settings.alert_min_fps:g}"
    if settings.alert_source_after and status.sound.state in ("connecting", "retrying", "stalled"):
        found["sound"] = f"no sound from AUDIO_SOURCE: {status.sound.last_error or 'nothing comes of it'}"
    if status.recording.state == "retrying":
        found["recording"] = f"nothing is recorded: {status.recording.last_error}"
    for each in status.destinations if settings.alert_destination_after else ():
        if each.state not in ("live", "stopped"):
            found[f"destination:{each.name}"] = f"destination {each.name} is not live: {each.last_error or each.state}"
    return found


class Alarms:
    """A destination's breach counts once it lasted ``alert_destination_after``; the sound's, ``alert_source_after``."""

    def __init__(self) -> None:
        self._since: dict[str, datetime] = {}
        self._raised: dict[str, Alert] = {}

    @property
    def raised(self) -> tuple[Alert, ...]:
        return tuple(self._raised.values())

    def update(self, found: dict[str, str], settings: BridgeSettings, now: datetime) -> list[Change]:
        self._since = {name: self._since.get(name, now) for name in found}
        changes = [Change("cleared", self._raised.pop(name)) for name in tuple(self._raised) if name not in found]
        waits_s = {"destination": settings.alert_destination_after, "sound": settings.alert_source_after}
        for name, message in found.items():
            wait_s = waits_s.get(name.partition(":")[0], 0.0)
            if name not in self._raised and (now - self._since[name]).total_seconds() >= wait_s:
                self._raised[name] = Alert(name=name, message=message, since=self._since[name])
                changes.append(Change("raised", self._raised[name]))
            elif name in self._raised:  # told once, but shown as it is now
                self._raised[name] = self._raised[name].model_copy(update={"message": message})
        return changes


class Webhook:
    """POSTs changes as JSON, in order. Full policy: *drop the oldest*. ``run()`` until cancelled.

    What fails is tried three times and then logged, without the address, which may hold a token.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str, dict[str, object]]] = asyncio.Queue(_QUEUE)
        self.failed = 0

    def put(self, url: str, change: Change) -> None:
        if self._queue.full():
            self._queue.get_nowait()
            self.failed += 1
        alert = change.alert
        body = {"event": f"alert.{change.what}", "alert": alert.name, "message": alert.message}
        self._queue.put_nowait((url, {**body, "since": alert.since.isoformat(), "at": datetime.now(UTC).isoformat()}))

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                url, body = await self._queue.get()
                await self._deliver(session, url, body)

    async def _deliver(self, session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> None:
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                async with session.post(url, json=body, allow_redirects=False) as response:
                    if response.status < 300:
                        return
                    reason = f"it answered {response.status}"
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:  # ValueError: no such address
                reason = why(error)
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(0.5 * 2**attempt)
        self.failed += 1
        log.warning("an alert could not be delivered: %s", reason, extra={"alert": str(body["alert"])})

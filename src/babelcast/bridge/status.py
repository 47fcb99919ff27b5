"""What is shown of the bridge: by the API, the events, the metrics and the console."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from babelcast.egress.status import DestinationStatus

BridgeState = Literal["stopped", "starting", "live", "slate", "waiting", "failed"]
"""
- ``live``: the source is on air; ``slate``: the slate is;
- ``waiting``: neither is, and the source is tried;
- ``failed``: it could not be started; ``last_error`` says why.
"""


class _Shown(BaseModel):
    """Members that a newer bridge adds are ignored by those who read it."""

    model_config = ConfigDict(frozen=True)


class SourceStatus(_Shown):
    url: str | None
    """Redacted."""
    state: Literal["connecting", "live", "lost", "off"]
    since: datetime
    reconnects: int
    bitrate_kbps: float
    """Of its pictures, as they come in."""
    last_error: str | None


SoundState = Literal["input", "silence", "connecting", "live", "stalled", "retrying"]
"""``stalled``: connected, but nothing comes of it."""


class SoundStatus(_Shown):
    source: str
    """``AUDIO_SOURCE``, redacted."""
    state: SoundState
    reconnects: int
    last_error: str | None


class EncoderStatus(_Shown):
    """Figures of the source's encoder, since the start, but for those a second."""

    name: str | None
    """ffmpeg's name of it; ``copy``."""
    fps: float
    """Of the programme, over the last 4 s."""
    bitrate_kbps: float
    """The same."""
    frames: int
    duplicated: int
    dropped: int
    speed: float


RecordingState = Literal["off", "connecting", "recording", "retrying"]


class RecordingStatus(_Shown):
    state: RecordingState = "off"
    folder: str | None = None
    files: int = 0
    bytes: int = 0
    last_error: str | None = None


class Alert(_Shown):
    name: str
    """``source``, ``sound``, ``bitrate``, ``fps``, ``recording`` or ``destination:NAME``."""
    message: str
    since: datetime


class BridgeStatus(_Shown):
    state: BridgeState
    since: datetime
    last_error: str | None
    settings_error: str | None
    """Why the latest settings were not taken; the earlier ones are in force."""
    feed_url: str
    """Where the programme can be played on this machine, while it is ``published``."""
    published: bool = True
    """Unlike ``state`` also true to the moment while the bridge is stopped: its encoders may take a second or two to
    end, and there is no programme then. An older bridge does not say."""
    source: SourceStatus
    sound: SoundStatus
    encoder: EncoderStatus
    destinations: tuple[DestinationStatus, ...]
    recording: RecordingStatus = RecordingStatus()
    alerts: tuple[Alert, ...]


def playable(status: BridgeStatus) -> str | None:
    """Where the programme can be played now."""
    there = status.published and status.state not in ("stopped", "failed", "waiting")
    return status.feed_url if there else None


class Health(_Shown):
    status: Literal["ok", "degraded", "down"]
    reasons: tuple[str, ...]


def health(status: BridgeStatus) -> Health:
    """``down``: nobody gets a programme. ``degraded``: a slate, an alert, or a destination without one."""
    reasons = [alert.message for alert in status.alerts]
    if status.settings_error:
        reasons.append(status.settings_error)
    away = [each for each in status.destinations if each.state != "live"]
    if status.sound.state in ("retrying", "stalled"):
        reasons.append(f"the sound is {status.sound.state}: there is silence")
    reasons += [f"destination {each.name} is {each.state}" for each in away]
    if status.state == "slate":
        reasons.append("the slate is on air")
    if status.state in ("failed", "stopped", "waiting"):
        return Health(status="down", reasons=(f"the bridge is {status.state}", *reasons))
    if status.destinations and len(away) == len(status.destinations):
        return Health(status="down", reasons=tuple(reasons))
    return Health(status="degraded" if reasons else "ok", reasons=tuple(reasons))

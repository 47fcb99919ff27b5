"""The document that the page shows: one for all operators. Pure.

It holds no nulls (:mod:`delta`), and what stands in a list in the views is a mapping here, so that a change of one
thing is a small patch. Times are seconds since 1970 by the server's clock, which ``now`` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from babelcast.console.alarms import Alarm
from babelcast.console.delta import without_nulls
from babelcast.console.facts import Facts
from babelcast.console.words import headline, steps
from babelcast.egress.status import DestinationStatus
from babelcast.orchestrator.bridge import BridgeView
from babelcast.orchestrator.views import EventView, HealthView
from babelcast.spec import TargetStatus

EVENTS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Change:
    """Who changed the controls last, and what; as the events tell it."""

    by: str
    what: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Changes:
    """``forced``: the latest change of what an operator puts on air over everything else."""

    latest: Change | None = None
    forced: Change | None = None

    def seen(self, event: EventView) -> Changes:
        """With one more event of the stream taken in; oldest first."""
        if event.kind == "controls_reset":
            return Changes()
        if event.kind != "controls_changed":
            return self
        by, _, what = event.detail.partition(": ")
        change = Change(by, what.partition(" (revision")[0], event.time.timestamp())
        return Changes(change, change if "force " in f"{what} " else self.forced)


def document(
    *,
    now_s: float,
    server: Mapping[str, Any],
    health: HealthView,
    streams: Iterable[Facts],
    changes: Mapping[str, Changes],
    kbps_out: Mapping[tuple[str, str], float],
    alarms: Iterable[Alarm],
    events: Iterable[EventView],
    bridge: BridgeView | None,
    bridge_error: str | None,
) -> dict[str, Any]:
    """``kbps_out``: (stream id, language) → bit rate of the programme at the media server."""
    found = {
        "now": round(now_s, 1),
        "server": dict(server) | {"media_server": health.media_server},
        "streams": {
            facts.view.id: _stream(facts, changes.get(facts.view.id, Changes()), kbps_out) for facts in streams
        },
        "alarms": {alarm.key: _alarm(alarm, rank) for rank, alarm in enumerate(alarms)},
        "events": {str(event.id): _event(event) for event in events},
        "bridge": None if bridge is None and bridge_error is None else _bridge(bridge, bridge_error),
    }
    cleaned: dict[str, Any] = without_nulls(found)
    return cleaned


def _stream(facts: Facts, changes: Changes, kbps_out: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    view, status = facts.view, facts.status
    way = {step.key: asdict(step) | {"rank": rank} for rank, step in enumerate(steps(facts))}
    return {
        "id": view.id,
        "state": view.state,
        "headline": asdict(headline(facts)),
        "steps": way,
        "languages": {"source": view.source_language, "targets": list(view.target_languages)},
        "publish": publish_address(view.urls.publish),
        "source": {
            "state": facts.source,
            "kbps": _rounded(facts.kbps_in, 0),
            "still_s": round(facts.still_s) if facts.stalled else None,
            "gone_s": _rounded(view.source_gone_s, 0),
            "video": status.video_caps if status else None,
            "audio": status.audio_caps if status else None,
            "sync_ms": _rounded(status.av_sync_delta_ms, 0) if status else None,
            "loss": status.source_loss if status else None,
        },
        "delay": {"set": view.controls.delay_s, "now": _rounded(status.delay_s, 1) if status else None},
        "controls": view.controls.model_dump(mode="json"),
        "in_force": status.controls.revision if status else None,
        "changed": asdict(changes.latest) if changes.latest else None,
        "forced": asdict(changes.forced) if changes.forced and facts.forced else None,
        "targets": {
            target.language: _target(target, kbps_out.get((view.id, target.language))) for target in facts.targets
        },
        "worker": {
            "state": view.worker.state,
            "generation": view.worker.generation,
            "megabytes": None if view.worker.resident_bytes is None else round(view.worker.resident_bytes / 2**20),
            "failures": view.worker.failures,
            "retry_in_s": _rounded(view.worker.retry_in_s, 0),
        },
        "separation": status.separation if status else None,
        "destinations": {each.name: _destination(each, rank) for rank, each in enumerate(view.destinations)},
        "warnings": list(view.warnings),
        "last_error": view.last_error,
    }


def publish_address(url: str) -> dict[str, Any]:
    """Of an RTMP address; ``host`` only where it is another machine: else it is the one that the browser used."""
    parts = urlsplit(url)
    path, _, key = parts.path.strip("/").rpartition("/")
    here = parts.hostname in (None, "127.0.0.1", "::1", "localhost", "0.0.0.0")
    return {"host": None if here else parts.hostname, "port": parts.port or 1935, "path": path, "key": key}


def _target(target: TargetStatus, kbps: float | None) -> dict[str, Any]:
    return {
        "output": target.output_state,
        "kbps": _rounded(kbps, 0),
        "backend": target.backend,
        "backend_state": target.backend_state,
        "fallback": target.fallback,
        "cause": target.fallback_cause,
        "fallback_s": round(target.fallback_seconds),
        "segments": target.segments,
        "dropped": target.dropped_segments,
        "lag_s": _rounded(target.dub_lag_s, 1),
        "offset_s": _rounded(target.dub_offset_s, 2),
        "published_s": round(target.published_seconds),
        "cost": _rounded(target.cost, 4),
        "breakers": {each.backend: each.model_dump(mode="json") for each in target.breakers},
        "last_error": target.last_error,
    }


def _destination(status: DestinationStatus, rank: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "url": status.url,
        "enabled": status.enabled,
        "state": status.state,
        "since": _unix(status.since),
        "connected": _unix(status.connected_since),
        "kbps": round(status.bitrate_kbps),
        "megabytes": round(status.bytes_sent / 1e6, 1),
        "reconnects": status.reconnects,
        "dropped": status.dropped_tags,
        "last_error": status.last_error,
        "last_error_at": _unix(status.last_error_at),
        "slate": status.slate,
    }


def _alarm(alarm: Alarm, rank: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "stream": alarm.stream_id,
        "severity": alarm.severity,
        "title": alarm.title,
        "advice": alarm.advice,
        "since": round(alarm.since_s, 1),
        "over": _rounded(alarm.over_s, 1),
        "by": alarm.acknowledged_by,
        "times": alarm.times,
    }


def _event(event: EventView) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": round(event.time.timestamp(), 1),
        "kind": event.kind,
        "stream": event.stream_id,
        "detail": event.detail,
    }


def _bridge(view: BridgeView | None, error: str | None) -> dict[str, Any]:
    if view is None:
        return {"error": error}
    status = view.status
    return {
        "state": status.state,
        "since": _unix(status.since),
        "health": view.health.status,
        "reasons": list(view.health.reasons),
        "last_error": status.last_error,
        "settings_error": status.settings_error,
        "source": {
            "url": status.source.url,
            "state": status.source.state,
            "kbps": round(status.source.bitrate_kbps),
            "reconnects": status.source.reconnects,
            "last_error": status.source.last_error,
        },
        "sound": {"source": status.sound.source, "state": status.sound.state, "last_error": status.sound.last_error},
        "encoder": {
            "name": status.encoder.name,
            "fps": round(status.encoder.fps, 1),
            "kbps": round(status.encoder.bitrate_kbps),
            "dropped": status.encoder.dropped,
            "duplicated": status.encoder.duplicated,
        },
        "destinations": {each.name: _destination(each, rank) for rank, each in enumerate(status.destinations)},
    }


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 1)


def _rounded(value: float | None, digits: int) -> float | None:
    if value is None:
        return None
    return round(value) if digits == 0 else round(value, digits)

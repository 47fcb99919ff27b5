"""What is wrong with a stream, and what to do about it. Pure: facts in, sentences out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from babelcast.bridge.status import BridgeStatus
from babelcast.console.facts import Facts
from babelcast.egress.status import DestinationStatus
from babelcast.orchestrator.views import HealthView
from babelcast.spec import TargetStatus

Severity = Literal["alarm", "warning"]
"""An alarm stays until somebody has acknowledged it; a warning goes with its cause."""

_SILENT_AFTER_S = 15.0
_SYNC_MS = 80.0


@dataclass(frozen=True, slots=True)
class Condition:
    """``key`` names it for good. It counts once it has held for ``after_s``."""

    key: str
    stream_id: str | None
    severity: Severity
    title: str
    advice: str
    after_s: float = 0.0


def of_service(health: HealthView) -> Iterator[Condition]:
    if health.media_server_error:
        yield Condition(
            "media-server",
            None,
            "alarm",
            "The media server does not answer",
            f"What is on air goes on as it was. If this lasts, restart it ({health.media_server}): "
            f"{health.media_server_error}",
            after_s=3.0,
        )
    if health.egress_error:
        yield Condition(
            "egress",
            None,
            "alarm",
            "Destinations may not be supplied",
            f"The process that sends to them is started again by itself: {health.egress_error}",
            after_s=3.0,
        )


def of_bridge(status: BridgeStatus | None) -> Iterator[Condition]:
    if status is None:
        return
    if status.state == "failed":
        yield Condition(
            "bridge", None, "alarm", "The bridge could not be started", status.last_error or "Its log says why."
        )
    if status.settings_error:
        yield Condition(
            "bridge/settings",
            None,
            "warning",
            "The bridge did not take its new settings",
            f"The earlier ones are in force: {status.settings_error}",
        )
    for alert in status.alerts:
        advice = "See the bridge's panel: source, bit rate, and its destinations."
        yield Condition(f"bridge/{alert.name}", None, "alarm", f"Bridge: {alert.message}", advice)


def of_stream(facts: Facts) -> Iterator[Condition]:
    """Of one stream, the gravest first."""
    if facts.source == "off":
        return
    yield from _source(facts)
    yield from _worker(facts)
    if facts.status is not None and facts.source == "live":
        yield from _sound(facts)
        for target in facts.targets:
            yield from _target(facts, target)
    for destination in facts.view.destinations:
        yield from _destination(facts, destination)


def _source(facts: Facts) -> Iterator[Condition]:
    stream_id = facts.view.id
    if facts.source == "lost":
        yield Condition(
            f"{stream_id}/source-lost",
            stream_id,
            "alarm",
            "The source is gone",
            "Start streaming in the encoder again: the programme goes on by itself. Until then viewers see the last "
            "picture, then the slate.",
        )
    elif facts.source == "stalled":
        yield Condition(
            f"{stream_id}/source-stalled",
            stream_id,
            "alarm",
            "The source is stalled: connected, but nothing comes",
            "Look at the encoder's network and at its own display. If it does not recover, stop and start streaming "
            "there.",
        )


def _worker(facts: Facts) -> Iterator[Condition]:
    view = facts.view
    why = f": {view.last_error}" if view.last_error else ""
    if view.state == "refused":
        yield Condition(
            f"{view.id}/refused",
            view.id,
            "alarm",
            "This stream can't be dubbed as it is",
            f"Change what it says in the encoder or in babelcast.yaml, then press Restart{why}",
        )
    elif view.state == "retrying":
        yield Condition(
            f"{view.id}/worker-failed",
            view.id,
            "alarm",
            "The worker failed and is started again",
            f"Nothing to do at first. If it keeps failing, its log says why{why}",
        )
    elif view.state == "lost" or (view.state == "running" and facts.unanswered_s > 0):
        yield Condition(
            f"{view.id}/worker-silent",
            view.id,
            "alarm",
            "The worker does not answer",
            "It is replaced by itself within seconds. If not, press Restart.",
            after_s=4.0,
        )


def _sound(facts: Facts) -> Iterator[Condition]:
    view, status = facts.view, facts.status
    assert status is not None
    if status.audio_caps is None and status.state == "live":
        yield Condition(
            f"{view.id}/no-audio",
            view.id,
            "alarm",
            "The stream has no sound",
            "Add an audio track in the encoder. In OBS: Settings → Audio, and see that the mixer moves.",
            after_s=5.0,
        )
    elif facts.silent_s >= _SILENT_AFTER_S:
        yield Condition(
            f"{view.id}/silent",
            view.id,
            "warning",
            "The source is silent",
            "Its audio track is there, but holds silence: look for a muted microphone or a wrong input at the encoder.",
        )
    if abs(status.av_sync_delta_ms) > _SYNC_MS:
        yield Condition(
            f"{view.id}/sync",
            view.id,
            "warning",
            f"The source's sound is {abs(status.av_sync_delta_ms):.0f} ms out of its place",
            "Its timestamps jump or drift: restart streaming at the encoder when the programme allows it.",
            after_s=5.0,
        )
    for warning in status.warnings:
        if "too slow" in warning:
            yield Condition(
                f"{view.id}/too-slow",
                view.id,
                "alarm",
                "This machine is too slow",
                f"{warning}. Choose a cheaper separation in babelcast.yaml, or dub fewer streams here.",
            )


_CAUSES: dict[str, tuple[Severity, str, str]] = {
    "closed": (
        "alarm",
        "The speech service can't be used now",
        "It is tried again by itself. Look whether it runs (babelcast doctor), whether speech.url and its token are "
        "right, and whether it has room for one more",
    ),
    "breaker": (
        "alarm",
        "The speech service fails",
        "It is left alone for a few seconds at a time and tried again by itself. Look at its log and its load",
    ),
    "late": (
        "warning",
        "The dub comes too late",
        "Make the delay longer below, or give the speech service a faster machine or faster engines",
    ),
    "lost": (
        "warning",
        "Speech was lost on its way",
        "Some of what was said will not be dubbed, as after a restart of the worker. If it goes on, look at the speech "
        "service's load",
    ),
    "budget": (
        "alarm",
        "The cost ceiling is reached",
        "The dub is back when an hour's budget allows it. Raise budget_usd_per_hour, or name a second backend",
    ),
}
_HEARD = {
    "original": "the original",
    "background": "the background alone",
    "ducked": "the original, turned down",
    "repeat": "the last dub again",
    "silence": "silence",
}


def _target(facts: Facts, target: TargetStatus) -> Iterator[Condition]:
    view = facts.view
    name = f" ({target.language})" if len(facts.targets) > 1 else ""
    cause = target.fallback_cause
    if target.backend_state == "unsupported":
        heard = f"Viewers hear {_HEARD[target.fallback]}. " if target.fallback is not None else ""
        yield Condition(
            f"{view.id}/{target.language}/unsupported",
            view.id,
            "alarm",
            f"The speech backend can't do this language{name}",
            f"{heard}Choose another backend or language in babelcast.yaml: {target.last_error or ''}",
        )
    elif target.fallback is not None and cause in _CAUSES:
        severity, title, advice = _CAUSES[cause]
        why = f" – {target.last_error}" if target.last_error else ""
        yield Condition(
            f"{view.id}/{target.language}/{cause}",
            view.id,
            severity,
            f"{title}{name}",
            f"Viewers hear {_HEARD[target.fallback]}. {advice}{why}.",
            after_s=1.0 if severity == "alarm" else 3.0,
        )
    if target.output_state == "retrying":
        yield Condition(
            f"{view.id}/{target.language}/output",
            view.id,
            "alarm",
            f"The programme does not reach the media server{name}",
            f"It is tried again by itself: {target.last_error or 'look at the media server'}",
            after_s=2.0,
        )


def _destination(facts: Facts, destination: DestinationStatus) -> Iterator[Condition]:
    view = facts.view
    why = f": {destination.last_error}" if destination.last_error else "."
    key = f"{view.id}/destination/{destination.name}"
    if destination.state == "failed":
        yield Condition(
            key,
            view.id,
            "alarm",
            f"{destination.name} refuses the programme",
            f"Look at its address and stream key, and at the platform's own page. It is still tried again{why}",
        )
    elif destination.state == "retrying":
        yield Condition(
            key,
            view.id,
            "alarm",
            f"{destination.name} does not take the programme",
            f"It is tried again by itself; the other destinations don't notice{why}",
            after_s=5.0,
        )
    elif destination.state == "stalled" and facts.source == "live":
        yield Condition(
            key, view.id, "alarm", f"{destination.name} is stalled", f"It is connected but takes nothing{why}", 8.0
        )

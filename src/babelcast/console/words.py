"""A stream's state in words, and the way of its signal step by step. Pure.

The steps are a newcomer's check list, which ticks itself, and later the same thing at a glance for everybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from babelcast.console.facts import SILENT_DB, Facts
from babelcast.spec import TargetStatus

_SIZE = re.compile(r"\b(\d{2,5})x(\d{2,5})\b")

Tone = Literal["off", "busy", "ok", "notice", "warning", "alarm"]
StepState = Literal["off", "waiting", "ok", "notice", "problem", "skipped"]

_LOUD = {
    "original": "Original sound on air",
    "background": "Background alone on air",
    "ducked": "Original, turned down, on air",
    "repeat": "Last dub again on air",
    "silence": "Silence on air",
}
_STAND_INS = {
    "slate": "viewers see the slate",
    "hold": "viewers see its last picture",
    None: "viewers still see what came before",  # by the delay
}
_WHY = {
    "closed": "the speech service can't be used now",
    "breaker": "the speech service fails; it is tried again",
    "late": "the dub comes too late",
    "lost": "this part was lost on its way",
    "budget": "the cost ceiling is reached",
}


@dataclass(frozen=True, slots=True)
class Headline:
    tone: Tone
    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Step:
    """``help``: what to do while it is not ok."""

    key: Literal["stream", "pictures", "sound", "speech", "dub", "destinations"]
    title: str
    state: StepState
    text: str
    help: str = ""


def headline(facts: Facts) -> Headline:
    """What a viewer gets now, in one line, and why."""
    view, status = facts.view, facts.status
    if facts.source == "off":
        return Headline("off", "Off air", "Waiting for your encoder")
    if view.state == "refused":
        return Headline("alarm", "Can't be dubbed", view.last_error or "its log says why")
    if facts.source == "lost":
        shown = (
            _STAND_INS[status.source_loss] if status and status.source_loss else "viewers still see what came before"
        )
        return Headline("alarm", "Source lost", f"gone for {view.source_gone_s or 0:.0f} s; {shown}")
    if facts.source == "stalled":
        return Headline("alarm", "Source stalled", f"connected, but nothing has come for {facts.still_s:.0f} s")
    if view.state == "retrying":
        return Headline("alarm", "Starting again", view.last_error or "the worker failed")
    if view.state != "running" or status is None:
        starting = view.state in ("starting", "stopping")
        return (
            Headline("busy", "Starting", "a few seconds") if starting else Headline("alarm", "No answer", "the worker")
        )
    if status.source_loss is not None:
        return Headline("busy", "Source back", f"on air soon; {_STAND_INS[status.source_loss]}")
    if not any(target.published_seconds > 0 for target in facts.targets):
        return Headline("busy", "Filling the delay", f"on air {status.controls.delay_s:g} s after the first picture")
    return _on_air(facts)


def _on_air(facts: Facts) -> Headline:
    gone = next((target for target in facts.targets if target.output_state == "retrying"), None)
    if gone is not None:
        return Headline("alarm", "Not on air", "the media server does not take the programme")
    fallen = [target for target in facts.targets if target.fallback is not None]
    if not facts.dubs and not fallen:
        return Headline("ok", "On air", "not dubbed: no speech backend is set")
    if not fallen and not any(_heard(target) for target in facts.targets):
        return Headline("busy", "On air", "the first dubbed phrase is waited for")
    if not fallen:
        return Headline("ok", "Dub on air", "all is well")
    first = fallen[0]
    assert first.fallback is not None
    which = f" ({', '.join(each.language for each in fallen)})" if len(fallen) < len(facts.targets) else ""
    if first.fallback_cause == "operator":
        return Headline("notice", _LOUD[first.fallback] + which, "chosen by an operator")
    return Headline("warning", _LOUD[first.fallback] + which, _why(first))


def _why(target: TargetStatus) -> str:
    if target.backend_state == "unsupported":
        return "the speech backend can't do this language"
    return _WHY.get(target.fallback_cause or "", "there is no dub")


def steps(facts: Facts) -> tuple[Step, ...]:
    """From the encoder to the destinations."""
    return (_stream(facts), _pictures(facts), _sound(facts), _speech(facts), _dub(facts), _destinations(facts))


def _stream(facts: Facts) -> Step:
    kbps = f"{facts.kbps_in / 1_000:.1f} Mbit/s" if facts.kbps_in is not None else "connected"
    match facts.source:
        case "live":
            return Step("stream", "Stream", "ok", kbps)
        case "stalled":
            return Step("stream", "Stream", "problem", "stalled", "It is connected but sends nothing: see the encoder.")
        case "lost":
            return Step("stream", "Stream", "problem", "gone", "Start streaming in the encoder again.")
    return Step(
        "stream",
        "Stream",
        "waiting",
        "waiting",
        "Type the address and the key into your encoder and start streaming. If nothing comes: is the address right, "
        "and does a firewall let its port through?",
    )


def _pictures(facts: Facts) -> Step:
    status = facts.status
    if facts.source != "live" or status is None:
        return Step("pictures", "Pictures", "off", "–")
    if status.video_caps is not None:
        return Step("pictures", "Pictures", "ok", _size(status.video_caps) or "H.264")
    if any("no video" in warning or "not supported" in warning for warning in status.warnings):
        return Step(
            "pictures", "Pictures", "problem", "none", "The encoder must send H.264 (OBS: Output → x264 or NVENC)."
        )
    return Step("pictures", "Pictures", "waiting", "waiting", "They come with the first key frame: a few seconds.")


def _size(caps: str) -> str | None:
    """``1280×720`` of ``H.264 high 1280x720 30/1``."""
    found = _SIZE.search(caps)
    return f"{found[1]}×{found[2]}" if found else None


def _sound(facts: Facts) -> Step:
    status = facts.status
    if facts.source != "live" or status is None:
        return Step("sound", "Sound", "off", "–")
    if status.audio_caps is None:
        known = status.video_caps is not None and status.source_seconds > 5
        state: StepState = "problem" if known else "waiting"
        return Step("sound", "Sound", state, "none" if known else "waiting", "Add an audio track in the encoder.")
    level = facts.heard_db
    if facts.silent_s >= 5:
        return Step("sound", "Sound", "problem", "silence", "A muted microphone or a wrong input at the encoder?")
    if level is None or level < SILENT_DB:
        return Step("sound", "Sound", "waiting", "listening", "Its level is known once it is on air.")
    return Step("sound", "Sound", "ok", f"{level:.0f} dB".replace("-", "−"))


def _speech(facts: Facts) -> Step:
    if facts.source != "live" or facts.status is None:
        return Step("speech", "Speech", "off", "–")
    if not facts.dubs:
        return Step("speech", "Speech", "skipped", "not dubbed")
    down = next((target for target in facts.targets if target.backend_state in ("retrying", "unsupported")), None)
    if down is not None:
        text = f"not into {down.language}" if down.backend_state == "unsupported" else "no service"
        return Step("speech", "Speech", "problem", text, down.last_error or "The speech service can't be used now.")
    if facts.recognised is not None:
        return Step("speech", "Speech", "ok", "recognised")
    return Step(
        "speech",
        "Speech",
        "waiting",
        "listening",
        "Say a few sentences in the source language; music alone is never recognised.",
    )


def _dub(facts: Facts) -> Step:
    if facts.source == "off" or facts.status is None:
        return Step("dub", "Dub", "off", "–")
    if not facts.dubs:
        return Step("dub", "Dub", "skipped", "not dubbed")
    chosen = next((target for target in facts.targets if target.fallback_cause == "operator"), None)
    if chosen is not None:
        return Step(
            "dub", "Dub", "notice", "set aside", "An operator has chosen what is heard. “Back to dub” gives it back."
        )
    fallen = next((target for target in facts.targets if target.fallback is not None), None)
    if fallen is not None:
        return Step("dub", "Dub", "problem", "fallback", f"Viewers hear a fallback: {_why(fallen)}.")
    if any(_heard(target) for target in facts.targets):
        return Step("dub", "Dub", "ok", "on air")
    return Step("dub", "Dub", "waiting", "waiting", "The first sentence is heard when its picture is on air.")


def _heard(target: TargetStatus) -> bool:
    return target.segments > target.dropped_segments


def _destinations(facts: Facts) -> Step:
    wanted = [each for each in facts.view.destinations if each.enabled]
    if not facts.view.destinations:
        return Step("destinations", "Destinations", "skipped", "none set", "Name some in babelcast.yaml to send it on.")
    if not wanted:
        return Step("destinations", "Destinations", "notice", "all stopped", "Start one below.")
    if facts.source == "off":
        return Step("destinations", "Destinations", "off", "–")
    live = [each for each in wanted if each.state == "live"]
    text = f"{len(live)} of {len(wanted)} live"
    if len(live) == len(wanted):
        return Step("destinations", "Destinations", "ok", text)
    bad = next((each for each in wanted if each.state in ("retrying", "failed", "stalled")), None)
    if bad is None:
        return Step("destinations", "Destinations", "waiting", text, "They are connected once the programme is on air.")
    return Step("destinations", "Destinations", "problem", text, f"{bad.name}: {bad.last_error or bad.state}")

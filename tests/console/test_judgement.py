"""What is said of a stream in each of its states: the words, the steps, and what is wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest

from babelcast.console.conditions import of_bridge, of_service, of_stream
from babelcast.console.facts import Facts
from babelcast.console.words import headline, steps
from babelcast.orchestrator.views import HealthView
from babelcast.spec import Controls
from tests.fakes.console_server import FakeStream, bridge_status

pytestmark = pytest.mark.unit


def stream(**changes: Any) -> FakeStream:
    made = FakeStream("show")
    made.destinations = {"youtube": ("live", None)}
    for name, value in changes.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def facts(made: FakeStream, **more: Any) -> Facts:
    known: dict[str, Any] = {"heard_db": -20.0, "recognised": "hello", "kbps_in": 6_000.0}
    return Facts(made.view(), **(known | more))


def said(found: Facts) -> tuple[str, str, str]:
    line = headline(found)
    problems = [condition.key for condition in of_stream(found)]
    return line.tone, line.title, ", ".join(problems)


def states(found: Facts) -> dict[str, str]:
    return {step.key: step.state for step in steps(found)}


CASES: dict[str, tuple[Facts, tuple[str, str, str]]] = {
    "all is well": (facts(stream()), ("ok", "Dub on air", "")),
    "off air": (facts(stream(on_air=False)), ("off", "Off air", "")),
    "lost": (facts(stream(gone_at=time.time() - 9)), ("alarm", "Source lost", "show/source-lost")),
    "back": (facts(stream(loss="slate")), ("busy", "Source back", "")),  # but not on air again before the delay is over
    "stalled": (facts(stream(), stalled=True, still_s=9.0), ("alarm", "Source stalled", "show/source-stalled")),
    "refused": (facts(stream(state="refused")), ("alarm", "Can't be dubbed", "show/refused")),
    "retrying": (facts(stream(state="retrying")), ("alarm", "Starting again", "show/worker-failed")),
    "starting": (facts(stream(state="starting")), ("busy", "Starting", "")),
    "no answer": (facts(stream(state="lost"), unanswered_s=5.0), ("alarm", "No answer", "show/worker-silent")),
    "filling": (facts(stream(began=time.time() - 1)), ("busy", "Filling the delay", "")),
    "nothing said": (facts(stream(said=0)), ("busy", "On air", "")),
    "breaker": (
        facts(stream(fallback="original", cause="breaker", backend_state="retrying")),
        ("warning", "Original sound on air", "show/es/breaker"),
    ),
    "late": (
        facts(stream(fallback="background", cause="late")),
        ("warning", "Background alone on air", "show/es/late"),
    ),
    "budget": (
        facts(stream(fallback="ducked", cause="budget")),
        ("warning", "Original, turned down, on air", "show/es/budget"),
    ),
    "unsupported": (
        facts(stream(fallback="original", cause="closed", backend_state="unsupported")),
        ("warning", "Original sound on air", "show/es/unsupported"),  # one alarm, and not of a service that is away
    ),
    "forced": (facts(stream(controls=Controls(force="original"))), ("notice", "Original sound on air", "")),
    "not dubbed": (facts(stream(backend_state="none")), ("ok", "On air", "")),
    "silent": (facts(stream(), silent_s=20.0, heard_db=-96.0), ("ok", "Dub on air", "show/silent")),
    "no audio": (facts(stream(audio=None)), ("ok", "Dub on air", "show/no-audio")),
    "destination": (
        facts(stream(destinations={"youtube": ("failed", "refused"), "twitch": ("retrying", None)})),
        ("ok", "Dub on air", "show/destination/youtube, show/destination/twitch"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_state_in_words(case: str) -> None:
    found, expected = CASES[case]
    assert said(found) == expected
    for condition in of_stream(found):
        assert condition.title and condition.advice.rstrip(": .")  # an alarm says what to do


def test_the_steps_tick_themselves() -> None:
    waiting = {"pictures": "off", "sound": "off", "speech": "off", "dub": "off", "destinations": "off"}
    assert states(facts(stream(on_air=False))) == {"stream": "waiting"} | waiting
    early = facts(stream(video=None, audio=None, said=0, began=time.time() - 1), recognised=None, heard_db=None)
    assert set(states(early).values()) == {"ok", "waiting"} and states(early)["stream"] == "ok"
    quiet = facts(stream(said=0, spoken=False), recognised=None, heard_db=-96.0, silent_s=9.0)
    assert (states(quiet)["sound"], states(quiet)["speech"], states(quiet)["dub"]) == ("problem", "waiting", "waiting")
    assert set(states(facts(stream())).values()) == {"ok"}
    for broken in (facts(stream(gone_at=time.time())), facts(stream(), stalled=True, still_s=9.0)):
        assert [*states(broken).values()][:4] == ["problem", "off", "off", "off"]  # what was is not what is


@pytest.mark.parametrize("case", CASES)
def test_every_step_that_is_not_ok_says_what_to_do(case: str) -> None:
    for step in steps(CASES[case][0]):
        assert step.text
        assert step.help or step.state in ("ok", "off", "skipped"), step


def test_a_stopped_destination_is_no_problem() -> None:
    made = stream(enabled={"youtube": False})
    assert states(facts(made))["destinations"] == "notice"
    assert list(of_stream(facts(made))) == []


def test_a_language_of_several_is_named() -> None:
    made = FakeStream("show", ("es", "de"))
    made.fallback, made.cause = "original", "closed"
    assert [condition.title[-4:] for condition in of_stream(facts(made))] == ["(es)", "(de)"]


def test_the_service_and_the_bridge_have_alarms_of_their_own() -> None:
    health = HealthView(status="degraded", media_server="relay", media_server_error="timed out", workers=0)
    assert [condition.key for condition in of_service(health)] == ["media-server"]
    assert list(of_bridge(None)) == [] and list(of_bridge(bridge_status())) == []
    failed = bridge_status().model_copy(update={"state": "failed", "settings_error": "line 3: FPS"})
    assert [condition.key for condition in of_bridge(failed)] == ["bridge", "bridge/settings"]

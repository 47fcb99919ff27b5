"""What is broken, for how long, and what Babelcast must say of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.e2e.faults.stage import DELAY_S, Stage
from tests.e2e.programs import until

AWAY_S = 4.0


@dataclass(frozen=True)
class Fault:
    """``dead_air_s``: the longest time without sound at the destination that is allowed; None where the destination
    itself is the fault. ``quick``: part of ``make test``."""

    name: str
    what: str
    breaks: Callable[[Stage], Awaitable[str | None]]
    """Breaks it and mends it; may tell what was to be seen."""
    says: str | None
    """What must be in API or log, as a regular expression; None where there is nothing to say."""
    dead_air_s: float | None = 0.5
    sessions: int = 1
    settle_s: float = DELAY_S + 1.5
    """From the beginning, at least: when it can be told whether all is well."""
    quick: bool = False


# --- the speech service ---


async def _in_fallback(stage: Stage) -> None:
    async def fallen() -> bool:
        target = await stage.running.target()
        return bool(target.get("fallback"))

    await until(fallen, f"the fallback; heard: {stage.heard}", 25)


async def speech_killed(stage: Stage) -> None:
    assert stage.speech
    stage.speech.refuses = True
    stage.speech.reset()
    await _in_fallback(stage)
    await asyncio.sleep(1)
    stage.speech.heal()


async def speech_hangs(stage: Stage) -> None:
    assert stage.speech
    stage.speech.stalled = True
    await _in_fallback(stage)
    await until(lambda: stage.says("says nothing|does not answer|circuit breaker"), f"a reason in {stage.heard}", 15)
    stage.speech.heal()


async def speech_slow(stage: Stage) -> None:
    await _behaves(stage, "slow")


async def speech_garbage(stage: Stage) -> None:
    await _behaves(stage, "garbage")


async def speech_overloaded(stage: Stage) -> None:
    assert stage.service and stage.speech
    stage.service.behaviour = "refuse"
    stage.speech.reset()
    await until(lambda: stage.says("too many sessions"), f"the service's own words in {stage.heard}", 20)
    stage.service.behaviour = "well"


async def _behaves(stage: Stage, how: str) -> None:
    assert stage.service
    stage.service.behaviour = how  # type: ignore[assignment]
    await _in_fallback(stage)
    stage.service.behaviour = "well"


async def speech_too_much(stage: Stage) -> str:
    assert stage.service
    before = (await stage.running.target())["dropped_segments"]
    stage.service.behaviour = "too much"

    async def dropped() -> bool:
        return bool((await stage.running.target())["dropped_segments"] > before)

    await until(dropped, "segments are dropped", 25)
    stage.service.behaviour = "well"
    return "`dropped_segments` grows"


async def speech_far(stage: Stage) -> str:
    assert stage.speech
    stage.speech.delay_s, stage.speech.jitter_s, stage.speech.loss = 0.15, 0.2, 0.03
    await asyncio.sleep(6)
    stage.speech.heal()
    return "nothing: the dub goes on"


SPEECH = (
    Fault(
        "speech service killed",
        "connections reset, new ones refused",
        speech_killed,
        "speech service .*(ended|can't be reached|lost|refused|reset|closed)",
        quick=True,
    ),
    Fault(
        "speech service hangs",
        "open socket, no answer",
        speech_hangs,
        "says nothing|does not answer|circuit breaker",
        quick=True,
    ),
    Fault("speech service slow", "every answer 6 s late", speech_slow, "says nothing|breaker|late"),
    Fault(
        "speech service sends garbage",
        "nonsense for messages",
        speech_garbage,
        "not a message of the protocol",
        quick=True,
    ),
    Fault("speech service overloaded", "refuses sessions", speech_overloaded, "too many sessions"),
    Fault("speech service talks too much", "6 s of sound for each second", speech_too_much, None, quick=True),
    Fault("bad line to the speech service", "150–350 ms each way, 3 % loss, for 6 s", speech_far, None),
)


# --- the source ---


async def source_killed(stage: Stage) -> None:
    stage.source.refuses = True
    stage.source.reset()
    await asyncio.sleep(AWAY_S)
    stage.source.heal()


async def source_stalls(stage: Stage) -> None:
    stage.source.stalled = True
    await asyncio.sleep(AWAY_S)
    stage.source.heal()


async def source_far(stage: Stage) -> str:
    stage.source.delay_s, stage.source.jitter_s, stage.source.loss = 0.2, 0.3, 0.02
    await asyncio.sleep(6)
    stage.source.heal()
    return "nothing: the delay takes it up"


async def source_narrow(stage: Stage) -> None:
    """Less than the encoder needs (about 60 kB/s)."""
    stage.source.bytes_per_s = 30_000.0
    await asyncio.sleep(AWAY_S)
    stage.source.heal()


async def source_jumps(stage: Stage) -> None:
    stage.encoder.jump_ms += 3_600_000
    await asyncio.sleep(1)


# --- destinations ---


async def destination_refuses(stage: Stage) -> None:
    stage.platform.behaviour = "refuse"
    stage.platform.hang_up()
    await until(lambda: stage.says("BadName|no such key|refused"), f"the refusal in {stage.heard}", 20)
    stage.platform.behaviour = "accept"


async def destination_away(stage: Stage) -> None:
    stage.platform.behaviour = "refuse"
    stage.platform.hang_up()
    await asyncio.sleep(8)
    stage.platform.behaviour = "accept"


async def destination_stalls(stage: Stage) -> str:
    stage.platform.behaviour = "stop reading"
    await asyncio.sleep(6)
    stage.platform.behaviour = "accept"
    return "nothing: at this bit rate the kernel's buffers hold it"


# --- our own processes ---


async def speech_process_killed(stage: Stage) -> None:
    """It may be back before anybody misses it: the delay is longer than its start."""
    pids = stage.kill("sts")
    await until(lambda: stage.running.program.processes("babelcast sts") not in (pids, []), "another one", 20)


async def speech_process_stopped(stage: Stage) -> None:
    pids = stage.kill("sts", signal.SIGSTOP)
    await _in_fallback(stage)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


async def worker_killed(stage: Stage) -> None:
    stage.kill("worker")
    await until(lambda: stage.says("worker"), f"a word of it in {stage.heard}", 10)


async def egress_killed(stage: Stage) -> None:
    sessions = len(stage.platform.sessions)
    stage.kill("egress")
    await until(lambda: len(stage.platform.sessions) > sessions, f"another session; heard: {stage.heard}", 20)


async def media_server_killed(stage: Stage) -> None:
    stage.kill(stage.server)
    await until(lambda: stage.says("media server|relay|mediamtx"), f"a word of it in {stage.heard}", 10)


AROUND = (
    Fault("source killed", f"connection reset, away for {AWAY_S:g} s", source_killed, "source is lost", quick=True),
    Fault(
        "source stalls",
        f"open socket, no data for {AWAY_S:g} s",
        source_stalls,
        "source is lost|no data|stall",
        quick=True,
    ),
    Fault("bad line from the source", "200–500 ms, 2 % loss, for 6 s", source_far, None),
    Fault("narrow line from the source", f"half of what it needs for {AWAY_S:g} s", source_narrow, None),
    Fault("source's timestamps jump", "by an hour, within a connection", source_jumps, "re-based"),
    Fault(
        "own speech service killed",
        "SIGKILL",
        speech_process_killed,
        "speech service .*was killed by SIGKILL",
        quick=True,
    ),
    Fault(
        "own speech service stopped",
        "SIGSTOP until the fallback is on air",
        speech_process_stopped,
        "says nothing|breaker|fallback original",
    ),
    Fault(
        "destination refuses",
        "hangs up, then refuses the key",
        destination_refuses,
        "BadName|refused",
        dead_air_s=None,
        sessions=2,
        quick=True,
    ),
    Fault(
        "destination refuses for long",
        "hangs up, then refuses the key for 8 s",
        destination_away,
        "BadName|refused",
        dead_air_s=10.0,
        sessions=2,
    ),
    Fault(
        "destination stalls",
        "stops reading for 6 s",
        destination_stalls,
        None,
        dead_air_s=None,
        sessions=2,
    ),
    Fault("worker killed", "SIGKILL", worker_killed, "worker", dead_air_s=3.0, settle_s=6.0),
    Fault("egress killed", "SIGKILL", egress_killed, "egress", dead_air_s=5.0, settle_s=6.0, sessions=2),
    Fault(
        "media server killed",
        "SIGKILL",
        media_server_killed,
        "relay|media server|mediamtx",
        dead_air_s=5.0,
        settle_s=8.0,
        sessions=2,
    ),
)

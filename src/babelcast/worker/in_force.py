"""What a spec, and an operator's controls over it, come to for the parts of a worker. Pure."""

from __future__ import annotations

from babelcast.audio.duck import Ducking
from babelcast.audio.fallback import FallbackSettings
from babelcast.audio.mix import MixSettings
from babelcast.spec import Controls, WorkerSpec
from babelcast.units import NS_PER_MS, NS_PER_S

LEAD_NS = 100 * NS_PER_MS
"""How long before it is on air a block leaves the timeline: room for a tick and the encoder. Nothing holds it after."""


def slow_call_s(delay_s: float) -> float:
    """When a call that is not answered yet is slow: when its sound has been on air for as long as the dub may be late,
    so that the fallback is in force anyway."""
    return delay_s - LEAD_NS / NS_PER_S + FallbackSettings().late_tolerance_s


def dumped(spec: WorkerSpec, *, dubbed: bool) -> tuple[str, ...]:
    """What a dump holds."""
    languages = [target.language for target in spec.targets]
    mixes = tuple(f"mix.{language}" for language in languages)
    if not dubbed:
        return ("source", *mixes)
    return ("source", "background", *(f"dub.{language}" for language in languages), *mixes)


def with_controls(spec: WorkerSpec, controls: Controls) -> WorkerSpec:
    """The spec as an operator has changed it."""
    return spec.model_copy(
        update={
            "fallback": controls.fallback,
            "fallback_by_cause": controls.fallback_by_cause,
            "mix": controls.mix,
            "delay_s": controls.delay_s,
        }
    )


def mix_settings(spec: WorkerSpec) -> MixSettings:
    mix = spec.mix
    return MixSettings(
        bg_gain=mix.bg_gain,
        dub_gain=mix.dub_gain,
        original_gain=mix.original_gain,
        missing_background=spec.on_separation_failure,
        ducking=Ducking(**mix.ducking.model_dump()),
        balance=mix.balance,
    )

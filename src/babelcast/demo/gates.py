"""The limits that the demo's figures are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from babelcast.demo.result import Gate


@dataclass(frozen=True, slots=True)
class _Limit:
    figure: str
    title: str
    unit: str
    limit: str
    holds: Callable[[Any], bool]


LIMITS = (
    _Limit("video_identical", "Pictures byte for byte as published", "", "every access unit", bool),
    _Limit("av_offset_ms_median", "Sound against picture, median", "ms", "−45 to +15", lambda ms: -45 <= ms <= 15),
    _Limit("av_offset_ms_worst", "Sound against picture, worst", "ms", "−45 to +15", lambda ms: -45 <= ms <= 15),
    _Limit("sentences_dubbed_ratio", "Sentences dubbed", "", "≥ 90 %", lambda ratio: ratio >= 0.9),
    _Limit("dub_out_of_order", "Segments out of order", "", "0", lambda count: count == 0),
    _Limit("dub_repeated", "Segments spoken twice", "", "0", lambda count: count == 0),
    _Limit("dub_overlapping", "Segments overlapping", "", "0", lambda count: count == 0),
    _Limit("dub_lag_p50_s", "Dub lag, P50", "s", "≤ 4", lambda lag: lag <= 4),
    _Limit("dub_lag_p95_s", "Dub lag, P95", "s", "≤ 6", lambda lag: lag <= 6),
    _Limit("dub_offset_p50_s", "Dub offset, P50", "s", "≤ 0.5", lambda offset: abs(offset) <= 0.5),
    _Limit("dub_offset_p95_s", "Dub offset, P95", "s", "≤ 2", lambda offset: offset <= 2),
    _Limit("silent_gap_max_s", "Longest silence", "s", "≤ 0.5", lambda gap: gap <= 0.5),
    _Limit("first_output_s", "First picture out", "s", "≤ delay + 5", bool),
    _Limit("start_lost_s", "Missed before the output began", "s", "≤ 10", lambda lost: lost <= 10),
    _Limit("output_seconds", "Length of the output", "s", "≥ 95 % of the rest", bool),
)


def check(figures: Mapping[str, Any], reasons: Mapping[str, str], delay_s: float, source_s: float) -> tuple[Gate, ...]:
    """Each limit against its figure; what was not measured neither passes nor fails. ``source_s`` was published."""
    made = []
    for limit in LIMITS:
        value = figures[limit.figure]
        passed: bool | None
        if value is None:
            passed = None
        elif limit.figure == "output_seconds":
            passed = value > 0 and value >= 0.95 * (source_s - (figures["start_lost_s"] or 0.0))
        elif limit.figure == "first_output_s":
            passed = value <= delay_s + 5
        else:
            passed = bool(limit.holds(value))
        note = "" if value is not None else _reason(limit.figure, reasons)
        made.append(
            Gate(
                figure=limit.figure,
                title=limit.title,
                value=value,
                unit=limit.unit,
                limit=limit.limit,
                passed=passed,
                note=note,
            )
        )
    return tuple(made)


def verdict(checked: tuple[Gate, ...]) -> bool:
    """No gate failed, and the pictures were compared: an empty run is no success."""
    return all(gate.passed is not False for gate in checked) and checked[0].passed is True


def summary(checked: Sequence[Gate]) -> str:
    met = sum(gate.passed is True for gate in checked)
    missed = sum(gate.passed is False for gate in checked)
    text = f"{met} of {len(checked)} limits met"
    text += f", {missed} missed" if missed else ""
    unknown = len(checked) - met - missed
    return text + (f", {unknown} not measured" if unknown else "")


def shown(gate: Gate) -> str:
    """The figure for a person to read."""
    value = gate.value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if gate.figure.endswith("_ratio"):
        return f"{100 * value:.0f} %"
    return f"{round(value, 2) + 0.0:g} {gate.unit}".rstrip().replace("-", "−")


def shown_limit(gate: Gate) -> str:
    return f"{gate.limit} {gate.unit}" if gate.unit and not gate.limit.endswith("rest") else gate.limit


def _reason(figure: str, reasons: Mapping[str, str]) -> str:
    if figure in reasons:
        return reasons[figure]
    stem = figure.rsplit("_", 1)[0]
    for name, reason in reasons.items():
        if name.startswith((stem, figure.split("_")[0])):
            return reason
    return "not measured"

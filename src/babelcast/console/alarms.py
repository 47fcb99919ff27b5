"""Alarms: latched until somebody has acknowledged them, the same for all operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from babelcast.console.conditions import Condition, Severity

MAX_ALARMS = 100
"""The oldest that are over go first."""
_OVER_AFTER_S = 3.0
"""A cause that is away for less is not over: what flaps is one alarm."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """``since_s``, ``over_s``, ``acknowledged_s`` in seconds since 1970; ``over_s`` is None while the cause lasts.
    ``times``: how often it has come since it was last acknowledged and over."""

    key: str
    stream_id: str | None
    severity: Severity
    title: str
    advice: str
    since_s: float
    over_s: float | None = None
    acknowledged_by: str | None = None
    acknowledged_s: float | None = None
    times: int = 1

    @property
    def wants_attention(self) -> bool:
        return self.acknowledged_by is None


class AlarmBook:
    """Fed with the conditions that hold at a moment."""

    def __init__(self) -> None:
        self._alarms: dict[str, Alarm] = {}
        self._seen: dict[str, tuple[float, float]] = {}  # condition that holds → first and last seen

    @property
    def alarms(self) -> list[Alarm]:
        """What wants attention first, alarms before warnings, the latest first."""
        ordered = sorted(self._alarms.values(), key=lambda alarm: alarm.since_s, reverse=True)
        return sorted(ordered, key=lambda a: (not a.wants_attention, a.severity != "alarm", a.over_s is not None))

    def update(self, conditions: Iterable[Condition], now_s: float) -> None:
        for condition in conditions:
            first_s, _ = self._seen.get(condition.key, (now_s, now_s))
            self._seen[condition.key] = (first_s, now_s)
            if now_s - first_s >= condition.after_s:
                self._hold(condition, first_s)
        for key, (_, last_s) in list(self._seen.items()):
            if now_s - last_s >= _OVER_AFTER_S:
                del self._seen[key]
                self._end(key, last_s)
        self._trim()

    def acknowledge(self, key: str, who: str, now_s: float) -> bool:
        """False where there is no such alarm. The first who does it is named."""
        alarm = self._alarms.get(key)
        if alarm is None:
            return False
        if alarm.over_s is not None:
            del self._alarms[key]
        elif alarm.acknowledged_by is None:
            self._alarms[key] = replace(alarm, acknowledged_by=who, acknowledged_s=now_s)
        return True

    def _hold(self, condition: Condition, first_s: float) -> None:
        known = self._alarms.get(condition.key)
        texts = {"title": condition.title, "advice": condition.advice, "severity": condition.severity}
        if known is None:
            self._alarms[condition.key] = Alarm(
                condition.key, condition.stream_id, condition.severity, condition.title, condition.advice, first_s
            )
        elif known.over_s is None:
            self._alarms[condition.key] = replace(known, **texts)  # type: ignore[arg-type]
        else:
            again = replace(known, **texts, over_s=None, since_s=first_s, times=known.times + 1)  # type: ignore[arg-type]
            self._alarms[condition.key] = again

    def _end(self, key: str, at_s: float) -> None:
        alarm = self._alarms.get(key)
        if alarm is None:
            return
        if alarm.severity == "warning" or not alarm.wants_attention:
            del self._alarms[key]
        else:
            self._alarms[key] = replace(alarm, over_s=at_s)

    def _trim(self) -> None:
        over = sorted((a for a in self._alarms.values() if a.over_s is not None), key=lambda a: a.over_s or 0.0)
        for alarm in over[: max(0, len(self._alarms) - MAX_ALARMS)]:
            del self._alarms[alarm.key]

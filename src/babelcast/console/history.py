"""What the page draws over time and reads line by line: the last ten minutes, the last lines. Pure; bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from babelcast.console.facts import SILENT_DB, Facts
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S

POINTS = 600
LINES = 200
_POINT_S = 1.0


class Lines:
    """The transcript, as it was spoken. Numbers are our own: a new worker counts its segments anew."""

    def __init__(self) -> None:
        self.lines: deque[dict[str, Any]] = deque(maxlen=LINES)
        self.next = 0
        self.after = -1
        """The worker's sequence that is known."""
        self._generation: int | None = None

    def worker_is(self, generation: int) -> None:
        if generation != self._generation:
            self._generation, self.after = generation, -1

    def take(self, entries: Iterable[SegmentEntry]) -> None:
        for entry in entries:
            self.after = max(self.after, entry.sequence)
            line = {
                "n": self.next,
                "language": entry.language,
                "at": None if entry.air_unix_s is None else round(entry.air_unix_s, 1),
                "from": round(entry.source_start_ns / NS_PER_S, 1),
                "source": entry.transcript,
                "dub": entry.translation,
                "lag_s": round(entry.dub_lag_s, 1),
                "dropped": entry.placed_ns is None,
            }
            self.lines.append({key: value for key, value in line.items() if value not in (None, False)})
            self.next += 1

    def since(self, number: int) -> list[dict[str, Any]]:
        """Those from ``number`` on."""
        missing = self.next - max(number, 0)
        return list(self.lines)[-missing:] if missing > 0 else []

    @property
    def latest(self) -> str | None:
        return next((line["source"] for line in reversed(self.lines) if line["source"]), None)


class Points:
    """Lag and sync over time: ``[unix s, sync ms, {language: [lag s, offset s, fallback 0 or 1]}]`` once a second."""

    def __init__(self) -> None:
        self._points: deque[list[Any]] = deque(maxlen=POINTS)
        self.next = 0

    def take(self, facts: Facts, now_s: float) -> None:
        if facts.status is None or (self._points and now_s - self._points[-1][0] < _POINT_S - 0.05):
            return
        languages = {
            target.language: [
                None if target.dub_lag_s is None else round(target.dub_lag_s, 2),
                None if target.dub_offset_s is None else round(target.dub_offset_s, 2),
                int(target.fallback is not None),
            ]
            for target in facts.targets
        }
        self._points.append([round(now_s, 1), round(facts.status.av_sync_delta_ms, 1), languages])
        self.next += 1

    def since(self, number: int) -> list[list[Any]]:
        missing = self.next - max(number, 0)
        return list(self._points)[-missing:] if missing > 0 else []


class Silence:
    """For how long a level has been silence."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def see(self, level_db: float | None, now_s: float) -> float:
        if level_db is None or level_db >= SILENT_DB:
            self._since_s = None
            return 0.0
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s

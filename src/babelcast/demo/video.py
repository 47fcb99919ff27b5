"""Are the pictures the same? Access units of two recordings compared by digest, and aligned in time by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from babelcast.demo.recording import Unit

_LOOK_AHEAD = 300
"""How many access units may be missing before the next one is taken to be altered instead."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of what lies between the first and the last access unit that both recordings hold.

    ``pairs`` are indices (original, dubbed) of equal ones. ``missing`` counts what the dubbed one lacks,
    ``altered`` what it has in another form or has added. ``first_mismatch`` is an index into the dubbed one.
    ``jitter_ms`` is the largest deviation of a picture's time difference from the median one.
    """

    pairs: tuple[tuple[int, int], ...]
    missing: int
    altered: int
    first_mismatch: int | None
    jitter_ms: float

    @property
    def identical(self) -> bool:
        return bool(self.pairs) and not self.missing and not self.altered

    @property
    def compared(self) -> int:
        return len(self.pairs) + self.altered


@dataclass(frozen=True, slots=True)
class TimeMap:
    """From the original's clock to the dubbed one's, by the pictures that both show. Seconds."""

    source_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    target_s: np.ndarray[tuple[int], np.dtype[np.float64]]

    def __call__(self, source_s: float) -> float:
        """Beyond the first and last common picture the nearest one's difference holds."""
        clamped = min(max(source_s, float(self.source_s[0])), float(self.source_s[-1]))
        return float(np.interp(clamped, self.source_s, self.target_s)) + source_s - clamped


def compare(original: tuple[Unit, ...], dubbed: tuple[Unit, ...]) -> Comparison:
    """Walk both lists from the first common access unit to the last."""
    i, j, end = _common_span(original, dubbed)
    pairs: list[tuple[int, int]] = []
    missing = altered = 0
    first: int | None = None
    while i < len(original) and j < end:
        if original[i].digest == dubbed[j].digest:
            pairs.append((i, j))
            i, j = i + 1, j + 1
            continue
        first = j if first is None else first
        later = [unit.digest for unit in original[i + 1 : i + _LOOK_AHEAD]]
        if dubbed[j].digest in later:
            skipped = later.index(dubbed[j].digest) + 1
            missing += skipped
            i += skipped
        elif j + 1 < end and dubbed[j + 1].digest == original[i].digest:
            altered, j = altered + 1, j + 1  # one was put in between
        else:
            altered, i, j = altered + 1, i + 1, j + 1
    return Comparison(tuple(pairs), missing, altered, first, _jitter(original, dubbed, pairs))


def time_map(original: tuple[Unit, ...], dubbed: tuple[Unit, ...], comparison: Comparison) -> TimeMap | None:
    """None without a common picture."""
    if not comparison.pairs:
        return None
    times = sorted((original[i].pts_ms / 1_000, dubbed[j].pts_ms / 1_000) for i, j in comparison.pairs)
    return TimeMap(np.array([a for a, _ in times]), np.array([b for _, b in times]))


def _common_span(original: tuple[Unit, ...], dubbed: tuple[Unit, ...]) -> tuple[int, int, int]:
    """First index in each and one past the last in ``dubbed``, by digests that occur once: repeats are no landmark."""
    counts = Counter(unit.digest for unit in original)
    places = {unit.digest: index for index, unit in enumerate(original) if counts[unit.digest] == 1}
    hits = [index for index, unit in enumerate(dubbed) if unit.digest in places]
    if not hits:
        return 0, 0, 0
    i, j = places[dubbed[hits[0]].digest], hits[0]
    while i > 0 and j > 0 and original[i - 1].digest == dubbed[j - 1].digest:
        i, j = i - 1, j - 1
    # what lies before the first landmark in both was recorded by both, so it counts
    back = min(i, j)
    return i - back, j - back, _common_end(original, dubbed, places[dubbed[hits[-1]].digest], hits[-1])


def _common_end(original: tuple[Unit, ...], dubbed: tuple[Unit, ...], i: int, j: int) -> int:
    return j + min(len(original) - i, len(dubbed) - j)


def _jitter(original: tuple[Unit, ...], dubbed: tuple[Unit, ...], pairs: list[tuple[int, int]]) -> float:
    if not pairs:
        return 0.0
    deltas = np.array([dubbed[j].pts_ms - original[i].pts_ms for i, j in pairs], dtype=np.float64)
    return float(np.max(np.abs(deltas - np.median(deltas))))

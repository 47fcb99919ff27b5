"""WebVTT captions from the segment journal: what was said, and what is said instead, when it is heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LINE = 42
"""Characters a line, as subtitlers have it; two lines at most look well."""
_LEAST_S = 0.7


@dataclass(frozen=True, slots=True)
class Cue:
    """Seconds of the video that the captions belong to."""

    start_s: float
    end_s: float
    text: str


def vtt(cues: Sequence[Cue]) -> str:
    """The WebVTT file. Cues are put in order, never overlap, and last 0.7 s at least where the next one allows."""
    lines = ["WEBVTT", ""]
    ordered = sorted((cue for cue in cues if cue.text.strip() and cue.end_s > 0), key=lambda cue: cue.start_s)
    for index, cue in enumerate(ordered):
        start = max(0.0, cue.start_s)
        end = max(cue.end_s, start + _LEAST_S)
        if index + 1 < len(ordered):
            end = min(end, max(start + 0.05, ordered[index + 1].start_s))
        lines += [f"{_stamp(start)} --> {_stamp(end)}", *_wrapped(cue.text), ""]
    return "\n".join(lines)


def write_vtt(path: Path, cues: Sequence[Cue]) -> None:
    path.write_text(vtt(cues), "utf-8")


def _stamp(seconds: float) -> str:
    ms = round(seconds * 1_000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1_000 % 60:02}.{ms % 1_000:03}"


def _wrapped(text: str) -> list[str]:
    """One line or two of about the same length; ``-->`` and markup made harmless."""
    clean = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(clean) <= _LINE:
        return [clean]
    words = clean.split(" ")
    cut = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - len(clean) / 2), default=0)
    return [" ".join(words[:cut]), " ".join(words[cut:])] if cut else [clean]

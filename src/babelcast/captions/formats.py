"""Cues as files: WebVTT, SubRip, and a transcript with both languages. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from babelcast.captions.cues import Broadcast, Cue, air_s, tidy
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S

_LINE = 42
"""Characters a line, as subtitlers have it; two lines at most look well."""


def vtt(cues: Sequence[Cue], *, zero_unix_s: float | None = None) -> str:
    """The WebVTT file. Cues are put in order, never overlap, and last 0.7 s at least where the next one allows."""
    lines = ["WEBVTT", ""]
    if zero_unix_s is not None:
        lines += [f"NOTE 00:00:00.000 was on air at {iso(zero_unix_s)}", ""]
    for cue in tidy(cues):
        text = [_escaped(line) for line in wrapped(cue.text)]
        lines += [f"{_stamp(cue.start_s, '.')} --> {_stamp(cue.end_s, '.')}", *text, ""]
    return "\n".join(lines)


def srt(cues: Sequence[Cue]) -> str:
    """The SubRip file. It has no escapes: what a player would take for markup or timing is spelt otherwise."""
    blocks = []
    for number, cue in enumerate(tidy(cues), 1):
        text = "\n".join(wrapped(cue.text.replace("<", "‹").replace(">", "›")))
        blocks.append(f"{number}\n{_stamp(cue.start_s, ',')} --> {_stamp(cue.end_s, ',')}\n{text}\n")
    return "\n".join(blocks)


def transcript(stream_id: str, broadcast: Broadcast) -> dict[str, Any]:
    """Every segment in both languages. ``start_s`` and ``end_s``: what was said, at its pictures; ``dub_start_s`` and
    ``dub_end_s``: the dub as heard, null where it was dropped. Seconds of the broadcast's clock."""
    zero = broadcast.zero_unix_s
    return {
        "stream_id": stream_id,
        "began_at": None if zero is None else iso(zero),
        "source_language": broadcast.source_language or None,
        "target_languages": list(broadcast.languages),
        "segments": [
            _segment(broadcast, language, entry)
            for language, entry in sorted(
                ((language, entry) for language, entries in broadcast.entries.items() for entry in entries),
                key=lambda pair: air_s(pair[1]),
            )
        ],
    }


def _segment(broadcast: Broadcast, language: str, entry: SegmentEntry) -> dict[str, Any]:
    zero = broadcast.zero_unix_s or 0.0
    start_s = air_s(entry) - zero
    dub_s = None if entry.placed_ns is None else start_s + (entry.placed_ns - entry.source_start_ns) / NS_PER_S
    return {
        "segment_id": entry.segment_id,
        "language": language,
        "start_s": round(start_s, 3),
        "end_s": round(start_s + (entry.source_end_ns - entry.source_start_ns) / NS_PER_S, 3),
        "dub_start_s": None if dub_s is None else round(dub_s, 3),
        "dub_end_s": None if dub_s is None else round(dub_s + entry.duration_ns / NS_PER_S, 3),
        "transcript": entry.transcript,
        "translation": entry.translation,
        "voice": entry.voice,
    }


def to_json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1)


def iso(unix_s: float) -> str:
    """UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wrapped(text: str, width: int = _LINE) -> list[str]:
    """One line or two of about the same length."""
    clean = " ".join(text.split())
    if len(clean) <= width:
        return [clean]
    words = clean.split(" ")
    cut = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - len(clean) / 2), default=0)
    return [" ".join(words[:cut]), " ".join(words[cut:])] if cut else [clean]


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(seconds: float, point: str) -> str:
    ms = round(seconds * 1_000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1_000 % 60:02}{point}{ms % 1_000:03}"

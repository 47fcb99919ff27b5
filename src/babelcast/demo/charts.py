"""The report's drawings: plain SVG, made here, readable without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from babelcast.demo.recording import Sound
from babelcast.demo.result import SegmentRow, SentenceRow, SyncRow
from babelcast.demo.sound import LevelCurve
from babelcast.units import RATE

WIDTH = 1_120
_LEFT, _RIGHT = 64, 12
_WAVE_BINS = 900


@dataclass(frozen=True, slots=True)
class Axis:
    """Seconds across the drawing."""

    seconds: float

    def x(self, at_s: float) -> float:
        inner = WIDTH - _LEFT - _RIGHT
        return round(_LEFT + inner * min(max(at_s / self.seconds, 0.0), 1.0), 1)

    def ticks(self) -> list[float]:
        step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if self.seconds / s <= 13), 1_200)
        return [float(at) for at in range(0, int(self.seconds) + 1, step)]


def timeline(axis: Axis, sentences: Sequence[SentenceRow], segments: Sequence[SegmentRow]) -> str:
    """Source above, dub below, and a thread from each source span to where it is heard."""
    source_y, dub_y, height = 26, 118, 34
    parts = [_grid(axis, 8, 160)]
    parts += [_label(source_y + height / 2, "Source"), _label(dub_y + height / 2, "Dub")]
    shown = [
        (row.start_s, row.end_s, row.text, "source" if row.dubbed else "undubbed")
        for row in sentences
        if not row.before_start
    ]
    if not shown:
        shown = [(row.source_start_s, row.source_end_s, row.transcript, "source") for row in segments]
    first = 1 + sum(row.before_start for row in sentences)
    for index, (start, end, text, kind) in enumerate(shown, first):
        title = f"{index}. {text} ({start:.1f}–{end:.1f} s{'' if kind == 'source' else ', not dubbed'})"
        parts.append(_bar(axis, start, end, source_y, height, kind, title, str(index)))
    for row in segments:
        at = row.found_s if row.found_s is not None else row.placed_s
        if at is None or at + row.duration_s <= 0:
            continue
        kind = "dub" if row.found_s is not None else "unfound"
        title = f"{row.sequence + 1}. {row.translation} ({at:.1f}–{at + row.duration_s:.1f} s, {row.transcript})"
        x1, x2 = axis.x(row.source_start_s), axis.x(at)
        parts.append(
            f'<path class="thread" d="M{x1} {source_y + height}C{x1} {source_y + height + 32} {x2} {dub_y - 32} '
            f'{x2} {dub_y}"/>'
        )
        parts.append(_bar(axis, at, at + row.duration_s, dub_y, height, kind, title, str(row.sequence + 1)))
    return _svg(184, "Source sentences above, dubbed segments below, on one time axis", parts)


def lag(axis: Axis, segments: Sequence[SegmentRow]) -> str:
    """Dub lag and dub offset of each segment, against the limits of P50."""
    lags = [(row.source_start_s, row.lag_s, row) for row in segments]
    offsets = [(row.source_start_s, row.offset_s, row) for row in segments if row.offset_s is not None]
    top = max([6.5, *(value + 0.5 for _, value, _ in lags)])
    scale = _Scale(0.0, top, 12, 190)
    low = min([0.0, *(value for _, value, _ in offsets)])
    if low < -0.05:
        scale = _Scale(low - 0.2, top, 12, 190)
    parts = [_grid(axis, 12, 190), _values(scale, [0, 2, 4, 6], "s")]
    parts.append(_limit(scale, 4.0, "lag P50 limit"))
    for name, points in (("lag", lags), ("offset", offsets)):
        path = " ".join(f"{axis.x(at)},{scale.y(value)}" for at, value, _ in points)
        parts.append(f'<polyline class="line {name}" points="{path}"/>')
        for at, value, row in points:
            parts.append(
                f'<circle class="dot {name}" cx="{axis.x(at)}" cy="{scale.y(value)}" r="4.5">'
                f"<title>{row.sequence + 1}. {name} {value:.2f} s: {escape(row.translation)}</title></circle>"
            )
    return _svg(214, "Dub lag and dub offset of each segment over time", parts)


def waveforms(axis: Axis, original: Sound, original_shift_s: float, dubbed: Sound, dubbed_shift_s: float) -> str:
    """Peaks of both, one above the other. The shifts are added to the recordings' own times."""
    parts = [_grid(axis, 4, 176)]
    peaks = (_peaks(axis, original, original_shift_s), _peaks(axis, dubbed, dubbed_shift_s))
    loudest = max(0.05, *(max(each) for each in peaks))
    for middle, name, each, kind in ((46, "Original", peaks[0], "source"), (134, "Dubbed", peaks[1], "dub")):
        parts.append(_label(middle, name))
        parts.append(f'<path class="wave {kind}" d="{_outline(axis, each, middle, 40 / loudest)}"/>')
    return _svg(200, "Waveforms of the original and the dubbed sound", parts)


def levels(axis: Axis, original: dict[str, LevelCurve], dubbed: dict[str, LevelCurve]) -> str:
    """Loudness of the centre (speech) and the sides (music, crowd), original above, dubbed below."""
    parts = []
    for top, name, curves in ((8, "Original", original), (150, "Dubbed", dubbed)):
        scale = _Scale(-60.0, -10.0, top, top + 118)
        parts += [_grid(axis, top, top + 118, numbers=top > 8), _values(scale, [-60, -40, -20], "")]
        parts.append(f'<text class="name" x="{_LEFT + 8}" y="{top + 16}">{name}</text>')
        for kind, curve in curves.items():
            every = max(1, len(curve.times_s) // 1_100)
            points = " ".join(
                f"{axis.x(at)},{scale.y(value)}"
                for at, value in zip(curve.times_s[::every], curve.lufs[::every], strict=True)
                if 0 <= at <= axis.seconds
            )
            parts.append(f'<polyline class="line {kind}" points="{points}"/>')
    return _svg(292, "Level of speech and background over time, original and dubbed", parts)


def sync(axis: Axis, rows: Sequence[SyncRow]) -> str:
    """Each flash's offset; above the line the sound is early. The band is the limit."""
    reach = max([55.0, *(abs(row.offset_ms) + 8 for row in rows)])
    scale = _Scale(-reach, reach, 10, 150)
    band = f'<rect class="band" x="{_LEFT}" y="{scale.y(15)}" width="{WIDTH - _LEFT - _RIGHT}"'
    parts = [f'{band} height="{scale.y(-45) - scale.y(15):.1f}"/>', _grid(axis, 10, 150)]
    parts.append(_values(scale, [-45, 0, 15], "ms"))
    for row in rows:
        kind = "dot sync" if -45 <= row.offset_ms <= 15 else "dot bad"
        parts.append(
            f'<circle class="{kind}" cx="{axis.x(row.at_s)}" cy="{scale.y(row.offset_ms)}" r="4.5">'
            f"<title>{row.at_s:.1f} s: {row.offset_ms:+.1f} ms</title></circle>"
        )
    return _svg(174, "Sound against picture at each flash", parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top), 1)


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _grid(axis: Axis, top: float, bottom: float, numbers: bool = True) -> str:
    parts = []
    for at in axis.ticks():
        x = axis.x(at)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
        if numbers:
            parts.append(f'<text class="tick" x="{x}" y="{bottom + 18}" text-anchor="middle">{at:g} s</text>')
    return "".join(parts)


def _values(scale: _Scale, values: Sequence[float], unit: str) -> str:
    parts = []
    for value in values:
        y = scale.y(value)
        sign = f"{value:g}".replace("-", "−")
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 5}" text-anchor="end">{sign} {unit}</text>')
    return "".join(parts)


def _limit(scale: _Scale, value: float, name: str) -> str:
    y = scale.y(value)
    return (
        f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text class="tick" x="{_LEFT + 8}" y="{y - 6}">{escape(name)}</text>'
    )


def _label(y: float, text: str) -> str:
    return f'<text class="name" x="0" y="{y + 5}">{escape(text)}</text>'


def _bar(axis: Axis, start: float, end: float, y: float, height: float, kind: str, title: str, number: str) -> str:
    x, width = axis.x(start), max(2.0, axis.x(end) - axis.x(start))
    text = ""
    if width > 16:
        middle = x + width / 2
        text = f'<text class="number" x="{middle:.1f}" y="{y + height / 2 + 5}" text-anchor="middle">{number}</text>'
    return (
        f'<g class="{kind}"><title>{escape(title)}</title>'
        f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" rx="4"/>{text}</g>'
    )


def _peaks(axis: Axis, sound: Sound, shift_s: float) -> list[float]:
    """Largest magnitude in each bin of the axis, both channels together."""
    edges = np.linspace(0, axis.seconds, _WAVE_BINS + 1)
    first = np.round((edges - shift_s - sound.start_s) * RATE).astype(int)
    parts = (sound.pcm[max(0, begin) : max(0, end)] for begin, end in pairwise(first))
    return [float(np.max(np.abs(part))) if len(part) else 0.0 for part in parts]


def _outline(axis: Axis, peaks: Sequence[float], middle: float, gain: float) -> str:
    xs = [axis.x(axis.seconds * k / len(peaks)) for k in range(len(peaks))]
    points = [*zip(xs, peaks, strict=True)]
    upper = " ".join(f"{x},{middle - gain * peak:.1f}" for x, peak in points)
    lower = " ".join(f"{x},{middle + gain * peak:.1f}" for x, peak in reversed(points))
    return f"M{upper} L{lower}Z"

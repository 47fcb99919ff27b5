"""``report.html``: one file that shows what the demo found. No script, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from html import escape
from importlib import resources
from pathlib import Path

from babelcast.demo import charts
from babelcast.demo.gates import shown, shown_limit, summary
from babelcast.demo.result import Evidence, Gate, Report, SegmentRow, SentenceRow

_POSTER_S = 5.0
"""What the players show before they play: the picture at this time."""
_MARKS = {
    True: '<span class="mark good">✓ met</span>',
    False: '<span class="mark bad">✗ missed</span>',
    None: '<span class="mark unknown">– not measured</span>',
}


def write_report(path: Path, report: Report, evidence: Evidence, captions: Mapping[str, str]) -> None:
    """Write the page. The videos that it shows lie beside it (``original.mp4``, ``dubbed.mp4``); where they are
    missing the page still reads. ``captions``: language → WebVTT on the clock of ``dubbed.mp4``."""
    path.write_text(page(report, evidence, captions), "utf-8")


def page(report: Report, evidence: Evidence, captions: Mapping[str, str]) -> str:
    """The HTML of the report."""
    css = resources.files("babelcast.demo").joinpath("report.css").read_text("utf-8")
    axis = charts.Axis(max(1.0, report.output_seconds))
    to_axis = -evidence.origin_s
    wave = charts.waveforms(axis, evidence.original_sound, evidence.shift_s + to_axis, evidence.dubbed_sound, to_axis)
    sections = [
        _verdict(report),
        _videos(report, evidence, captions),
        _panel(
            "Source and dub",
            "Each sentence at the place of its pictures, and where its translation is heard in the published stream. "
            "The numbers are those of the tables below.",
            '<span class="key"><i class="s"></i>source</span><span class="key"><i class="d"></i>dub, heard</span>'
            '<span class="key"><i class="u"></i>not dubbed</span>'
            '<span class="key"><i class="f"></i>in the journal, not heard</span>',
            charts.timeline(axis, report.sentence_rows, report.segments),
        ),
        _panel(
            "Lag and offset",
            "Lag: from the beginning of a segment's source to the dub in the worker's hands. Offset: how much later "
            "than its pictures the dub begins for the viewer.",
            '<span class="key"><i class="d"></i>lag</span><span class="key"><i class="s"></i>offset</span>',
            charts.lag(axis, report.segments),
        ),
        _panel("Waveforms", "The same pictures, above as published, below as it arrived.", "", wave),
        _panel(
            "Speech and background",
            "Momentary loudness (LUFS) of what is in the centre, the speech, and of what is at the sides, music and "
            f"crowd. {_remains(report)}",
            '<span class="key"><i class="d"></i>centre</span><span class="key"><i class="s"></i>sides</span>',
            charts.levels(axis, evidence.levels_original, evidence.levels_dubbed),
        ),
        _panel(
            "Sound against picture",
            f"{report.av_pairs} of {report.av_flashes} flashes found with their ticks. Above the line the sound is "
            "early; the band is the limit (ATSC IS-191).",
            '<span class="key"><i class="g"></i>within the limit</span>',
            charts.sync(axis, report.av),
        )
        if report.av
        else "",
        _segments(report),
        _about(report),
    ]
    title = f"Babelcast demo: {report.source_language} → {report.target_language}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{css}</style></head><body><main>{''.join(sections)}</main></body></html>\n"
    )


def _verdict(report: Report) -> str:
    pictures = "pictures untouched" if report.video_identical else "pictures NOT shown to be untouched"
    headline = f"{report.output_seconds:.0f} s dubbed on air, {pictures}"
    figures = (
        (_number(report.dub_lag_p50_s, 1, " s"), "dub lag, P50"),
        (_number(report.dub_offset_p50_s, 2, " s"), "dub offset, P50"),
        (_percent(report.sentences_dubbed_ratio), "sentences dubbed"),
        (_number(report.av_offset_ms_median, 1, " ms"), "sound against picture"),
        (_number(report.silent_gap_max_s, 2, " s"), "longest silence"),
        (_number(report.fallback_seconds, 1, " s"), "on fallback"),
    )
    cards = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in figures)
    rows = "".join(_gate_row(gate) for gate in report.gates)
    return (
        f'<section class="verdict{"" if report.passed else " failed"}"><h1>{escape(headline)}</h1>'
        f'<p class="quiet">{summary(report.gates)}. {escape(report.source_language)} → '
        f"{escape(report.target_language)}, delay {report.delay_s:g} s, media server {escape(report.media_server)}, "
        f"backend {escape(report.backend)}.</p>"
        f'<div class="headline">{cards}</div><table><thead><tr><th>Figure</th><th class="n">Value</th>'
        f'<th class="n">Limit</th><th>Result</th></tr></thead><tbody>{rows}</tbody></table></section>'
    )


def _gate_row(gate: Gate) -> str:
    note = f' <span class="note">{escape(gate.note)}</span>' if gate.note else ""
    return (
        f'<tr><td>{escape(gate.title)}</td><td class="n">{escape(shown(gate))}</td>'
        f'<td class="n">{escape(shown_limit(gate))}</td><td>{_MARKS[gate.passed]}{note}</td></tr>'
    )


def _panel(title: str, text: str, keys: str, drawing: str) -> str:
    return (
        f'<section><h2>{escape(title)}</h2><p class="quiet">{escape(text)}</p>{keys}'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(title)}">{drawing}</div></section>'
    )


def _videos(report: Report, evidence: Evidence, captions: Mapping[str, str]) -> str:
    """Both recordings behind the same picture of each. The dubbed one's captions are inside the page: one opened from
    disk may not load a text track."""
    at = evidence.origin_s + min(_POSTER_S, report.output_seconds / 3)
    with ThreadPoolExecutor(2) as pool:
        times = ((evidence.original, at - evidence.shift_s), (evidence.dubbed, at))
        posters = list(pool.map(lambda one: still(*one), times))

    def player(name: str, caption: str, poster: bytes, texts: Mapping[str, str]) -> str:
        tracks = "".join(
            f'<track kind="captions" srclang="{escape(language)}" label="{escape(language)}" '
            f'src="data:text/vtt;base64,{base64.b64encode(text.encode()).decode()}"'
            f"{' default' if language == report.target_language else ''}>"
            for language, text in texts.items()
        )
        picture = f' poster="data:image/jpeg;base64,{base64.b64encode(poster).decode()}"' if poster else ""
        return (
            f'<figure><video controls preload="metadata" src="{name}"{picture}>{tracks}</video>'
            f'<figcaption>{caption}: <a href="{name}">{name}</a></figcaption></figure>'
        )

    files = [f"captions.{escape(language)}.vtt" for language in captions]
    links = ", ".join(f'<a href="{name}">{name}</a>' for name in files) or "none"
    compared = f"{report.video_compared} access units compared, {report.video_missing} missing"
    return (
        '<section><h2>Watch and hear</h2><p class="quiet">What was published, and what arrived at the third party: '
        f"{compared}, {report.video_altered} altered. Captions: {links}.</p>"
        f'<div class="pair">{player("original.mp4", "Original", posters[0], {})}'
        f"{player('dubbed.mp4', 'Dubbed', posters[1], captions)}</div></section>"
    )


def still(recording: Path, at_s: float) -> bytes:
    """The picture shown at ``at_s`` of the recording's clock, as JPEG; b"" when there is none."""
    chosen = f"select=gte(t\\,{at_s - 0.002:.3f}),scale=640:-2"
    command = ("ffmpeg", "-v", "error", "-threads", "2", "-copyts", "-i", str(recording), "-map", "0:v:0", "-an")
    output = ("-vf", chosen, "-frames:v", "1", "-q:v", "5", "-f", "image2pipe", "-c:v", "mjpeg", "-")
    return subprocess.run((*command, *output), stdin=subprocess.DEVNULL, capture_output=True).stdout


def _segments(report: Report) -> str:
    rows = "".join(_segment_row(row) for row in report.segments)
    head = "".join(
        f"<th{kind}>{name}</th>"
        for name, kind in (
            ("#", ' class="n"'),
            ("Said → heard", ""),
            ("Source", ' class="n"'),
            ("Dub", ' class="n"'),
            ("Lag", ' class="n"'),
            ("Offset", ' class="n"'),
            ("Tempo", ' class="n"'),
        )
    )
    undubbed = [
        f"{index}. {row.text}"
        for index, row in enumerate(report.sentence_rows, 1)
        if not (row.dubbed or row.before_start)
    ]
    missing = f'<p class="note">Not dubbed: {escape("; ".join(undubbed))}</p>' if undubbed else ""
    lines = "".join(
        f'<tr><td class="n">{index}</td><td>{escape(row.text)}</td>'
        f'<td class="n">{_number(row.start_s, 1)}–{_number(row.end_s, 1, " s")}</td><td>{_fate(row)}</td></tr>'
        for index, row in enumerate(report.sentence_rows, 1)
    )
    said = (
        f"<details><summary>The {len(report.sentence_rows)} sentences as they were said</summary><table><tbody>{lines}"
        "</tbody></table></details>"
        if lines
        else ""
    )
    return (
        f'<section><h2>Segments</h2><table class="segments"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{missing}{said}</section>"
    )


def _fate(row: SentenceRow) -> str:
    if row.before_start:
        return "before the output began"
    return "✓ dubbed" if row.dubbed else "✗ not dubbed"


def _segment_row(row: SegmentRow) -> str:
    heard = _where(row)
    offset = "–" if row.offset_s is None else f"{round(row.offset_s, 2) + 0.0:+.2f} s".replace("-", "−")
    cells = (
        ("source", _number(row.source_start_s, 1, " s")),
        ("dub", heard),
        ("lag", f"{row.lag_s:.1f} s"),
        ("offset", offset),
        ("tempo", f"{row.tempo:.2f}×"),
    )
    numbers = "".join(f'<td class="n" data-name="{name}">{value}</td>' for name, value in cells)
    return (
        f'<tr><td class="n">{row.sequence + 1}</td><td class="text">{escape(row.transcript)}<br>'
        f'<span class="es" lang="es">{escape(row.translation)}</span></td>{numbers}</tr>'
    )


def _where(row: SegmentRow) -> str:
    if row.found_s is not None:
        return f"{row.found_s:.1f} s"
    if row.placed_s is None:
        return "dropped"
    return "before the output" if row.placed_s < 0 else f"{row.placed_s:.1f} s (journal)"


def _remains(report: Report) -> str:
    if report.original_speech_left_db is None or report.background_kept_db is None:
        return ""
    left = "under −40 dB" if report.original_speech_left_db <= -40 else f"{report.original_speech_left_db:g} dB"
    kept = f"{report.background_kept_db:+.1f} dB"
    return f"Of the original speech {left} is left, the background is kept at {kept}.".replace("-", "−")


def _about(report: Report) -> str:
    rows = {**report.machine, **report.versions}
    rows["loudness"] = f"{_number(report.loudness_original_lufs, 1)} → {_number(report.loudness_dubbed_lufs, 1)} LUFS"
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    return (
        '<section><h2>How this was measured</h2><p class="quiet">On the two recordings, from outside: pictures by '
        "the digest of every access unit; sound against picture by the flashes and ticks in the clip; each dubbed "
        "phrase spoken again and found by cross-correlation. Lag and fallback are what the worker says of itself. "
        f'All figures: <a href="report.json">report.json</a>.</p><dl>{listed}</dl></section>'
    )


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}{unit}".replace("-", "−")


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * ratio:.0f} %"

"""The page: a table of players, figures and pictures. Plain HTML, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from figures import Loudness

KINDS = ("source", "background", "dub", "mix")


@dataclass(frozen=True)
class Row:
    """One separator on one programme. ``files``: kind → (sound, picture, its loudness), paths beside the page."""

    separator: str
    active: str
    si_sdr: float
    residual: float
    level_spoken: float
    level_quiet: float
    files: dict[str, tuple[str, str, Loudness]]


@dataclass(frozen=True)
class Section:
    title: str
    about: str
    untouched_si_sdr: float
    rows: list[Row] = field(default_factory=list)


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; max-width: 1500px; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 2rem; } th, td { padding: .3rem .6rem; vertical-align: top; }
th { text-align: left; border-bottom: 1px solid #999; } tr + tr td { border-top: 1px solid #ddd; }
audio { width: 260px; display: block; } img { width: 300px; display: block; margin: .2rem 0; }
small { color: #666; } .figures { white-space: nowrap; }
"""


def html(sections: Sequence[Section], notes: Sequence[str]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Babelcast: listening page</title>",
        f"<style>{_STYLE}</style><h1>Listening page</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
    ]
    for section in sections:
        parts.append(f"<h2>{escape(section.title)}</h2><p>{escape(section.about)}. ")
        parts.append(f"Untouched, the source is {section.untouched_si_sdr:+.1f} dB SI-SDR from its bed.</p><table>")
        parts.append("<tr><th>separation</th>" + "".join(f"<th>{kind}</th>" for kind in KINDS) + "</tr>")
        parts += [_row(row) for row in section.rows]
        parts.append("</table>")
    return "\n".join(parts) + "</html>\n"


def _row(row: Row) -> str:
    said = row.separator if row.separator == row.active else f"{row.separator} → {row.active}"
    figures = (
        f"<b>{escape(said)}</b><br><small>background<br>SI-SDR {row.si_sdr:+.1f} dB<br>"
        f"residual speech {row.residual:+.1f} dB<br>level while spoken {row.level_spoken:+.1f} dB<br>"
        f"level else {row.level_quiet:+.1f} dB</small>"
    )
    return f"<tr><td class=figures>{figures}</td>" + "".join(_cell(*row.files[kind]) for kind in KINDS) + "</tr>"


def _cell(sound: str, picture: str, level: Loudness) -> str:
    heard = "silent" if level.integrated is None else f"{level.integrated:.1f} LUFS"
    peak = "" if level.true_peak is None else f", {level.true_peak:.1f} dBTP"
    return (
        f"<td><audio controls preload=none src='{escape(sound)}'></audio>"
        f"<img src='{escape(picture)}' alt='spectrogram' loading=lazy><small>{heard}{peak}</small></td>"
    )


def markdown(sections: Sequence[Section]) -> str:
    """The figures alone."""
    lines = [
        "| programme | separation | SI-SDR of the background | residual speech | level spoken / else | mix |",
        "|---|---|---|---|---|---|",
    ]
    for section in sections:
        lines.append(f"| {section.title} | *untouched* | {section.untouched_si_sdr:+.1f} dB | 0 dB | | |")
        for row in section.rows:
            said = f"`{row.separator}`" + ("" if row.separator == row.active else f" → {row.active}")
            mix = row.files["mix"][2]
            level = f"{row.level_spoken:+.1f} / {row.level_quiet:+.1f} dB"
            loud = "silent" if mix.integrated is None else f"{mix.integrated:.1f} LUFS, {mix.true_peak:.1f} dBTP"
            lines.append(f"| | {said} | {row.si_sdr:+.1f} dB | {row.residual:+.1f} dB | {level} | {loud} |")
    return "\n".join(lines) + "\n"

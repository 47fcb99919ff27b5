"""The demo's progress in the terminal: a live panel, or a line every few seconds where there is no terminal.

Fed with what the REST API says (plain dicts, already free of secrets); draws nothing by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_SHOWN = 4
_LINE_EVERY_S = 5.0
_OVER = "all is published, the rest is on its way"


class Progress:
    """``with Progress(console, seconds) as progress: progress.update(…)``. Not thread-safe."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._live = (
            Live(console=console, refresh_per_second=4, transient=True)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )
        self._latest: deque[Mapping[str, Any]] = deque(maxlen=_SHOWN)
        self._count = 0
        self._last_line_s = float("-inf")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(
        self, elapsed_s: float, status: Mapping[str, Any] | None, segments: Sequence[Mapping[str, Any]], received: int
    ) -> None:
        """``status``: the WorkerStatus as JSON, None while there is none. ``segments``: new journal entries, each
        once. ``received``: bytes at the third party."""
        self._latest.extend(segments)
        self._count += len(segments)
        if self._live is not None:
            self._live.update(self._panel(elapsed_s, status or {}, received))
            return
        for segment in segments:
            self._console.print(Text(_spoken(segment)), soft_wrap=True)
        if elapsed_s - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = elapsed_s
            self._console.print(Text(self._line(elapsed_s, status or {}, received)), soft_wrap=True)

    def _line(self, elapsed_s: float, status: Mapping[str, Any], received: int) -> str:
        over = elapsed_s > self._seconds
        parts = [f"{name} {value}" for name, value in _facts(status, over=over).items()]
        parts += [_OVER] if over else []
        parts.append(f"{self._count} segments")
        parts.append(f"third party {received / 1e6:.1f} MB")
        return f"{elapsed_s:5.1f} s  {', '.join(parts)}"

    def _panel(self, elapsed_s: float, status: Mapping[str, Any], received: int) -> Panel:
        over = elapsed_s > self._seconds
        facts = {
            **_facts(status, over=over),
            "segments": str(self._count),
            "third party": f"{received / 1e6:.1f} MB",
        }
        grid = Table.grid(padding=(0, 3))
        for _ in range(3):
            grid.add_column()
        cells = [f"[dim]{name}[/dim] {escape(value)}" for name, value in facts.items()]
        for first in range(0, len(cells), 3):
            grid.add_row(*cells[first : first + 3])
        spoken = Table.grid(padding=(0, 1))
        spoken.add_column(justify="right", style="dim", no_wrap=True)
        spoken.add_column(overflow="fold")
        for segment in self._latest:
            spoken.add_row("said", Text(str(segment.get("transcript", ""))))
            spoken.add_row(
                str(segment.get("language", "")).upper(),
                Text(f"{segment.get('translation', '')}  {_seconds(segment.get('dub_lag_s'))}", style="bold"),
            )
        bar = ProgressBar(
            total=self._seconds,
            completed=min(elapsed_s, self._seconds),
            width=56,
            complete_style="cyan",
            finished_style="green",
        )
        head = Text(f"{min(elapsed_s, self._seconds):5.1f} / {self._seconds:.0f} s  {_OVER if over else ''}")
        return Panel(Group(head, bar, Text(), grid, Text(), spoken), title="Babelcast on air", width=96)


def _facts(status: Mapping[str, Any], *, over: bool) -> dict[str, str]:
    """What an onlooker wants to know, in order; nothing that is not known.

    ``over``: all of the clip was published. That the worker then finds no source any more is no news.
    """
    if not status:
        return {"worker": "starting"}
    targets = status.get("targets") or [{}]
    target: Mapping[str, Any] = targets[0]
    fallback = target.get("fallback")
    facts = {
        "worker": str(status.get("state", "?")) if not over else "done",
        "output": str(target.get("output_state", "?")),
        "delay": _seconds(status.get("delay_s")),
        "dub lag": _seconds(target.get("dub_lag_s")),
        "offset": _seconds(target.get("dub_offset_s")),
        "sync": f"{float(status.get('av_sync_delta_ms') or 0):+.1f} ms".replace("-", "−"),
        "fallback": f"{_seconds(target.get('fallback_seconds'))}" + (f", {fallback} now" if fallback else ""),
    }
    error = target.get("last_error") or status.get("last_error")
    if error and not over:
        facts["last error"] = str(error)
    return facts


def _spoken(segment: Mapping[str, Any]) -> str:
    return f"         “{segment.get('transcript', '')}” → “{segment.get('translation', '')}”"


def _seconds(value: object) -> str:
    return f"{value:.1f} s".replace("-", "−") if isinstance(value, int | float) else "–"

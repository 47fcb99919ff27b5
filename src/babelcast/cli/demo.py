"""``babelcast demo``: a made live stream, dubbed end to end, measured from outside."""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic import SecretStr
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from babelcast.app import Launch, running
from babelcast.cli.options import log_format_option, quiet_log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.config import Config, Destination, Listen, MediaServerChoice, StreamConfig, StreamSettings
from babelcast.demo.clip import cached_clip
from babelcast.demo.gates import shown, shown_limit, summary
from babelcast.demo.media import check_input
from babelcast.demo.result import Report
from babelcast.demo.run import DemoOptions, ThirdParty, run_demo, third_party
from babelcast.spec import MAX_DELAY_S, MIN_DELAY_S, BackendKind
from babelcast.telemetry.logs import LogFormat, setup_logging

STREAM_ID = "demo"


@dataclass(frozen=True, slots=True)
class _Choices:
    seconds: float
    input: Path | None
    report: Path
    backend: BackendKind
    delay: float
    media_server: MediaServerChoice


@click.command("demo")
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(10, 3600), help="Length of the made clip."
)
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Publish this file (H.264 and AAC, English speech) instead of the made clip.",
)
@click.option(
    "--report",
    "report_dir",
    default=Path("demo-report"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report and the recordings.",
)
@click.option(
    "--backend", type=click.Choice(["sts", "tone", "none"]), default="sts", show_default=True, help="Who speaks."
)
@click.option(
    "--delay",
    default=6.0,
    show_default=True,
    type=click.FloatRange(MIN_DELAY_S, MAX_DELAY_S),
    help="Fixed delay in seconds.",
)
@click.option(
    "--media-server",
    type=click.Choice(["auto", "mediamtx", "relay"]),
    default="auto",
    show_default=True,
    help="auto: MediaMTX where it is here or can be had, else the embedded relay.",
)
@quiet_log_level_option
@log_format_option
@click.option("--strict", is_flag=True, help="End with status 3 when a figure is beyond its limit.")
def command(
    seconds: float,
    input_file: Path | None,
    report_dir: Path,
    backend: BackendKind,
    delay: float,
    media_server: MediaServerChoice,
    log_level: str,
    log_format: LogFormat,
    strict: bool,
) -> None:
    """Dub a real live stream end to end, and prove it.

    Makes a broadcast (two commentators over music and crowd), publishes it in real time, dubs it while it runs,
    receives the result on a second RTMP server, and measures both recordings from outside.
    """
    setup_logging(log_format, log_level)
    choices = _Choices(seconds, input_file, report_dir, backend, delay, media_server)
    console = Console(highlight=False)
    report = run_until_signalled(_demo(choices, console))
    if report is None:
        click.echo("babelcast: stopped; there is no report", err=True)
        sys.exit(130)
    print_verdict(report, report_dir, console)
    sys.exit(3 if strict and not report.passed else 0)


def print_verdict(report: Report, folder: Path, console: Console) -> None:
    """Every gate in a line, then where to look."""
    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]–[/]"}
    table = Table("", "", Column("", justify="right"), "limit", box=None, header_style="dim", pad_edge=False)
    for gate in report.gates:
        note = f" ({gate.note})" if gate.note else ""
        table.add_row(marks[gate.passed], gate.title, shown(gate), Text(f"{shown_limit(gate)}{note}", style="dim"))
    console.print(table)
    console.print(f"{'passed' if report.passed else 'NOT passed'}: {summary(report.gates)}", style="bold")
    page = folder / "report.html"
    console.print(Text.assemble("watch and hear both: ", (str(page), f"link {page.resolve().as_uri()}")))


async def _demo(choices: _Choices, console: Console) -> Report:
    clip, seconds = choices.input, choices.seconds
    if clip is not None:
        seconds = await check_input(clip) or seconds
    choices.report.mkdir(parents=True, exist_ok=True)  # said now where it can't be, and not when all is over
    if clip is None:
        console.print(f"making the clip, {seconds:.0f} s of a football broadcast in English (once, then it is kept)")
        clip = await asyncio.to_thread(cached_clip, seconds)
    with tempfile.TemporaryDirectory(prefix="babelcast-demo-") as folder:
        async with third_party() as platform:
            state = Path(folder)
            launch = Launch(state / "state", journal_dir=state / "journal")
            say = functools.partial(console.print, soft_wrap=True, markup=False)
            async with running(_config(choices, platform), launch, say) as app:
                say(f"on air: {app.publish_url(STREAM_ID)} → {platform.url}")
                say(f"the operator's page, while it runs: {app.api_url}/")
                return await run_demo(app, _options(choices, clip, seconds, platform, launch, console))


def _config(choices: _Choices, platform: ThirdParty) -> Config:
    """Free ports throughout, so that the demo runs beside anything else."""
    destination = Destination(name="platform", url=platform.url, key=SecretStr(platform.key))
    stream = StreamConfig(backend=choices.backend, delay=choices.delay, destinations=(destination,))
    listen = Listen(host="127.0.0.1", rtmp=0, rtsp=0, srt=None, webrtc=None, api=0)
    return Config(
        media_server=choices.media_server,
        listen=listen,
        defaults=StreamSettings(backend=choices.backend),
        streams={STREAM_ID: stream},
    )


def _options(
    choices: _Choices, clip: Path, seconds: float, platform: ThirdParty, launch: Launch, console: Console
) -> DemoOptions:
    assert launch.journal_dir is not None
    return DemoOptions(
        clip=clip,
        folder=choices.report,
        stream_id=STREAM_ID,
        third_party=platform,
        journal=launch.journal_dir / STREAM_ID / "segments.es.jsonl",
        seconds=seconds,
        delay_s=choices.delay,
        backend=choices.backend,
        console=console,
    )

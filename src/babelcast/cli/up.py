"""``babelcast up``: everything on one machine."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from babelcast.app import App, Launch, running
from babelcast.cli.options import config_option, default_state_dir, log_format_option, log_level_option
from babelcast.cli.running import run_until_signalled
from babelcast.config import Config
from babelcast.config_file import load_config
from babelcast.telemetry.logs import LogFormat, setup_logging


@click.command("up")
@config_option
@log_format_option
@log_level_option
def command(config_file: Path | None, log_format: LogFormat, log_level: str) -> None:
    """Run everything on this machine: media server, speech service, orchestrator.

    Prints one line that begins with "ready" when publishers may come. Ctrl-C ends all of it, and so does closing the
    terminal; for a show that must outlast it, use tmux, nohup or a service manager.
    """
    setup_logging(log_format, log_level)
    click.echo(f"config file: {config_file or 'none, all settings have their defaults'}")
    config = load_config(config_file) if config_file else Config()
    launch = Launch(config.state_dir or default_state_dir(), log_format)
    run_until_signalled(_up(config, launch))


async def _up(config: Config, launch: Launch) -> None:
    async with running(config, launch, click.echo) as app:
        click.echo(ready_line(config, app))
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(OSError):  # the terminal may be gone
                click.echo("ending")


def ready_line(config: Config, app: App) -> str:
    """Where to publish, to watch, to read the API and to run the show, for the streams of the file or for any."""
    stream_id = next(iter(config.streams), "my-show")
    languages = config.stream(stream_id).target_languages
    watch = [app.watch_url(stream_id, language) for language in languages] if len(languages) > 1 else None
    return (
        f"ready: publish to {app.publish_url(stream_id)} · watch {' '.join(watch or [app.watch_url(stream_id)])} "
        f"· API {app.api_url}/docs · open {app.api_url}/" + ("" if config.streams else " (any name for my-show)")
    )

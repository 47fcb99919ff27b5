"""``babelcast sts``: the speech service."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

from babelcast.sts.device import Compute, Device
from babelcast.telemetry.logs import LogFormat, setup_logging


@click.command("sts")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option(
    "--engine",
    "engine_name",
    default="offline",
    show_default=True,
    type=click.Choice(["offline", "tone"]),
    help="offline: pocketsphinx, apertium, espeak-ng, or what --asr, --mt and --tts name. tone: a mock that answers "
    "with tones.",
)
@click.option("--asr", default="pocketsphinx", show_default=True, help="Recognition, for example faster-whisper:small.")
@click.option(
    "--mt",
    multiple=True,
    default=("apertium",),
    show_default=True,
    help="Translation, for example ctranslate2:opus-mt-en-es. Several are tried in order.",
)
@click.option(
    "--tts",
    multiple=True,
    default=("espeak-ng",),
    show_default=True,
    help="Voices, for example sherpa:vits-piper-es_ES-davefx-medium. Several are tried in order.",
)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--compute-type", default="auto", show_default=True, help="int8, float16, … of the neural engines.")
@click.option("--threads", default=0, type=click.IntRange(0, 256), help="CPU threads of one model; 0: the library's.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Clauses at once per engine.")
@click.option(
    "--glossary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file of names and terms to understand and to keep.",
)
@click.option("--token", envvar="BABELCAST_STS_TOKEN", help="Bearer token that clients must show.", show_envvar=True)
@click.option("--max-sessions", default=4, show_default=True, type=click.IntRange(1, 256))
@click.option("--log-format", default="text", show_default=True, type=click.Choice(["json", "text"]))
def command(
    host: str,
    port: int,
    engine_name: str,
    asr: str,
    mt: tuple[str, ...],
    tts: tuple[str, ...],
    device: Device,
    compute_type: str,
    threads: int,
    workers: int,
    glossary: Path | None,
    token: str | None,
    max_sessions: int,
    log_format: LogFormat,
) -> None:
    """The speech service: speech in one language in, speech in another out.

    Models come by `babelcast models pull`; `babelcast models list` names them.
    """
    from babelcast.sts.engine import Engine
    from babelcast.sts.serve import serve
    from babelcast.sts.service import Limits, Service

    setup_logging(log_format)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    engine: Engine
    if engine_name == "tone":
        from babelcast.sts.tone import ToneEngine

        engine = ToneEngine()
    else:
        from babelcast.sts.engines import EngineSettings, build
        from babelcast.sts.glossary import load_glossary

        terms = load_glossary(glossary) if glossary else ()
        compute = Compute(device, compute_type, threads)
        engine = build(EngineSettings(asr, mt, tts, compute, workers=workers, terms=terms))

    async def run() -> None:
        service = Service(engine, Limits(sessions=max_sessions), token or None)
        await serve(service, host, port, lambda url: click.echo(f"sts ready at {url} (engine: {engine_name})"))

    asyncio.run(run())

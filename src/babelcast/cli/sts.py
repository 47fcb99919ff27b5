"""``babelcast sts``: the speech service."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import click

from babelcast.cli.sts_ray import ray_options, serve_on_ray
from babelcast.hosts import LOOPBACK
from babelcast.sts.device import Compute, Device
from babelcast.telemetry.logs import LogFormat, setup_logging

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("sts")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8070, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
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
@click.option(
    "--batch",
    type=click.IntRange(1, 256),
    help="Clauses of several sessions that a neural engine takes as one batch; 1 joins none. Default: 8, but "
    "recognition on a CPU one by one.",
)
@click.option(
    "--batch-wait",
    "batch_wait_ms",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0, 1_000),
    help="Milliseconds that a clause waits for others to be batched with.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Batches at once per engine.")
@click.option(
    "--glossary",
    type=_FILE,
    help="YAML file of names and terms to understand and to keep.",
)
@click.option("--token", envvar="BABELCAST_STS_TOKEN", help="Bearer token that clients must show.", show_envvar=True)
@click.option(
    "--tokens",
    type=_FILE,
    help="YAML file of named tokens with their limits; see the how-to of the speech service.",
)
@click.option("--max-sessions", default=4, show_default=True, type=click.IntRange(1, 256))
@click.option(
    "--capacity",
    type=click.FloatRange(min=0.1),
    help="Seconds of work done in a second, for admission. Default: the cores of this machine.",
)
@click.option(
    "--idle",
    "idle_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=1.0),
    help="Seconds after which a session is ended from which nothing comes, neither sound nor keep_alive.",
)
@click.option("--max-session-hours", type=click.FloatRange(min=0.01), help="Longer sessions are asked to reconnect.")
@click.option(
    "--drain",
    "drain_s",
    default=25.0,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds that open sessions have to move elsewhere after SIGTERM.",
)
@click.option("--tls-cert", type=_FILE, help="PEM file with the certificate and its chain.")
@click.option("--tls-key", type=_FILE, help="PEM file with its private key.")
@ray_options
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
    batch: int | None,
    batch_wait_ms: float,
    workers: int,
    glossary: Path | None,
    token: str | None,
    tokens: Path | None,
    max_sessions: int,
    capacity: float | None,
    idle_s: float,
    max_session_hours: float | None,
    drain_s: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    log_format: LogFormat,
    use_ray: bool,
    **on_ray: Any,
) -> None:
    """The speech service: speech in one language in, speech in another out.

    Models come by `babelcast models pull`; `babelcast models list` names them.

    With --ray the same service runs in replicas on a cluster: see docs/howto/speech-service.md.

    From the environment alone: BABELCAST_STS_ADMIN_TOKEN (who may drain the service; without it, callers on this
    machine) and BABELCAST_STS_RESUME_KEY (replicas that share it take over each other's sessions).
    """
    from babelcast.sts.auth import load_tokens
    from babelcast.sts.batching import BatchSettings
    from babelcast.sts.engines import EngineSettings, engine_of
    from babelcast.sts.glossary import load_glossary
    from babelcast.sts.resume import Resumption
    from babelcast.sts.serve import Tls, serve
    from babelcast.sts.service import Limits, Service

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    tls = Tls(tls_cert, tls_key) if tls_cert and tls_key else None
    if not use_ray and any(on_ray[name] for name in ("ray_address", "detach", "remove")):
        raise click.UsageError("--ray-address, --detach and --remove go with --ray")
    setup_logging(log_format)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    terms = load_glossary(glossary) if glossary else ()
    compute = Compute(device, compute_type, threads)
    batches = BatchSettings(batch or BatchSettings().size, batch_wait_ms / 1e3, workers)
    settings = EngineSettings(asr, mt, tts, compute, batch=batches, asr_batch=batch, terms=terms)
    session_s = max_session_hours * 3600 if max_session_hours else None
    if host not in LOOPBACK and not token and tokens is None and not on_ray["remove"]:
        click.echo(
            f"warning: no token is set, so whoever reaches {host}:{port} may use the service "
            "(BABELCAST_STS_TOKEN, or --tokens FILE)",
            err=True,
        )
    limits = Limits(sessions=max_sessions, capacity=capacity, idle_s=idle_s, session_s=session_s)
    if use_ray:
        serve_on_ray(
            engine_name,
            settings,
            limits,
            host=host,
            port=port,
            token=token,
            tokens=tokens,
            drain_s=drain_s,
            tls=(tls.cert, tls.key) if tls else None,
            log_format=log_format,
            **on_ray,
        )
        return
    engine = engine_of(engine_name, settings)
    clients = load_tokens(tokens) if tokens else None

    async def run() -> None:
        service = Service(
            engine,
            limits,
            token or None,
            clients=clients,
            resumption=Resumption(os.environ.get("BABELCAST_STS_RESUME_KEY") or None),
            admin_token=os.environ.get("BABELCAST_STS_ADMIN_TOKEN") or None,
        )
        ready = f"(engine: {engine_name})"
        await serve(
            service, host, port, lambda url: click.echo(f"sts ready at {url} {ready}"), tls=tls, drain_s=drain_s
        )

    asyncio.run(run())

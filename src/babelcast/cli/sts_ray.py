"""Options of ``babelcast sts --ray``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from babelcast.sts.engines import EngineSettings
from babelcast.sts.service import Limits
from babelcast.telemetry.logs import LogFormat

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--ray", "use_ray", is_flag=True, help="Serve from replicas on Ray Serve; needs the extra `ray`."),
    click.option(
        "--ray-address",
        help="With --ray: HOST:PORT of a cluster that this machine is part of, or auto. Without it, one is started on "
        "this machine alone.",
    ),
    click.option(
        "--replicas",
        default="1",
        show_default=True,
        help="With --ray: how many, or LEAST:MOST to scale with the sessions. The other limits are each replica's.",
    ),
    click.option(
        "--cpus-per-replica", default=1.0, show_default=True, type=click.FloatRange(0.01, 1_024), help="With --ray."
    ),
    click.option(
        "--gpus-per-replica",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0, 64),
        help="With --ray: a share, for example 0.25, puts four replicas on one card.",
    ),
    click.option(
        "--ray-proxies",
        default="every-node",
        show_default=True,
        type=click.Choice(["head", "every-node"]),
        help="With --ray: which nodes listen on --host and --port.",
    ),
    click.option(
        "--scale-down-after",
        default=300.0,
        show_default=True,
        type=click.FloatRange(1, 86_400),
        help="With --ray: seconds for which fewer replicas must do before one is drained.",
    ),
    click.option("--ray-app", default="babelcast-sts", show_default=True, help="With --ray: name of the deployment."),
    click.option(
        "--detach",
        is_flag=True,
        help="With --ray: leave it running; the same again puts a new one in its place.",
    ),
    click.option("--remove", is_flag=True, help="With --ray: drain and remove what --detach left running."),
)


def ray_options(command: F) -> F:
    """All of them; the command gets them as keywords and hands them to :func:`serve_on_ray`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def serve_on_ray(
    engine: str,
    engines: EngineSettings,
    limits: Limits,
    *,
    host: str,
    port: int,
    token: str | None,
    tokens: Path | None,
    drain_s: float,
    tls: tuple[Path, Path] | None,
    log_format: LogFormat,
    ray_address: str | None,
    replicas: str,
    cpus_per_replica: float,
    gpus_per_replica: float,
    ray_proxies: Any,
    scale_down_after: float,
    ray_app: str,
    detach: bool,
    remove: bool,
) -> None:
    """Blocks until told to end, unless ``detach``. Raises BabelcastError."""
    import secrets
    from dataclasses import replace

    from babelcast.sts.auth import Clients, load_tokens
    from babelcast.sts.cluster import run
    from babelcast.sts.cluster.settings import ClusterSettings, Replicas, ReplicaSettings

    if port == 0:
        raise click.UsageError("--ray needs a --port: every node listens on the same one")
    if detach and remove:
        raise click.UsageError("--detach or --remove, not both")
    cluster = ClusterSettings(
        app=ray_app,
        address=ray_address,
        host=host,
        port=port,
        proxies=ray_proxies,
        replicas=Replicas.parse(replicas),
        cpus=cpus_per_replica,
        gpus=gpus_per_replica,
        down_delay_s=scale_down_after,
        tls_cert=tls[0] if tls else None,
        tls_key=tls[1] if tls else None,
    )
    if remove:
        run.remove(cluster, drain_s, click.echo)
        return
    clients = (load_tokens(tokens) if tokens else Clients()).with_token(token)
    replica = ReplicaSettings(
        engine=engine,
        engines=engines,
        # what Ray gives a replica, not all of the machine
        limits=limits if limits.capacity else replace(limits, capacity=max(cpus_per_replica, 0.1)),
        clients=clients.described,
        resume_key=os.environ.get("BABELCAST_STS_RESUME_KEY") or secrets.token_hex(32),
        drain_s=drain_s,
        log_format=log_format,
    )
    run.run(replica, cluster, click.echo, detach=detach)

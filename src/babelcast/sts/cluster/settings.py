"""What a deployment is made of. Plain data, so that it can travel to the replicas; nothing here needs Ray."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from babelcast.errors import ConfigError
from babelcast.sts.auth import ClientLimits, Clients
from babelcast.sts.engines import EngineSettings, engine_of
from babelcast.sts.resume import Resumption
from babelcast.sts.service import Limits, Service
from babelcast.telemetry.logs import LogFormat

_SESSIONS_SHARE = 0.7
"""Share of the sessions' places from which on another replica is started; the rest is for those that come meanwhile."""
_ROOM = 8
"""Requests to a replica that are no sessions, handshakes or fragments: health, metrics, languages."""
_WAITING_REQUESTS = 16
_AFTER_DRAIN_S = 10.0
"""Behind the drain's end, sessions that are still there are told and closed; then Serve kills."""

SERVE_LOGS = {"log_level": "WARNING", "enable_access_log": False}

Proxies = Literal["head", "every-node"]


@dataclass(frozen=True, slots=True)
class Replicas:
    """``least`` to ``most`` of them; more where the load asks for it."""

    least: int = 1
    most: int = 1

    @classmethod
    def parse(cls, text: str) -> Replicas:
        """``2``, or ``1:4``. Raises ConfigError."""
        match = re.fullmatch(r"(\d{1,3})(?::(\d{1,3}))?", text.strip())
        if match:
            found = cls(int(match[1]), int(match[2] or match[1]))
            if 1 <= found.least <= found.most:
                return found
        raise ConfigError(f"{text!r} is no number of replicas", key="--replicas", hint="write 2, or 1:4")


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """One replica. ``clients`` are tokens' digests: no token travels. ``resume_key`` is shared by all replicas."""

    engine: str = "offline"
    engines: EngineSettings = field(default_factory=EngineSettings)
    limits: Limits = field(default_factory=Limits)
    clients: tuple[tuple[bytes, str, ClientLimits], ...] = ()
    resume_key: str | None = field(default=None, repr=False)
    drain_s: float = 25.0
    log_format: LogFormat = "text"
    revision: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of this deployment; another one makes Serve exchange the replicas, also where nothing else differs."""

    def build(self) -> Service:
        """Raises MissingDependencyError, ConfigError."""
        return Service(
            engine_of(self.engine, self.engines),
            self.limits,
            clients=Clients.of(self.clients),
            resumption=Resumption(self.resume_key),
        )


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where the replicas run and how the world reaches them. ``address``: None starts Ray on this machine alone."""

    app: str = "babelcast-sts"
    address: str | None = None
    host: str = "127.0.0.1"
    port: int = 8070
    proxies: Proxies = "every-node"
    replicas: Replicas = field(default_factory=Replicas)
    cpus: float = 1.0
    gpus: float = 0.0
    up_delay_s: float = 2.0
    down_delay_s: float = 300.0
    tls_cert: Path | None = None
    """On every node that has a proxy, at the same path."""
    tls_key: Path | None = None


def deployment_options(replica: ReplicaSettings, cluster: ClusterSettings) -> dict[str, object]:
    """Options of ``serve.deployment``.

    The limits of Serve lie above those of the app, which refuses a session at once with an error of its own. Serve's
    are for what the app never sees: a flood of handshakes and requests that no replica has room for.
    """
    limits = replica.limits
    options: dict[str, object] = {
        "max_ongoing_requests": (
            limits.sessions + limits.handshakes + limits.requests + limits.waiting_requests + _ROOM
        ),
        "max_queued_requests": _WAITING_REQUESTS,
        "backpressure_config": {"status_code": 503, "retry_after_s": 5.0},
        "ray_actor_options": {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus},
        "graceful_shutdown_timeout_s": replica.drain_s + _AFTER_DRAIN_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": 1.0,
        "health_check_timeout_s": 15.0,
        "max_constructor_retry_count": 3,
        # a new replica takes sessions before an old one gives its own up
        "max_surge_percent": 1,
        "logging_config": SERVE_LOGS,
        "request_router_config": {"request_router_class": "babelcast.sts.cluster.routing.LeastBusy"},
    }
    if cluster.replicas.least == cluster.replicas.most:
        options["num_replicas"] = cluster.replicas.least
    else:
        options["autoscaling_config"] = {
            "min_replicas": cluster.replicas.least,
            "max_replicas": cluster.replicas.most,
            "target_ongoing_requests": max(_SESSIONS_SHARE * limits.sessions, 0.5),
            "upscale_delay_s": cluster.up_delay_s,
            "downscale_delay_s": cluster.down_delay_s,
            "look_back_period_s": 11.0,
            "aggregation_function": "max",
        }
    return options

"""What replicas say of themselves, and all of them as one page: ``/healthz`` and ``/metrics``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from pydantic import BaseModel

from babelcast import __version__
from babelcast.sts.service import Service


@dataclass(frozen=True, slots=True)
class Report:
    """``metrics``: Prometheus text, empty where it was not asked for."""

    replica: str
    revision: str
    node: str
    pid: int
    draining: bool
    sessions: int
    max_sessions: int
    metrics: str = ""


class ReplicaHealth(BaseModel):
    replica: str
    revision: str
    node: str
    pid: int
    status: str
    sessions: int
    max_sessions: int


class ClusterHealth(BaseModel):
    """Sums, and each replica. ``status``: ``ok`` while one of them takes sessions."""

    status: str
    version: str
    sessions: int
    max_sessions: int
    replicas: list[ReplicaHealth]


def report(service: Service, replica: str, revision: str, node: str, *, metrics: bool) -> Report:
    return Report(
        replica=replica,
        revision=revision,
        node=node,
        pid=os.getpid(),
        draining=service.draining.is_set(),
        sessions=len(service.streams),
        max_sessions=service.limits.sessions,
        metrics=generate_latest(service.metrics.registry).decode() if metrics else "",
    )


def health(reports: Sequence[Report]) -> ClusterHealth:
    taking = [one for one in reports if not one.draining]
    return ClusterHealth(
        status="ok" if taking else "draining",
        version=__version__,
        sessions=sum(one.sessions for one in reports),
        max_sessions=sum(one.max_sessions for one in taking),
        replicas=[
            ReplicaHealth(
                replica=one.replica,
                revision=one.revision,
                node=one.node,
                pid=one.pid,
                status="draining" if one.draining else "ok",
                sessions=one.sessions,
                max_sessions=one.max_sessions,
            )
            for one in sorted(reports, key=lambda one: one.replica)
        ],
    )


def merged(reports: Iterable[Report]) -> bytes:
    """All replicas' metrics as one page, each sample with its ``replica``."""
    registry = CollectorRegistry()
    registry.register(_Merged(reports))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, reports: Iterable[Report]) -> None:
        self._families: dict[str, Metric] = {}
        for one in reports:
            for family in text_string_to_metric_families(one.metrics):
                into = self._families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type, family.unit)
                )
                for sample in family.samples:
                    into.samples.append(sample._replace(labels={**sample.labels, "replica": one.replica}))

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()

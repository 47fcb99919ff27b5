"""The orchestrator's Prometheus metrics, in a registry of their own."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from babelcast.egress.status import DestinationState, DestinationStatus
from babelcast.orchestrator.handle import Handle, LaunchState


class Metrics:
    """Counters are counted as things happen; the rest is a snapshot, taken when it is read."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.events = Counter("orchestrator_media_events", "Media server events.", ["event"], registry=registry)
        self.rounds = Counter("orchestrator_rounds", "Reconcile rounds by result.", ["result"], registry=registry)
        self.starts = Counter("orchestrator_worker_starts", "Workers started.", registry=registry)
        self.failures = Counter("orchestrator_worker_failures", "Workers that ended unasked.", registry=registry)
        self.media_server_up = Gauge("orchestrator_media_server_up", "1 while its API answers.", registry=registry)
        self._egress_up = Gauge("orchestrator_egress_up", "1 while nothing is wrong with it.", registry=registry)
        self._registry = registry

    def render(
        self, handles: Sequence[Handle], destinations: Sequence[DestinationStatus], *, egress_up: bool = True
    ) -> bytes:
        """The text exposition format."""
        self._egress_up.set(egress_up)
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot(handles, destinations))
        return generate_latest(self._registry) + generate_latest(snapshot)


class _Snapshot(Collector):
    def __init__(self, handles: Sequence[Handle], destinations: Sequence[DestinationStatus]) -> None:
        self._handles = handles
        self._destinations = destinations

    def collect(self) -> Iterator[Metric]:
        tally = Tally(handle.state for handle in self._handles)
        workers = GaugeMetricFamily("orchestrator_workers", "Workers by state.", labels=["state"])
        for launch_state in get_args(LaunchState):
            workers.add_metric([launch_state], tally[launch_state])
        memory = GaugeMetricFamily("orchestrator_worker_resident_bytes", "Memory of a worker.", labels=["stream"])
        for handle in self._handles:
            if handle.rss_bytes is not None:
                memory.add_metric([handle.stream_id], handle.rss_bytes)
        yield workers
        yield memory
        yield from self._egress()

    def _egress(self) -> Iterable[Metric]:
        labels = ["stream", "destination"]
        state = GaugeMetricFamily("egress_state", "1 for the state that it is in.", labels=[*labels, "state"])
        sent = CounterMetricFamily("egress_bytes", "Media bytes handed to a destination.", labels=labels)
        reconnects = CounterMetricFamily("egress_reconnects", "Sessions after the first.", labels=labels)
        dropped = CounterMetricFamily("egress_dropped_tags", "Tags that a slow destination missed.", labels=labels)
        slate = GaugeMetricFamily("egress_slate", "1 while the slate is sent for the programme.", labels=labels)
        for destination in self._destinations:
            names = [destination.stream_id, destination.name]
            for name in get_args(DestinationState):
                state.add_metric([*names, name], destination.state == name)
            sent.add_metric(names, destination.bytes_sent)
            reconnects.add_metric(names, destination.reconnects)
            dropped.add_metric(names, destination.dropped_tags)
            slate.add_metric(names, destination.slate)
        return [state, sent, reconnects, dropped, slate]

"""The worker's Prometheus metrics, by the names in ARCHITECTURE.md, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)
_BREAKER_STATES = {"closed": 0, "open": 1, "half-open": 2}
_OUTPUT_STATES = {"idle": 0, "connecting": 1, "live": 2, "retrying": 3}


class WorkerMetrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._fragment_latency = Histogram(
            "worker_fragment_latency_seconds",
            "From a fragment's last sample in the worker to the end of a stage",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._inflight = Gauge("worker_inflight_fragments", "Fragments that the backend works on", registry=registry)
        self._queue = Gauge("worker_queue_depth", "Items that wait in a queue", ["queue"], registry=registry)
        self._av_sync = Gauge(
            "worker_av_sync_delta_ms", "Sound against its own timestamps (+ = sound early)", registry=registry
        )
        self._dub_lag = Histogram(
            "worker_dub_lag_seconds", "Source onset to dub in hand", ["language"], buckets=_SECONDS, registry=registry
        )
        self._dub_offset = Histogram(
            "worker_dub_offset_seconds", "Dub against pictures", ["language"], buckets=_SECONDS, registry=registry
        )
        self._sts_rtt = Histogram(
            "worker_sts_rtt_seconds", "End of a source span to its dub in hand", buckets=_SECONDS, registry=registry
        )
        self._fallback = Counter(
            "worker_fallback",
            "Fallbacks that came into force",
            ["mode", "reason"],
            registry=registry,
        )
        self._output = Gauge(
            "worker_output_state", "0 idle, 1 connecting, 2 live, 3 retrying", ["language"], registry=registry
        )
        self._breaker = Gauge(
            "worker_breaker_state", "0 closed, 1 open, 2 half-open", ["language", "backend"], registry=registry
        )
        self._controls = Gauge("worker_controls_revision", "Changes made by operators", registry=registry)
        self._dropped = Gauge("worker_dropped_items", "Items thrown away", ["queue"], registry=registry)

    def fragment(self, stage: str, seconds: float) -> None:
        self._fragment_latency.labels(stage).observe(seconds)

    def inflight(self, count: int) -> None:
        self._inflight.set(count)

    def queue(self, name: str, depth: int, dropped: int) -> None:
        self._queue.labels(name).set(depth)
        self._dropped.labels(name).set(dropped)

    def av_sync(self, milliseconds: float) -> None:
        self._av_sync.set(milliseconds)

    def dub_lag(self, language: str, seconds: float) -> None:
        self._dub_lag.labels(language).observe(seconds)

    def dub_offset(self, language: str, seconds: float) -> None:
        self._dub_offset.labels(language).observe(seconds)

    def sts_rtt(self, seconds: float) -> None:
        self._sts_rtt.observe(seconds)

    def fallback(self, mode: str, reason: str) -> None:
        self._fallback.labels(mode, reason).inc()

    def output(self, language: str, state: str) -> None:
        self._output.labels(language).set(_OUTPUT_STATES[state])

    def breaker(self, language: str, backend: str, state: str) -> None:
        self._breaker.labels(language, backend).set(_BREAKER_STATES[state])

    def controls(self, revision: int) -> None:
        self._controls.set(revision)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

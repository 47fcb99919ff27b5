"""The speech service's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from babelcast.sts.batching import SIZES, WAITS_S, BatchStats
from babelcast.sts.gpu import GpuCollector
from babelcast.wire import StageTimes

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """``client`` is a token's name, ``language`` a target language without its region, which callers may make up: both
    are few."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.stage = Histogram("sts_stage_seconds", "Time per stage", ["stage"], buckets=_BUCKETS, registry=registry)
        self.sessions = Gauge("sts_sessions", "WebSocket sessions open", registry=registry)
        self.refused = Counter("sts_refused", "Sessions and requests refused as overloaded", registry=registry)
        self.limited = Counter("sts_limited", "Refused by a token's own limits", ["client"], registry=registry)
        self.closed = Counter("sts_closed", "Sessions that ended, by reason", ["reason"], registry=registry)
        self.resumed = Counter("sts_resumed", "Sessions that went on after being cut off", registry=registry)
        self.segments = Counter("sts_segments", "Segments spoken", registry=registry)
        self.audio = Counter("sts_audio_seconds", "Source audio heard", registry=registry)
        self.busy = Counter("sts_busy_seconds", "Time spent on source audio", registry=registry)
        self.heard = Counter("sts_source_seconds", "Source audio heard, for the bill", ["client"], registry=registry)
        self.spoken = Counter(
            "sts_speech_seconds", "Dubbed speech, for the bill", ["client", "language"], registry=registry
        )
        self.factor = Gauge("sts_realtime_factor", "Time spent per second of audio, latest session", registry=registry)
        self.queue = Gauge("sts_queue_seconds", "Audio that waits, all sessions", registry=registry)
        self.draining = Gauge("sts_draining", "1 while the service goes away", registry=registry)
        self.requests = Counter("sts_requests", "REST fragments answered", ["status"], registry=registry)
        registry.register(GpuCollector.of_this_machine())

    def observe(self, stages: StageTimes) -> None:
        for stage in ("vad", "asr", "mt", "tts", "fit"):
            if spent := getattr(stages, f"{stage}_ms"):
                self.stage.labels(stage).observe(spent / 1e3)


class BatchCollector(Collector):
    """``sts_batch_size`` and ``sts_batch_wait_seconds`` by engine; no series where no engine joins calls."""

    def __init__(self, batches: Sequence[BatchStats]) -> None:
        self._batches = tuple(batches)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        if not self._batches:
            return
        sizes = HistogramMetricFamily("sts_batch_size", "Clauses that a model took at once", labels=["engine"])
        waits = HistogramMetricFamily("sts_batch_wait_seconds", "Wait of a clause for its batch", labels=["engine"])
        for stats in self._batches:
            sizes.add_metric([stats.engine], _cumulated(SIZES, stats.sizes), float(stats.items))
            waits.add_metric([stats.engine], _cumulated(WAITS_S, stats.waits), stats.waited_s)
        yield from (sizes, waits)


def _cumulated(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus counts in each bucket what is in the smaller ones as well."""
    edges = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(edges, map(float, accumulate(counts)), strict=True))

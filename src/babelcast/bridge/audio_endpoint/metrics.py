"""Prometheus metrics of the audio endpoint, worked out from its status when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from babelcast.bridge.audio_endpoint.endpoint import AudioStatus
from babelcast.telemetry.collector import StatusMetrics


class AudioMetrics(StatusMetrics[AudioStatus]):
    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for gauge, text, value in (
            ("audio_listeners", "Listeners now", status.listeners),
            ("audio_producers", "Producers that send now", status.producers),
            ("audio_bed_live", "1 while a producer is heard", status.bed.state == "live"),
            ("audio_bed_queue_seconds", "Delay of what is heard of a producer", status.bed.queued_s),
            ("audio_speech_queue_seconds", "Speech that waits to be heard", status.speech.queued_s),
            ("audio_output_level_db", "RMS of the last 20 ms, dBFS", status.output_db),
        ):
            yield GaugeMetricFamily(gauge, text, float(value))
        for counter, text, value in (
            ("audio_listeners_refused", "There were enough", status.listeners_refused),
            ("audio_listeners_dropped", "They took nothing for too long", status.listeners_dropped),
            ("audio_listeners_skipped", "Steps of 40 ms that listeners were too slow for", status.listeners_skipped),
            ("audio_producers_replaced", "A newer one took the place", status.replaced),
            ("audio_producers_undecodable", "Bodies that were not what they said", status.undecodable),
            ("audio_bed_trimmed_seconds", "Cut out of producers' bursts", status.bed.trimmed_s),
            ("audio_bed_underruns", "Times at which a producer had nothing to play", status.bed.underruns),
            ("audio_utterances", "Spoken to their end", status.speech.spoken),
            ("audio_utterances_failed", "The speech service did not speak them", status.speech.failed),
            ("audio_late_steps", "Times at which the clock was so late that sound is missing", status.late_steps),
        ):
            yield CounterMetricFamily(counter, text, float(value))

"""Prometheus metrics of the bridge, worked out from its status when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from babelcast.bridge.status import BridgeState, BridgeStatus
from babelcast.egress.status import DestinationState, DestinationStatus
from babelcast.telemetry.collector import StatusMetrics


class BridgeMetrics(StatusMetrics[BridgeStatus]):
    def collect(self) -> Iterator[Metric]:
        status = self._status()
        state = GaugeMetricFamily("bridge_state", "1 for the state it is in", labels=["state"])
        for name in get_args(BridgeState):
            state.add_metric([name], status.state == name)
        yield state
        source, encoder = status.source, status.encoder
        for gauge, text, value in (
            ("bridge_source_live", "1 while the source is on air", float(source.state == "live")),
            ("bridge_bitrate_in_bits_per_second", "The source's pictures", source.bitrate_kbps * 1_000),
            ("bridge_bitrate_out_bits_per_second", "The programme", encoder.bitrate_kbps * 1_000),
            ("bridge_fps", "Pictures a second of the programme", encoder.fps),
            ("bridge_encoder_speed", "1 is real time", encoder.speed),
            ("bridge_recording", "1 while the programme is recorded", float(status.recording.state == "recording")),
            ("bridge_recording_bytes", "What is kept of it", float(status.recording.bytes)),
            ("bridge_alerts", "Alerts raised now", float(len(status.alerts))),
        ):
            yield GaugeMetricFamily(gauge, text, value)
        for counter, text, value in (
            ("bridge_source_reconnects", "Attempts after the first", source.reconnects),
            ("bridge_sound_reconnects", "The same of AUDIO_SOURCE", status.sound.reconnects),
            ("bridge_frames", "Pictures encoded", encoder.frames),
            ("bridge_frames_duplicated", "Pictures shown twice to keep the rate", encoder.duplicated),
            ("bridge_frames_dropped", "Pictures left out to keep the rate", encoder.dropped),
        ):
            yield CounterMetricFamily(counter, text, value)
        yield from _destinations(status.destinations)


def _destinations(found: tuple[DestinationStatus, ...]) -> Iterator[Metric]:
    state = GaugeMetricFamily("bridge_destination_state", "1 for the state it is in", labels=["destination", "state"])
    bitrate = GaugeMetricFamily("bridge_destination_bitrate_bits_per_second", "Sent to it", labels=["destination"])
    sent = CounterMetricFamily("bridge_destination_bytes", "Sent to it", labels=["destination"])
    again = CounterMetricFamily("bridge_destination_reconnects", "Sessions after the first", labels=["destination"])
    missed = CounterMetricFamily("bridge_destination_dropped_tags", "What it missed", labels=["destination"])
    for each in found:
        for name in get_args(DestinationState):
            state.add_metric([each.name, name], each.state == name)
        bitrate.add_metric([each.name], each.bitrate_kbps * 1_000)
        sent.add_metric([each.name], each.bytes_sent)
        again.add_metric([each.name], each.reconnects)
        missed.add_metric([each.name], each.dropped_tags)
    yield from (state, bitrate, sent, again, missed)

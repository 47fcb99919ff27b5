"""What an operator sees of a session: status, warnings, metrics, the depth of every queue. Reads, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from babelcast.spec import Controls, TargetStatus, WorkerSpec, WorkerStatus
from babelcast.units import NS_PER_MS, NS_PER_S
from babelcast.worker.air import AirClock, OnAir
from babelcast.worker.ingest import Ingest
from babelcast.worker.listen import Listener
from babelcast.worker.metrics import WorkerMetrics
from babelcast.worker.output import Output
from babelcast.worker.programme import Programme
from babelcast.worker.source_loss import SourceLoss
from babelcast.worker.timeline import SourceTimeline


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a session; one programme, output and OnAir per target of the spec, in its order."""

    spec: WorkerSpec
    ingest: Ingest
    timeline: SourceTimeline
    air: AirClock
    loss: SourceLoss | None
    listener: Listener | None
    programmes: Sequence[Programme]
    outputs: Sequence[Output]
    on_air: Sequence[OnAir]


class Report:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def av_sync_delta_ms(self) -> float:
        """How far sound is early (+) against its own timestamps, and so against its pictures: at its place on the
        source timeline, and on air while the delay changes."""
        return (self._parts.ingest.placement.error_ns + self._parts.on_air[0].sound_off_ns) / NS_PER_MS

    def queues(self) -> dict[str, tuple[int, int]]:
        """Every bounded queue: name → (items that wait, items thrown away so far). See docs/reference/queues.md."""
        found: dict[str, tuple[int, int]] = {}
        for programme, output in zip(self._parts.programmes, self._parts.outputs, strict=True):
            language, dubbing = programme.language, programme.dubbing
            found[f"video.{language}"] = (len(programme.video), programme.video.dropped)
            found[f"output.{language}"] = (output.pending_bytes, output.dropped_units)
            if dubbing is not None:
                found[f"sts.{language}"] = (dubbing.queued_frames, dubbing.dropped_frames)
                found[f"events.{language}"] = (dubbing.queued_events, 0)
                found[f"segments.{language}"] = (programme.queued_segments, programme.dropped_segments)
        if self._parts.listener is not None:
            found["separate"] = (self._parts.listener.queued_blocks, self._parts.listener.dropped_blocks)
        return found

    def measure(self, metrics: WorkerMetrics) -> None:
        """Bring the gauges up to date."""
        metrics.av_sync(self.av_sync_delta_ms)
        for name, (depth, dropped) in self.queues().items():
            metrics.queue(name, depth, dropped)
        for target, output in zip(self._parts.spec.targets, self._parts.outputs, strict=True):
            metrics.output(target.language, output.state)

    def status(self, controls: Controls, *, stopping: bool, ended: bool) -> WorkerStatus:
        """``stopping``: the worker was asked to end. ``ended``: the programme has, for want of a source."""
        ingest = self._parts.ingest
        tracks = ingest.tracks
        state = ingest.state if ingest.state != "ended" else "stopping"
        error = str(tracks.unsupported) if tracks.unsupported else ingest.last_error or self._dubbing_error()
        return WorkerStatus(
            stream_id=self._parts.spec.stream_id,
            generation=self._parts.spec.generation,
            state="stopping" if stopping else state,
            delay_s=self._parts.air.delay_ns / NS_PER_S,
            separation=self._parts.listener.active_separation if self._parts.listener else "off",
            source_seconds=self._parts.timeline.end_ns / NS_PER_S,
            av_sync_delta_ms=self.av_sync_delta_ms,
            video_caps=tracks.video,
            audio_caps=tracks.audio,
            warnings=tuple(self._warnings(ended)),
            last_error=error,
            targets=tuple(
                _target_status(self._parts.spec, programme, output)
                for programme, output in zip(self._parts.programmes, self._parts.outputs, strict=True)
            ),
            controls=controls,
            queues={name: depth for name, (depth, _) in self.queues().items()},
            source_loss=None if self._parts.loss is None or self._parts.loss.step == "end" else self._parts.loss.step,
        )

    def _dubbing_error(self) -> str | None:
        """Why there is no dub, of the first language that has none."""
        errors = (programme.dubbing.last_error for programme in self._parts.programmes if programme.dubbing is not None)
        return next((error for error in errors if error), None)

    def _warnings(self, ended: bool) -> list[str]:
        warnings = []
        unsupported = self._parts.ingest.tracks.unsupported
        if unsupported is not None:
            warnings.append(str(unsupported))
        missing = self._parts.ingest.missing_tracks
        if "audio" in missing:
            warnings.append("the source has no audio: silence is sent")
        if "video" in missing and unsupported is None:
            warnings.append("the source has no video: sound alone is sent")
        if ended:
            warnings.append("the source is lost for good: the programme has ended, and begins anew when it is back")
        elif self._parts.ingest.state == "reconnecting":
            warnings.append("the source is lost: silence is sent until it is back")
        if self._parts.loss is not None and self._parts.loss.last_error is not None:
            warnings.append(f"no slate stands in for a lost source: {self._parts.loss.last_error}")
        if self._parts.timeline.rebases:
            warnings.append(f"the source's timestamps jumped and were re-based ({self._parts.timeline.rebases} so far)")
        if self._parts.listener is not None:
            warnings += self._parts.listener.warnings
            if self._parts.listener.dropped_blocks:
                warnings.append("this machine is too slow for separation: background and dub were lost")
        for programme in self._parts.programmes:
            if programme.captions is not None and programme.captions.skipped:
                warnings.append(
                    f"captions can't be embedded in every language: CEA-608 lacks letters ({programme.language})"
                )
            if programme.video.dropped:
                warnings.append(f"{programme.video.dropped} pictures were dropped ({programme.language})")
        return warnings


def _target_status(spec: WorkerSpec, programme: Programme, output: Output) -> TargetStatus:
    dubbing = programme.dubbing
    return TargetStatus(
        language=programme.language,
        output_state=output.state,
        backend_state=dubbing.state if dubbing is not None else "none",
        fallback=programme.fallback,
        fallback_seconds=programme.fallback_seconds,
        segments=programme.segments,
        dropped_segments=programme.dropped_segments,
        dub_lag_s=programme.dub_lag_s,
        dub_offset_s=programme.dub_offset_s,
        published_seconds=output.published_seconds,
        last_error=output.last_error or (dubbing.last_error if dubbing is not None else None),
        fallback_cause=programme.fallback_cause,
        levels=programme.levels,
        breakers=tuple(breaker.status for breaker in dubbing.breakers) if dubbing is not None else (),
        backend=dubbing.backend if dubbing is not None else None,
        cost=dubbing.cost if dubbing is not None else None,
    )

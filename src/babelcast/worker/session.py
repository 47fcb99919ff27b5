"""One stream, live: wires the steps in the order of the flow. Read this first.

::

    Ingest ──┬─ access units ───────────────► VideoQueue (per programme) ─────────────┐
             └─ PCM ─► SourceAudio.original                                           │
                  └─► Listener (separation) ─► SourceAudio.background                 │
                                           └─► speech frames ─► Dubbing (per target)  │
                                                    segments ─► DubTrack              │
             every 100 ms: Programme.advance: what is due at ``now − delay + lead`` ───┴─► Output

Every arrow is a call on the event loop's thread; the steps know nothing of each other. Nothing waits: each step
takes what is there. GStreamer's threads end in appsinks and begin in appsrcs (:mod:`babelcast.gst.bridge`), and
separation has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from babelcast.audio.pcm import frames_of, from_s16le, to_s16le
from babelcast.audio.source import SourceAudio
from babelcast.captions.cues import OnAirMark
from babelcast.captions.track import CaptionTrack
from babelcast.clock import Clock, MonotonicClock
from babelcast.errors import ControlsError
from babelcast.gst.ingest import is_live
from babelcast.separate.factory import make_separator
from babelcast.spec import (
    MAX_DELAY_S,
    MIN_DELAY_S,
    BreakerStatus,
    Controls,
    Levels,
    SegmentEntry,
    TargetSpec,
    WorkerSpec,
    WorkerStatus,
)
from babelcast.speech.base import SpeechBackend, SpeechTarget
from babelcast.speech.breaker import BreakerBackend
from babelcast.speech.failover import joined
from babelcast.speech.members import budgets_of
from babelcast.units import CHANNELS, NS_PER_MS, NS_PER_S, AccessUnit, Pcm, SpeechFrame
from babelcast.worker.air import AirClock, OnAir
from babelcast.worker.controls import ControlDesk
from babelcast.worker.dubbing import Dubbing, in_time_from
from babelcast.worker.dumps import Dumps
from babelcast.worker.fragments import FragmentLog
from babelcast.worker.in_force import LEAD_NS, dumped, mix_settings, slow_call_s, with_controls
from babelcast.worker.ingest import Ingest
from babelcast.worker.journal import Journal
from babelcast.worker.listen import Listener
from babelcast.worker.metrics import WorkerMetrics
from babelcast.worker.output import Output
from babelcast.worker.programme import Programme
from babelcast.worker.pulse import Pulse
from babelcast.worker.report import Parts, Report
from babelcast.worker.seam import TAIL, Seam
from babelcast.worker.source_loss import SourceLoss
from babelcast.worker.spool import Spool
from babelcast.worker.takeover import Takeover, takeover
from babelcast.worker.timeline import SourceTimeline

log = logging.getLogger(__name__)

_LEAD_IN_NS = 3 * NS_PER_S
"""Silence that is sent before the first picture, with the codec's headers, where the delay leaves as much time: whoever
reads is there then."""
_CATCH_UP_STEP_NS = 100 * NS_PER_MS
_LATE_MARGIN_NS = 500 * NS_PER_MS
_FILE_AHEAD_NS = 2 * NS_PER_S
_STATUS_EVERY_TICKS = 10
_RECENT_ENTRIES = 1_000
_FINISH_S = 2.0


class WorkerSession:
    """Runs from :meth:`run` to :meth:`request_stop`. ``backend`` None is bypass; ``standbys`` speak, in order, where it
    fails: as many as the spec has ``standby_backends``."""

    def __init__(
        self,
        spec: WorkerSpec,
        backend: SpeechBackend | None,
        *,
        standbys: Sequence[SpeechBackend] = (),
        clock: Clock | None = None,
        metrics: WorkerMetrics | None = None,
        spool: Spool | None = None,
        dumps_folder: Path | None = None,
    ) -> None:
        self.spec = spec = spec if spec.controls is None else with_controls(spec, spec.controls)
        self.metrics = metrics or WorkerMetrics()
        self._clock = clock or MonotonicClock()
        self._pulse = Pulse()
        self._backends = () if backend is None else (backend, *standbys)
        self._budgets = budgets_of((spec.backend, *spec.standby_backends)[: len(self._backends)])
        self._air = AirClock(round(spec.delay_s * NS_PER_S))
        self._stop = asyncio.Event()
        self._journal = Journal(spec.journal_dir, _RECENT_ENTRIES)
        self._timeline = SourceTimeline(late_limit_ns=self._air.delay_ns - _LATE_MARGIN_NS)
        self._source = SourceAudio(MAX_DELAY_S + 5.0)  # the delay may grow on air
        self._loss = SourceLoss(spec.source_loss) if is_live(spec.ingest_url) else None
        self._ended = False
        read_ahead = None if self._loss is not None else self._file_position_ns
        self._ingest = Ingest(
            spec.ingest_url, self._timeline, self, self._clock, wanted_until=read_ahead, pulse=self._pulse
        )
        self._listener: Listener | None = None
        if backend is not None:
            separator = make_separator(spec.separation, spec.separation_model, delay_s=spec.delay_s)
            self._listener = Listener(separator, self._take_background, self._take_speech)
        self.dumps = Dumps(dumps_folder, dumped(spec, dubbed=backend is not None))
        self._fragments = FragmentLog(spec.stream_id, self.metrics)
        self._outputs = [self._make_output(target) for target in spec.targets]
        self._on_air = [OnAir(output, self._air) for output in self._outputs]
        self._programmes = [
            self._make_programme(target, on_air) for target, on_air in zip(spec.targets, self._on_air, strict=True)
        ]
        self.report = Report(
            Parts(
                spec,
                self._ingest,
                self._timeline,
                self._air,
                self._loss,
                self._listener,
                self._programmes,
                self._outputs,
                self._on_air,
            )
        )
        self._ticks = 0
        self._marked = False
        self._unix_ns = time.time_ns() - self._clock.now_ns()  # once: a step of the wall clock must not move captions
        self._spool = spool if self._loss is not None else None
        self._catch_up_from_ns: int | None = None
        self._silent_until_ns = 0
        controls = spec.controls or spec.own_controls
        self.desk = ControlDesk(controls, self._apply)
        """What an operator changes on air."""
        self._apply(controls)

    def _make_output(self, target: TargetSpec) -> Output:
        fields = {"language": target.language}
        return Output(
            target.output_url,
            self._clock,
            audio_bitrate=self.spec.audio_bitrate,
            log_fields=fields,
            pulse=self._pulse,
        )

    def _make_programme(self, target: TargetSpec, on_air: OnAir) -> Programme:
        spec = self.spec
        programme = Programme(
            target.language,
            self._source,
            on_air,
            delay_ns=self._air.delay_ns,
            mix=mix_settings(spec),
            fallback=spec.fallback,
            fallback_by_cause=spec.fallback_by_cause,
            metrics=self.metrics,
            lag_s=self._age_s,
            on_entry=self._take_entry,
            dumps=self.dumps,
            air_unix_s=self._air_unix_s,
        )
        if self._backends:
            wanted = SpeechTarget(spec.stream_id, spec.source_language, target.language, target.voice)
            breakers = [self._breaker(backend, target.language) for backend in self._backends]
            speaks = joined(
                breakers, self._budgets, clock=self._clock, in_time_from=lambda: in_time_from(programme.playhead_ns)
            )
            if spec.captions.embed == "cea608":
                language = spec.captions.language or target.language
                programme.captions = CaptionTrack(language, own=target.language, source=spec.source_language)
            programme.dubbing = Dubbing(speaks, wanted, programme, lambda: programme.playhead_ns, breakers=breakers)
        return programme

    def _take_entry(self, entry: SegmentEntry) -> None:
        self._journal.add(entry)
        for programme in self._programmes:
            if programme.captions is not None:
                programme.captions.take(entry)

    def _breaker(self, backend: SpeechBackend, language: str) -> BreakerBackend:
        def changed(status: BreakerStatus) -> None:
            self.metrics.breaker(language, status.backend, status.state)

        breaker = BreakerBackend(
            backend, self.spec.breaker, slow_call_s(self.spec.delay_s), clock=self._clock, on_change=changed
        )
        changed(breaker.status)
        return breaker

    async def run(self) -> None:
        """Until :meth:`request_stop`. Raises IngestError where the source can never be read."""
        if self._spool is not None:
            self._resume(self._spool)
        stopped = asyncio.create_task(self._stop.wait())
        tasks = [asyncio.create_task(step) for step in self._steps()]
        waiting: set[asyncio.Task[Any]] = {stopped, *tasks}
        try:
            while not stopped.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            await asyncio.gather(*(output.finish(_FINISH_S) for output in self._outputs))
            self._journal.close()
            await asyncio.to_thread(self.dumps.stop)
            if self._spool is not None and self._stop.is_set():
                self._spool.close()
            await asyncio.gather(*(backend.aclose() for backend in self._backends))

    def _steps(self) -> list[Coroutine[Any, Any, None]]:
        steps: list[Coroutine[Any, Any, None]] = [self._ingest.run(), self._pace()]
        steps += [output.run() for output in self._outputs]
        if self._loss is not None:
            steps.append(self._loss.run())
        if self._listener is not None:
            steps.append(self._listener.run())
        steps += [programme.dubbing.run() for programme in self._programmes if programme.dubbing is not None]
        return steps

    def request_stop(self) -> None:
        """End within 3 s, with EOS to the outputs. May be called from a signal handler of the loop."""
        self._stop.set()

    def _resume(self, spool: Spool) -> None:
        """Go on where the worker before broke off, with what it has left."""
        now_ns = self._clock.now_ns()
        over = takeover(spool.read(now_ns), now_ns, self._air.delay_ns)
        if over is None:
            return
        left, start_ns = over.left, over.start_ns
        self._timeline.resume(left.epoch_ns, left.end_ns)
        self._ingest.resume(left.video, Seam(left.audio_end, left.tail(TAIL)))
        for unit in left.video:
            if unit.dts_ns >= start_ns:
                self.take_video(unit)
        for position, pcm in left.audio_from(start_ns):
            self._source.write_original(position, frames_of(pcm, CHANNELS))
            spool.audio(position, pcm)
        self._hear_again(over)
        caps = left.video[-1].caps if left.video else None
        for programme, output in zip(self._programmes, self._outputs, strict=True):
            programme.begin_at(start_ns)
            output.prepare(caps, left.epoch_ns + start_ns + self._air.delay_ns, over.begins_ns)
        self._catch_up_from_ns, self._silent_until_ns = start_ns, over.begins_ns
        seconds = (left.end_ns - start_ns) / NS_PER_S
        log.info("goes on where the worker before broke off, with %.1f s of the source", seconds)

    def _hear_again(self, over: Takeover) -> None:
        """The dub of what the worker before has left is lost, but of its end another one can still be in time."""
        if self._listener is None:
            return
        for position, pcm in over.left.audio_from(over.heard_ns):
            self._listener.feed(position, from_s16le(pcm, CHANNELS))
        for programme in self._programmes:
            if programme.dubbing is not None:
                programme.dubbing.lost.append((over.start_ns, over.heard_ns))

    # --- ingest's sink ---

    def take_video(self, unit: AccessUnit) -> None:
        if self._spool is not None:
            self._spool.video(unit)
        if self._loss is not None:
            self._loss.note(unit)
        for programme in self._programmes:
            programme.video.put(unit)

    def take_audio(self, position: int, pcm: bytes) -> None:
        if self._spool is not None:
            self._spool.audio(position, pcm)
        self.dumps.take("source", position, pcm)
        self._source.write_original(position, frames_of(pcm, CHANNELS))
        if self._listener is not None:
            self._listener.feed(position, from_s16le(pcm, CHANNELS))

    # --- the listener's sink ---

    def _take_background(self, position: int, block: Pcm) -> None:
        self._source.write_background(position, block)
        if self.dumps.wanted:
            self.dumps.take("background", position, to_s16le(block))

    def _take_speech(self, frame: SpeechFrame) -> None:
        self._fragments.push(frame, self._age_s(frame.end_ns), self._clock.now_ns())
        for programme in self._programmes:
            if programme.dubbing is not None:
                programme.dubbing.feed(frame)

    # --- pacing ---

    async def _pace(self) -> None:
        while True:
            self.tick()
            await self._pulse.next_tick()

    def tick(self) -> None:
        """Send what is due now."""
        epoch_ns = self._timeline.epoch_ns
        if epoch_ns is None:
            return
        now_ns = self._clock.now_ns()
        since_epoch_ns = now_ns - epoch_ns
        due_ns = self._air.due(since_epoch_ns + LEAD_NS)
        if self._loss is not None:
            self._loss.watch(since_epoch_ns - self._timeline.end_ns)
            self._look_for_loss(self._loss, due_ns)
        if self._spool is not None:
            self._spool.flush(epoch_ns, max(self._air.delay_ns, self._air.target_delay_ns))
        if due_ns >= -_LEAD_IN_NS and now_ns >= self._silent_until_ns:
            self._mark_on_air()
            self._advance(due_ns, epoch_ns)
        if self._ingest.state == "ended" and due_ns > self._timeline.end_ns + LEAD_NS:
            self.request_stop()  # all of the file is on air
        self._ticks += 1
        if self._ticks % _STATUS_EVERY_TICKS == 0:
            self._measure()

    def _advance(self, due_ns: int, epoch_ns: int) -> None:
        steps = [due_ns]
        if self._catch_up_from_ns is not None:  # pictures and sound side by side, as they come otherwise
            steps = [*range(self._catch_up_from_ns, due_ns, _CATCH_UP_STEP_NS), due_ns]
            self._catch_up_from_ns = None
        for step_ns in steps:
            for programme in self._programmes:
                programme.advance(step_ns, epoch_ns, video_expected=self._ingest.video_coming)

    def _look_for_loss(self, loss: SourceLoss, due_ns: int) -> None:
        still = loss.advance(self._timeline.lost_for_ns(due_ns))
        for programme in self._programmes:
            programme.video.still = still
        if loss.step == "end" and not self._ended:
            self._ended = True
            for output in self._outputs:
                output.end()
        elif self._ended and self._timeline.lost_for_ns(due_ns + _LEAD_IN_NS) is None:
            self._ended = False
            for output in self._outputs:
                output.begin()

    def set_delay(self, seconds: float) -> None:
        """Have the delay go there on air, 30 ms a second. Raises ValueError outside its bounds."""
        if not MIN_DELAY_S <= seconds <= MAX_DELAY_S:
            raise ValueError(f"the delay must be {MIN_DELAY_S:g} to {MAX_DELAY_S:g} s")
        before_ns, target_ns = self._air.delay_ns, round(seconds * NS_PER_S)
        self._air.set_delay(target_ns)
        # by the smaller of the two what comes too late is judged, by the larger what must be kept
        self._timeline.limit_lateness(min(before_ns, target_ns) - _LATE_MARGIN_NS)
        for programme in self._programmes:
            programme.video.hold(max(before_ns, target_ns))

    def _file_position_ns(self) -> int:
        """A file is read as if it came live, two seconds ahead."""
        epoch_ns = self._timeline.epoch_ns
        return _FILE_AHEAD_NS + (0 if epoch_ns is None else self._clock.now_ns() - epoch_ns)

    def _age_s(self, source_ns: int) -> float:
        """How long ago this source time came into the worker."""
        epoch_ns = self._timeline.epoch_ns
        return 0.0 if epoch_ns is None else (self._clock.now_ns() - epoch_ns - source_ns) / NS_PER_S

    def _air_unix_s(self, source_ns: int) -> float | None:
        """Unix time at which this source time is on air."""
        epoch_ns = self._timeline.epoch_ns
        if epoch_ns is None:
            return None
        return (self._unix_ns + epoch_ns + source_ns + self._air.delay_at(source_ns)) / NS_PER_S

    def _mark_on_air(self) -> None:
        """Tell the journal once when this worker's source time 0 is on air, for the captions' clock."""
        began_unix_s = self._air_unix_s(0)
        if self._backends and not self._marked and began_unix_s is not None:
            self._marked = True
            languages = tuple(target.language for target in self.spec.targets)
            mark = OnAirMark(began_unix_s=began_unix_s, source_language=self.spec.source_language, languages=languages)
            self._journal.mark(mark)

    def _measure(self) -> None:
        self.report.measure(self.metrics)
        dubbings = [programme.dubbing for programme in self._programmes if programme.dubbing is not None]
        watermark_ns = min((dubbing.watermark_ns for dubbing in dubbings), default=0)
        playhead_ns = min(programme.playhead_ns for programme in self._programmes)
        self._fragments.update(watermark_ns, playhead_ns, self._clock.now_ns())

    # --- what an operator sees ---

    @property
    def av_sync_delta_ms(self) -> float:
        return self.report.av_sync_delta_ms

    @property
    def source_position(self) -> int:
        """Source sample after the last one that came."""
        return self._source.original_end

    @property
    def source_drift_ms(self) -> float:
        """How far the source's clock has been led back on this connection; positive: it runs slow."""
        return self._timeline.drift_ns / NS_PER_MS

    @property
    def output_sessions(self) -> list[int]:
        """How many sessions each destination has seen."""
        return [output.sessions for output in self._outputs]

    def _apply(self, controls: Controls) -> None:
        """Bring an operator's choice into force, from the next block on. Raises ControlsError."""
        if round(controls.delay_s * NS_PER_S) != self._air.target_delay_ns:
            if self._loss is None:
                raise ControlsError("the delay of a file can't be changed while it runs", 409)
            self.set_delay(controls.delay_s)
            self._let_calls_take(slow_call_s(controls.delay_s))
        mix = mix_settings(with_controls(self.spec, controls))
        for programme in self._programmes:
            programme.take_controls(controls.force, controls.fallback, controls.fallback_by_cause, mix)
        self.metrics.controls(controls.revision)
        if controls.revision:
            log.info("controls at revision %d", controls.revision, extra={"stage": "controls"})

    def _let_calls_take(self, seconds: float) -> None:
        for programme in self._programmes if self.spec.breaker.slow_call_s is None else ():
            for breaker in programme.dubbing.breakers if programme.dubbing is not None else ():
                breaker.breaker.slow_call_s = seconds

    def segments(self, after: int) -> list[SegmentEntry]:
        """The latest entries whose ``sequence`` is above ``after``, of all languages."""
        return self._journal.after(after)

    def levels(self) -> dict[str, Levels]:
        """By target language."""
        return {programme.language: programme.levels for programme in self._programmes}

    def status(self) -> WorkerStatus:
        return self.report.status(self.desk.controls, stopping=self._stop.is_set(), ended=self._ended)

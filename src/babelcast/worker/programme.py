"""What is on air in one language: the delayed pictures, and block by block the sound that goes with them."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np

from babelcast.audio.fallback import FallbackCause, FallbackMode, FallbackPolicy, FallbackSettings
from babelcast.audio.mix import MIXER_LOOKAHEAD, Mixer, MixSettings
from babelcast.audio.pcm import db, rms, to_s16le
from babelcast.audio.schedule import Dropped, DubTrack, Placement
from babelcast.audio.source import SourceAudio
from babelcast.audio.turns import speech_powers
from babelcast.captions.track import REORDER, CaptionTrack
from babelcast.spec import Levels, SegmentEntry
from babelcast.units import CHANNELS, RATE, AccessUnit, DubSegment, Pcm, ns_to_samples, samples_to_ns
from babelcast.worker.dubbing import Dubbing
from babelcast.worker.dumps import Dumps
from babelcast.worker.metrics import WorkerMetrics
from babelcast.worker.video import VideoQueue

log = logging.getLogger(__name__)

BLOCK = RATE // 10
"""Samples that are rendered and pushed at a time."""
_RECENT = 50


class Destination(Protocol):
    """Implemented by output.Output and file_output.FileOutput."""

    def expect_video(self, caps: str) -> None: ...

    def push_video(self, units: list[AccessUnit], air_offset_ns: int) -> None: ...

    def push_audio(self, position: int, pcm: bytes, air_offset_ns: int, *, video_expected: bool) -> None: ...


class Programme:
    """Single-threaded. Without ``dubbing`` it is a bypass: the original, sample for sample.

    ``lag_s`` tells for a source time how long ago it came into the worker; ``air_unix_s`` when it is on air.
    """

    def __init__(
        self,
        language: str,
        source: SourceAudio,
        destination: Destination,
        *,
        delay_ns: int,
        mix: MixSettings,
        fallback: FallbackMode,
        fallback_by_cause: Mapping[FallbackCause, FallbackMode] | None = None,
        metrics: WorkerMetrics,
        lag_s: Callable[[int], float],
        on_entry: Callable[[SegmentEntry], None],
        dumps: Dumps | None = None,
        air_unix_s: Callable[[int], float | None] = lambda source_ns: None,
    ) -> None:
        self.language = language
        self.video = VideoQueue(delay_ns)
        self.dubbing: Dubbing | None = None
        self.captions: CaptionTrack | None = None
        """Changes the pictures' packets where there is one."""
        self._source = source
        self._destination = destination
        self._metrics = metrics
        self._lag_s = lag_s
        self._on_entry = on_entry
        self._dumps = dumps
        self._air_unix_s = air_unix_s
        self._track = DubTrack(speech=functools.partial(speech_powers, source))
        self._mixer = Mixer(source, self._track, mix, on_dub=self._dump_dub)
        self._policy = FallbackPolicy(FallbackSettings(fallback, fallback_by_cause or {}))
        self._force: FallbackMode | None = None
        self._mixing = False
        self._position: int | None = None
        self._lags: dict[str, float] = {}
        self._recent: deque[SegmentEntry] = deque(maxlen=_RECENT)
        self._entries = 0
        self.fallback: FallbackMode | None = None
        """In force now, by the operator or for want of a dub; None while the dub is on air."""
        self.fallback_cause: FallbackCause | Literal["operator"] | None = None
        self._fallback_samples = 0

    @property
    def position(self) -> int:
        """Source sample that is rendered next."""
        return self._position or 0

    @property
    def playhead_ns(self) -> int:
        return samples_to_ns(self.position)

    @property
    def dub_end(self) -> int:
        """Source sample at which the last planned segment ends."""
        return self._track.end

    @property
    def segments(self) -> int:
        return self._track.added

    @property
    def dropped_segments(self) -> int:
        return self._track.dropped

    @property
    def queued_segments(self) -> int:
        """Segments that are planned and not yet on air."""
        return self._track.added - self._entries

    @property
    def levels(self) -> Levels:
        """Of what was rendered last."""
        if self.dubbing is None and not self._mixing:
            heard = db(rms(self._source.peek_original(self.position - BLOCK, BLOCK)[0]))
            return Levels(source=heard, output=heard)
        levels = self._mixer.levels
        return Levels(source=levels.source, background=levels.background, dub=levels.dub, output=levels.output)

    @property
    def fallback_seconds(self) -> float:
        return self._fallback_samples / RATE

    @property
    def dub_lag_s(self) -> float | None:
        """Median over the latest segments."""
        return _median([entry.dub_lag_s for entry in self._recent])

    @property
    def dub_offset_s(self) -> float | None:
        """Median over the latest segments that were heard."""
        return _median([entry.dub_offset_s for entry in self._recent if entry.placed_ns is not None])

    def begin_at(self, source_ns: int) -> None:
        """Have the programme begin there, though it may be due no more. Before the first :meth:`advance`."""
        self._position = ns_to_samples(source_ns)

    def take_controls(
        self,
        force: FallbackMode | None,
        fallback: FallbackMode,
        by_cause: Mapping[FallbackCause, FallbackMode],
        mix: MixSettings,
    ) -> None:
        """Others in force from the next block on; the mixer fades from one to the other."""
        self._force = force
        self._policy.settings = replace(self._policy.settings, mode=fallback, by_cause=by_cause)
        self._mixer.settings = mix

    def take_segment(self, segment: DubSegment) -> None:
        """A segment from the backend: planned; what became of it is told when it is on air."""
        while len(self._lags) > _RECENT:  # of segments that were never settled
            self._lags.pop(next(iter(self._lags)))
        self._lags[segment.segment_id] = self._lag_s(segment.source_start_ns)
        verdict = self._track.add(segment, self.position)
        state = "dropped" if isinstance(verdict, Dropped) else "placed"
        log.info(
            "segment %s",
            state,
            extra={"stage": "schedule", "language": self.language, "segment.id": segment.segment_id},
        )
        self._metrics.dub_lag(self.language, self._lags[segment.segment_id])
        self._metrics.sts_rtt(self._lag_s(segment.source_end_ns))

    def advance(self, due_ns: int, air_offset_ns: int, *, video_expected: bool) -> None:
        """Send what is due: pictures up to source time ``due_ns``, and sound up to a block past it."""
        caps = self.video.next_caps
        if caps is not None:
            self._destination.expect_video(caps)
        units = self.video.take(due_ns)
        if units and self.captions is not None:
            units = self.captions.encode(units, self.video.upcoming(REORDER))
        if units:
            self._destination.push_video(units, air_offset_ns)
        if self._position is None:
            self._position = ns_to_samples(min(due_ns, 0))
        while samples_to_ns(self._position) <= due_ns:
            pcm = self._render(self._position)
            if self._dumps is not None:
                self._dumps.take(f"mix.{self.language}", self._position, pcm)
            self._destination.push_audio(
                self._position, pcm, air_offset_ns, video_expected=video_expected or len(self.video) > 0
            )
            self._position += BLOCK
        self._settle()

    def _render(self, position: int) -> bytes:
        if self.dubbing is None:
            return self._render_bypass(position)
        found = self._decide(position, self.dubbing)
        mode = self._force or found
        self._note_mode(mode)
        return to_s16le(self._mixer.render(position, BLOCK, mode))

    def _render_bypass(self, position: int) -> bytes:
        """The original untouched, until an operator wants something else; from then on through the mixer."""
        self._note_mode(self._force)
        if self._force is None and not self._mixing:
            return self._source.original_s16le(position, BLOCK)
        # the mixer's first block is what was on air before, so that it has something to fade from
        mode = (self._force or "original") if self._mixing else "original"
        self._mixing = True
        return to_s16le(self._mixer.render(position, BLOCK, mode))

    def _dump_dub(self, position: int, voice: Pcm) -> None:
        if self._dumps is not None and self._dumps.wanted:
            stereo = np.repeat(voice[:, None], CHANNELS, axis=1)
            self._dumps.take(f"dub.{self.language}", position, to_s16le(stereo))

    def _note_mode(self, mode: FallbackMode | None) -> None:
        cause = None if mode is None else "operator" if self._force is not None else self._policy.cause
        if mode is not None:
            self._fallback_samples += BLOCK
        if (mode, cause) == (self.fallback, self.fallback_cause):
            return
        if mode is not None:
            self._metrics.fallback(mode, str(cause))
            level = logging.INFO if cause == "operator" else logging.WARNING
            log.log(level, "fallback in force: %s", mode, extra=self._fields(reason=str(cause)))
        else:
            log.info("dub on air again", extra=self._fields())
        self.fallback, self.fallback_cause = mode, cause

    def _decide(self, position: int, dubbing: Dubbing) -> FallbackMode | None:
        return self._policy.decide(
            pos=position,
            watermark=ns_to_samples(dubbing.watermark_ns),
            closed=dubbing.closed,
            dub_active=self._track.active(position, BLOCK + MIXER_LOOKAHEAD),
            lost=any(ns_to_samples(start) <= position < ns_to_samples(end) for start, end in dubbing.lost),
        )

    def _settle(self) -> None:
        for verdict in self._track.take_settled():
            entry = self._entry(verdict)
            self._recent.append(entry)
            self._on_entry(entry)
            if entry.placed_ns is not None:
                self._metrics.dub_offset(self.language, entry.dub_offset_s)

    def _entry(self, verdict: Placement | Dropped) -> SegmentEntry:
        segment = verdict.segment
        heard = verdict if isinstance(verdict, Placement) else None
        sequence, self._entries = self._entries, self._entries + 1
        return SegmentEntry(
            sequence=sequence,
            segment_id=segment.segment_id,
            language=self.language,
            source_start_ns=segment.source_start_ns,
            source_end_ns=segment.source_end_ns,
            placed_ns=samples_to_ns(heard.start) if heard else None,
            duration_ns=samples_to_ns(heard.duration) if heard else segment.duration_ns,
            tempo=heard.tempo if heard else 1.0,
            dub_lag_s=self._lags.pop(segment.segment_id, 0.0),
            dub_offset_s=heard.offset_s if heard else 0.0,
            transcript=segment.transcript,
            translation=segment.translation,
            voice=segment.voice,
            air_unix_s=self._air_unix_s(segment.source_start_ns),
        )

    def _fields(self, **more: str) -> dict[str, Any]:
        return {"stage": "mix", "language": self.language, **more}


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None

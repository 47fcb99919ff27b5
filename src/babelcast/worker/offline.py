"""The same steps without a wall clock: a file (or one connection to a stream) in, a file out, as fast as they go.

Where the live session goes by the clock, this one goes by what is known: a block is rendered once the separator
and the backend have dealt with all that belongs to it. Reading pauses 30 s ahead of that, so memory is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from babelcast.audio.mix import MIXER_LOOKAHEAD
from babelcast.audio.pcm import from_s16le
from babelcast.audio.source import SourceAudio
from babelcast.clock import MonotonicClock
from babelcast.errors import IngestError, SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.gst.ingest import Tracks
from babelcast.separate.factory import make_separator
from babelcast.spec import SegmentEntry, WorkerSpec
from babelcast.speech.base import SpeechBackend, SpeechTarget
from babelcast.units import CHANNELS, NS_PER_S, AccessUnit, Pcm, SpeechFrame, samples_to_ns
from babelcast.worker.dubbing import EVERYTHING_NS, Dubbing
from babelcast.worker.file_output import FileOutput
from babelcast.worker.in_force import mix_settings
from babelcast.worker.ingest import Ingest
from babelcast.worker.journal import Journal
from babelcast.worker.listen import Listener
from babelcast.worker.metrics import WorkerMetrics
from babelcast.worker.programme import BLOCK, Programme
from babelcast.worker.timeline import SourceTimeline

log = logging.getLogger(__name__)

_WINDOW_NS = 30 * NS_PER_S
_WINDOW_BYTES = 64 << 20
_WINDOW_BLOCKS = 30
"""Blocks in front of the separator at which reading pauses: half of what its queue holds."""
_STEP_NS = 2 * NS_PER_S
_IDLE_S = 0.01
_STALL_S = 120.0
_UNREACHABLE_S = 10.0
"""How long a speech service that never answered is tried."""
_KNOWN_AHEAD_NS = samples_to_ns(MIXER_LOOKAHEAD + BLOCK) + NS_PER_S // 4
"""What the mixer must know past the playhead, and room for a segment to begin exactly in its place."""

Progress = Callable[[float, float | None], None]
"""(seconds written, seconds in all or None)."""


class DubJob:
    """``spec`` as for a worker, with one target whose output is a file."""

    def __init__(self, spec: WorkerSpec, backend: SpeechBackend | None, on_progress: Progress) -> None:
        target = spec.targets[0]
        self.spec = spec
        self._backend = backend
        self._on_progress = on_progress
        self.entries: list[SegmentEntry] = []
        self._journal = Journal(spec.journal_dir, 1)
        self._timeline = SourceTimeline(late_limit_ns=None)
        self._source = SourceAudio(2 * _WINDOW_NS / NS_PER_S)
        self._ingest = Ingest(
            spec.ingest_url, self._timeline, self, MonotonicClock(), wanted_until=self._wanted_until, once=True
        )
        self._output = FileOutput(target.output_url, audio_bitrate=spec.audio_bitrate)
        self._listener: Listener | None = None
        self._programme = Programme(
            target.language,
            self._source,
            self._output,
            delay_ns=_WINDOW_NS * 4,
            mix=mix_settings(spec),
            fallback=spec.fallback,
            metrics=WorkerMetrics(),
            lag_s=lambda _source_ns: 0.0,  # there is no wall clock to be late against
            on_entry=self._note,
        )
        if backend is not None:
            self._listener = Listener(
                make_separator(spec.separation, spec.separation_model), self._write_background, self._take_speech
            )
            wanted = SpeechTarget(spec.stream_id, spec.source_language, target.language, target.voice)
            self._programme.dubbing = Dubbing(
                backend, wanted, self._programme, lambda: self._programme.playhead_ns, paced=True
            )
        self._has_audio = False

    @property
    def tracks(self) -> Tracks:
        return self._ingest.tracks

    async def run(self) -> None:
        """Raises IngestError, SpeechError or PublishError; the file is then not complete."""
        steps: list[Coroutine[Any, Any, None]] = [self._read()]
        if self._listener is not None:
            steps.append(self._listener.run())
        if self._programme.dubbing is not None:
            steps.append(self._programme.dubbing.run())
        tasks = [asyncio.create_task(step) for step in steps]
        try:
            await self._write(tasks)
            await self._output.finish()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._output.abort()
            self._journal.close()
            if self._backend is not None:
                await self._backend.aclose()

    async def _read(self) -> None:
        await self._ingest.run()
        if not self._has_audio and self._backend is not None:
            raise IngestError("the source has no sound to dub", retryable=False)
        if self._listener is not None:
            await self._listener.drain()
        if self._programme.dubbing is not None:
            self._programme.dubbing.end_input()

    async def _write(self, tasks: list[asyncio.Task[None]]) -> None:
        """Render what is known until everything is."""
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while True:
            for task in tasks:
                if task.done():
                    task.result()
            self._check_backend()
            self._output.check()
            ended = tasks[0].done()
            end_ns = max(self._timeline.end_ns, samples_to_ns(self._programme.dub_end))
            before = self._programme.playhead_ns
            known_ns = self._known_ns(ended)
            if ended and known_ns >= EVERYTHING_NS:
                known_ns = end_ns
                if before >= end_ns:
                    self._programme.advance(end_ns, 0, video_expected=False)
                    return
            if not self._output.full and known_ns > before:
                self._advance(min(known_ns, before + _STEP_NS))
            if self._programme.playhead_ns > before:
                moved = loop.time()
                await asyncio.sleep(0)
            else:
                self._check_stall(loop.time() - moved)
                await asyncio.sleep(_IDLE_S)

    def _advance(self, due_ns: int) -> None:
        self._programme.advance(due_ns, 0, video_expected=self._ingest.video_coming)
        total_ns = self._ingest.duration_ns
        self._on_progress(self._output.written_seconds, total_ns / NS_PER_S if total_ns else None)

    def _known_ns(self, ended: bool) -> int:
        """Source time up to which sound, background and dub are all there."""
        dubbing = self._programme.dubbing
        dealt_with_ns = EVERYTHING_NS if dubbing is None else dubbing.watermark_ns
        if ended:
            return dealt_with_ns
        read_ns = self._ingest.complete_until_ns
        if self._listener is not None and self._has_audio:
            read_ns = min(read_ns, samples_to_ns(self._listener.done_until))
        return min(read_ns, dealt_with_ns) - _KNOWN_AHEAD_NS

    def _check_backend(self) -> None:
        dubbing = self._programme.dubbing
        if dubbing is not None and dubbing.state == "unsupported":
            raise UnsupportedLanguageError(dubbing.last_error or "the speech service refused", code="bad_request")

    def _check_stall(self, seconds: float) -> None:
        dubbing = self._programme.dubbing
        why = dubbing.last_error if dubbing is not None else None
        if dubbing is not None and not dubbing.sessions and seconds > _UNREACHABLE_S:
            raise SpeechUnavailableError(why or "the speech service does not answer")
        if seconds > _STALL_S:
            raise SpeechError(f"nothing has moved for {_STALL_S:.0f} s", code="deadline", hint=why)

    def _wanted_until(self) -> int:
        if self._listener is not None and self._listener.queued_blocks > _WINDOW_BLOCKS:
            return 0
        playhead = self._programme.playhead_ns
        return playhead + (_STEP_NS * 2 if self._programme.video.size_bytes > _WINDOW_BYTES else _WINDOW_NS)

    # --- sinks of ingest and listener ---

    def take_video(self, unit: AccessUnit) -> None:
        self._programme.video.put(unit)

    def take_audio(self, position: int, pcm: bytes) -> None:
        block = from_s16le(pcm, CHANNELS)
        self._has_audio = True
        self._source.write_original(position, block)
        if self._listener is not None:
            self._listener.feed(position, block)

    def _write_background(self, position: int, block: Pcm) -> None:
        self._source.write_background(position, block)

    def _take_speech(self, frame: SpeechFrame) -> None:
        if self._programme.dubbing is not None:
            self._programme.dubbing.feed(frame)

    def _note(self, entry: SegmentEntry) -> None:
        self.entries.append(entry)
        self._journal.add(entry)

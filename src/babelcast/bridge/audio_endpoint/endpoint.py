"""The endpoint: producers and speech in, the mix, the encoder, the listeners. Read this first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Literal

import aiohttp
from pydantic import BaseModel, ConfigDict

from babelcast.bridge.audio_endpoint.aac import AacEncoder
from babelcast.bridge.audio_endpoint.formats import Format
from babelcast.bridge.audio_endpoint.listeners import Full, Listeners
from babelcast.bridge.audio_endpoint.mixer import BLOCK, FALL, RISE, Mixer
from babelcast.bridge.audio_endpoint.producer import Producer, Undecodable
from babelcast.bridge.audio_endpoint.settings import AudioSettings, Mix
from babelcast.bridge.audio_endpoint.speech import Speaker
from babelcast.units import RATE, Pcm

log = logging.getLogger(__name__)

_BLOCKS = 2
"""Of 20 ms, in a step of the clock: listeners are woken 25 times a second."""
_STEP_S = _BLOCKS * BLOCK / RATE
_MOST_BEHIND_S = 0.5


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProducerStatus(_Shown):
    content_type: str
    kind: Literal["live", "file"]
    since: datetime
    received_bytes: int


class BedStatus(_Shown):
    """``queued_s``: the delay of what is heard now. ``trimmed_s``: cut out of bursts so far."""

    state: Literal["silence", "live"]
    queued_s: float
    trimmed_s: float
    underruns: int
    level_db: float


class SpeechStatus(_Shown):
    queued_s: float
    utterances: int
    spoken: int
    failed: int
    level_db: float


class AudioStatus(_Shown):
    output_db: float
    bed: BedStatus
    speech: SpeechStatus
    producer: ProducerStatus | None
    """Whose sound is the bed."""
    producers: int
    """All that send now, with those that are not heard: not yet, or while a file is."""
    replaced: int
    """Producers that a newer one took the place of."""
    undecodable: int
    listeners: int
    max_listeners: int
    listeners_refused: int
    listeners_dropped: int
    listeners_skipped: int
    late_steps: int
    """Times at which the clock was so late that silence is missing."""
    mix: Mix


class Endpoint:
    """Use as ``async with Endpoint.running(settings) as endpoint``."""

    def __init__(self, settings: AudioSettings, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.speaker = Speaker(settings, session)
        self.listeners = Listeners(round(settings.backlog_s / _STEP_S), settings.stuck_s, settings.max_listeners)
        self.mixer = Mixer(Mix())
        self.undecodable = 0
        self._encoder = AacEncoder(settings.bitrate)
        self._producers: set[Producer] = set()
        self._hearing: set[asyncio.Task[None]] = set()
        self._current: Producer | None = None
        self._next: Producer | None = None
        self._aside: Producer | None = None
        """The live one that a file is heard in the place of: what it sends meanwhile is not heard."""
        self._replaced = 0
        self._late = 0
        self._trimmed_s, self._underruns = 0.0, 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: AudioSettings) -> AsyncIterator[Endpoint]:
        """Raises MissingDependencyError."""
        async with aiohttp.ClientSession() as session:
            endpoint = cls(settings, session)
            clock = asyncio.create_task(endpoint._run(), name="audio clock")
            try:
                yield endpoint
            finally:
                for task in (clock, *endpoint._hearing):
                    task.cancel()
                await asyncio.gather(clock, *endpoint._hearing, return_exceptions=True)

    # producers

    async def ingest(
        self, form: Format, body: AsyncIterator[bytes], *, live: bool, whole: Callable[[], bool] = lambda: False
    ) -> int:
        """Hear ``body`` to its end. Returns its bytes. Raises Full, and as :meth:`Producer.run`.

        Cancelled, it ends too; but a live body that is ``whole()`` is still heard: ffmpeg does not wait for an answer.
        """
        if len(self._producers) >= self.settings.max_producers:
            raise Full(f"{len(self._producers)} producers send already")
        producer = Producer(form, self.settings, self._take_over, live=live)
        self._producers.add(producer)
        task = asyncio.create_task(producer.run(body), name="audio producer")
        self._hearing.add(task)
        task.add_done_callback(lambda task: self._ended(producer, task))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not (live and whole()):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            raise
        return producer.received

    def _ended(self, producer: Producer, task: asyncio.Task[None]) -> None:
        self._hearing.discard(task)
        self._producers.discard(producer)
        error = None if task.cancelled() else task.exception()
        self.undecodable += isinstance(error, Undecodable)
        fields = {"type": producer.format.name, "bytes": producer.received}
        log.info("a producer ended%s", f": {error}" if error else "", extra=fields)

    def _take_over(self, producer: Producer) -> None:
        """The newest that has sound is heard next, as soon as enough of it is there."""
        before, self._next = self._next, producer
        self._retire(before)

    def _retire(self, producer: Producer | None) -> None:
        self._note(producer)
        if producer in self._producers:
            assert producer is not None
            self._replaced += 1
            producer.replace()

    def _note(self, producer: Producer | None) -> None:
        """Its figures are kept when it goes."""
        if producer is not None:
            self._trimmed_s += producer.queue.trimmed_s
            self._underruns += producer.queue.underruns

    # the clock

    async def _run(self) -> None:
        begun, steps = time.monotonic(), 0
        while True:
            await asyncio.sleep(begun + (steps + 1) * _STEP_S - time.monotonic())
            behind_s = time.monotonic() - begun - (steps + 1) * _STEP_S
            if behind_s > _MOST_BEHIND_S:  # we were suspended: what is missed stays missed
                begun += behind_s
                self._late += 1
            steps += 1
            try:
                self._step()
            except Exception:  # whatever it is, listeners must not lose their stream
                log.exception("a step of the clock failed")

    def _step(self) -> None:
        frames = b"".join(
            self._encoder.encode(self.mixer.blend(self._bed(), self.speaker.queue.take(BLOCK))) for _ in range(_BLOCKS)
        )
        if frames:
            self.listeners.publish(frames)

    def _bed(self) -> Pcm | None:
        block, aside = self._taken(self._current), self._taken(self._aside)
        if self._current is None and self._aside is not None:  # the file is over
            self._current, self._aside = self._aside, None
            block = None if aside is None else aside * RISE
        if self._next is None or (begins := self._taken(self._next)) is None:
            return block
        before, self._current, self._next = self._current, self._next, None
        if before is not None and before.live and not self._current.live:
            self._aside = before
        else:
            self._retire(before)
        if self._current.live and self._aside is not None:
            self._retire(self._aside)
            self._aside = None
        log.info("a producer is heard", extra={"type": self._current.format.name, "live": self._current.live})
        return begins if block is None else begins + block * FALL

    def _taken(self, producer: Producer | None) -> Pcm | None:
        if producer is None:
            return None
        block = producer.queue.take(BLOCK)
        if block is None and producer.queue.finished and producer is not self._next:
            self._note(producer)
            if producer is self._current:
                self._current = None
            else:
                self._aside = None
        return block

    # what is shown

    def status(self) -> AudioStatus:
        current, mixer, speech = self._current, self.mixer, self.speaker.queue
        queue = current.queue if current else None
        going = [each.queue for each in (current, self._aside) if each is not None]
        return AudioStatus(
            output_db=round(mixer.output_db, 1),
            bed=BedStatus(
                state="live" if queue and queue.seconds > 0 else "silence",
                queued_s=round(queue.seconds, 3) if queue else 0.0,
                trimmed_s=round(self._trimmed_s + sum(each.trimmed_s for each in going), 3),
                underruns=self._underruns + sum(each.underruns for each in going),
                level_db=round(mixer.bed_db, 1),
            ),
            speech=SpeechStatus(
                queued_s=round(speech.seconds, 3),
                utterances=speech.count,
                spoken=speech.spoken,
                failed=self.speaker.failed,
                level_db=round(mixer.speech_db, 1),
            ),
            producer=ProducerStatus(
                content_type=current.format.name,
                kind="live" if current.live else "file",
                since=current.since,
                received_bytes=current.received,
            )
            if current
            else None,
            producers=len(self._producers),
            replaced=self._replaced,
            undecodable=self.undecodable,
            listeners=self.listeners.count,
            max_listeners=self.settings.max_listeners,
            listeners_refused=self.listeners.refused,
            listeners_dropped=self.listeners.dropped,
            listeners_skipped=self.listeners.skipped,
            late_steps=self._late,
            mix=mixer.mix,
        )

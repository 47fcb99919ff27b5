"""One connection of a session: what it hears, what it says, and whether it is well."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from babelcast.clock import Clock
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.speech.cost import CostMeter
from babelcast.speech.interpreter.connection import Connection, Ended, GoAway, Handle, Heard, Message, Said, Sound
from babelcast.speech.interpreter.inbox import Chunk, Gate
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.speech.interpreter.voice import Piece, Voice
from babelcast.speech.lineage import Lineage
from babelcast.units import NS_PER_S, SPEECH_RATE, DubSegment

log = logging.getLogger(__name__)

_MAX_HELD = 64
_STALL_S = 0.8
"""A piece in progress that gets no more sound for this long is taken as it is."""
_NEW_S = 2.5
"""What comes after no sound at all for this long is something new: no service's bursts are further apart."""


class Leg:
    """Receives from :meth:`start` to :meth:`aclose`. Finished segments wait in ``ready`` (full policy: drop the
    oldest and count it), without ``sequence``: the session numbers them."""

    def __init__(
        self, connection: Connection, number: int, meter: CostMeter, clock: Clock, settings: InterpreterSettings
    ) -> None:
        self.number = number
        self._connection = connection
        self._meter = meter
        self._clock = clock
        self._settings = settings
        self._gate = Gate(settings.speech_dbfs, settings.audible_dbfs)
        self._voice = Voice(settings.max_segment_s, settings.output_dbfs)
        self._task: asyncio.Task[None] | None = None
        self._pieces = 0
        self._seconds_in = 0.0
        self._message_ns = self._sound_ns = clock.now_ns()
        self._mute_s = 0.0
        self._mute_text = False
        self.lineage = Lineage(settings.lineage)
        self.opened_ns = clock.now_ns()
        self.ready: deque[DubSegment] = deque(maxlen=_MAX_HELD)
        self.partial = ""
        """Transcript of the source that no segment has taken yet."""
        self.handle: str | None = None
        self.closes_at_ns: int | None = None
        """When the service said that it closes."""
        self.error: SpeechError | None = None
        self.ended = False
        self.dropped = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._receive(), name=f"interpreter {self.number}")

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.aclose()

    # what it hears

    async def hear(self, chunk: Chunk) -> None:
        """Send a chunk. A failure is kept in ``error``, and so is a service that takes no more."""
        try:
            async with asyncio.timeout(self._settings.silent_s):
                await self._connection.send_audio(chunk.pcm)
        except TimeoutError:
            self.error = self.error or SpeechUnavailableError("the interpreter takes no sound", code="deadline")
            return
        except SpeechError as error:
            self.error = self.error or error
            return
        seconds = len(chunk.pcm) / 2 / SPEECH_RATE
        self._seconds_in += seconds
        self._meter.seconds_in += seconds
        if chunk.start_ns is not None and chunk.end_ns is not None:
            speech, audible = self._gate.judge(chunk.pcm)
            self.lineage.sent(chunk.start_ns, chunk.end_ns, speech=speech, audible=audible)
            if speech:
                self._mute_s += seconds

    async def finish(self) -> bool:
        """No more source comes. See :meth:`babelcast.speech.interpreter.connection.Connection.finish`."""
        self.lineage.ended()
        try:
            async with asyncio.timeout(self._settings.silent_s):
                return await self._connection.finish()
        except TimeoutError:
            self.error = self.error or SpeechUnavailableError("the interpreter takes no sound", code="deadline")
        except SpeechError as error:
            self.error = self.error or error
        return True

    # what it says

    @property
    def drift_s(self) -> float:
        """Seconds that came less seconds that went."""
        return self._voice.position_ns / NS_PER_S - self._seconds_in

    @property
    def quiet_s(self) -> float:
        """How long no speech came: by the output, or by the clock where it stalls."""
        stalled_s = (self._clock.now_ns() - self._sound_ns) / NS_PER_S
        return max(self._voice.quiet_ns / NS_PER_S, stalled_s if stalled_s > _NEW_S else 0.0)

    @property
    def speaking(self) -> bool:
        return self._voice.speaking

    def spent(self) -> bool:
        """Whether it has nothing more to say, as far as can be known."""
        if self.ended or self.error:
            return True
        quiet = self.quiet_s
        return not self.speaking and quiet >= 1.0 and self.lineage.unspoken_ns(round(quiet * NS_PER_S)) is None

    def check(self) -> None:
        """Take what stalled; notice a connection that is silent or mute."""
        now_ns = self._clock.now_ns()
        if self.speaking and now_ns - self._sound_ns > _STALL_S * NS_PER_S:
            self._deliver(self._voice.flush())
        if self.error or self.ended:
            return
        if now_ns - self._message_ns > self._settings.silent_s * NS_PER_S:
            self.error = SpeechUnavailableError("the interpreter says nothing", code="deadline")
        elif self._mute_s > self._settings.mute_s and self._mute_text:
            self.error = SpeechUnavailableError(
                f"the interpreter understands and gives no sound for {self._settings.mute_s:g} s", code="engine_failed"
            )

    async def _receive(self) -> None:
        try:
            while not self.ended:
                for message in await self._connection.receive():
                    self._message_ns = self._clock.now_ns()
                    self._take(message)
        except SpeechError as error:
            self.error = self.error or error
        except Exception as error:  # a message that no version of the protocol has: this connection only
            log.exception("interpreter connection failed")
            self.error = SpeechUnavailableError(f"the interpreter's client failed: {error}", code="internal")
        self._deliver(self._voice.flush())

    def _take(self, message: Message) -> None:
        match message:
            case Sound():
                self._sound(message)
            case Heard(text):
                self.lineage.heard(text)
                self.partial = (self.partial + text)[-500:]
                self._mute_text = self._mute_text or bool(text.strip())
            case Said(text):
                self.lineage.said(text)
            case GoAway(left_s):
                self.closes_at_ns = self._clock.now_ns() + round(left_s * NS_PER_S)
                log.info("the interpreter goes away in %.0f s", left_s)
            case Handle(value):
                self.handle = value or self.handle
            case Ended():
                self.ended = True

    def _sound(self, sound: Sound) -> None:
        before_ns = self._voice.position_ns
        if self._clock.now_ns() - self._sound_ns > _NEW_S * NS_PER_S:
            self._voice.pause()
        pieces = self._voice.add(sound)
        self._sound_ns = self._clock.now_ns()
        self._meter.seconds_out += (self._voice.position_ns - before_ns) / NS_PER_S
        self.lineage.received(self._voice.position_ns)
        if self.speaking or pieces:
            self._mute_s, self._mute_text = 0.0, False
        self._deliver(pieces)

    def _deliver(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            span = self.lineage.span(piece.start_ns, piece.end_ns, opens=piece.opens, closes=piece.closes)
            translation = self.lineage.take_translation()
            if span is None:  # nothing but silence was sent that it could speak
                continue
            if len(self.ready) == _MAX_HELD:
                self.dropped += 1
            transcript = self.lineage.take_transcript(span.end_ns)
            self.partial = "" if transcript else self.partial
            self.ready.append(
                DubSegment(
                    segment_id=f"{self.number}-{self._pieces}",
                    sequence=0,
                    source_start_ns=span.start_ns,
                    source_end_ns=span.end_ns,
                    samples=piece.samples,
                    rate=piece.rate,
                    transcript=transcript,
                    translation=translation,
                )
            )
            self._pieces += 1

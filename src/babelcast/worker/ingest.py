"""The source: connected, read, put on the timeline; connected again when it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from babelcast.clock import Clock
from babelcast.errors import IngestError
from babelcast.gst.bridge import End, Packet
from babelcast.gst.ingest import IngestPipeline, Tracks, is_live
from babelcast.rtmp.url import asking_longer
from babelcast.telemetry.redact import redact
from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit
from babelcast.worker.backoff import ImpatientBackoff
from babelcast.worker.knock import why_absent
from babelcast.worker.placement import AudioPlacement
from babelcast.worker.pulse import Pulse
from babelcast.worker.rejoin import RecentPictures, Successor, jumped_back
from babelcast.worker.seam import Seam
from babelcast.worker.timeline import SourceTimeline

log = logging.getLogger(__name__)

_SETTLE_NS = 300 * NS_PER_MS
"""How long the first units of a connection are looked at before their place is decided."""
_PICTURE_NS = 20 * NS_PER_MS
_PCM_FRAME_BYTES = 4
_SAME_PLACE_NS = 500 * NS_PER_MS
_SAME_PICTURE_NS = 5 * NS_PER_MS
_IDLE_NS = 5 * NS_PER_S
_REJOIN_PAUSE_NS = 250 * NS_PER_MS
_REJOIN_ATTEMPTS = 40
"""As long as a group of pictures lasts. In short pauses: after a wrap there is no sound before the next group that a
fresh connection begins with."""
_SILENCE = bytes(480 * _PCM_FRAME_BYTES)
_SILENT_TRACK_NS = 3 * NS_PER_S
_FILE_WINDOW_NS = 30 * NS_PER_S

IngestState = Literal["starting", "waiting", "live", "reconnecting", "ended"]


class MediaSink(Protocol):
    """Implemented by session.WorkerSession."""

    def take_video(self, unit: AccessUnit) -> None: ...

    def take_audio(self, position: int, pcm: bytes) -> None:
        """``pcm``: S16LE stereo at 48 kHz whose first sample has ``position`` on the source timeline."""
        ...


@dataclass(slots=True)
class _Connection:
    """What is known of one connection."""

    pipeline: IngestPipeline
    first_arrival_ns: int | None = None
    last_arrival_ns: int = 0
    begun: bool = False
    early: list[tuple[int, list[Packet], list[Packet]]] = field(default_factory=list)
    needs_key: bool = True
    video_ns: int | None = None
    audio_ns: int | None = None
    video_dts_ns: int | None = None  # in running time
    jumped: bool = False
    rejoin_at_ns: int = 0
    rejoin_attempts: int = 0
    video_floor_ns: int | None = None  # what lies before has come by the connection before
    seam: Seam | None = None


class Ingest:
    """Runs until it is cancelled; a file, and any source with ``once``, ends with its first connection.

    ``wanted_until`` bounds how far a file is read ahead: it gives the source time up to which units are wanted.
    """

    def __init__(
        self,
        url: str,
        timeline: SourceTimeline,
        sink: MediaSink,
        clock: Clock,
        *,
        wanted_until: Callable[[], int] | None = None,
        once: bool = False,
        pulse: Pulse | None = None,
    ) -> None:
        self._url = url
        self._live = is_live(url)
        self._timeline = timeline
        self._sink = sink
        self._clock = clock
        self._wanted_until = wanted_until
        self._once = once or not self._live
        self._pulse = pulse or Pulse()
        self._rejoins_here = self._live and url.startswith("rtmp")
        self._connection: _Connection | None = None
        self._successor: Successor | None = None
        self._recent = RecentPictures()
        self._left_off: tuple[int | None, Seam] | None = None
        self._first_url: str | None = None
        self.rejoins = 0
        """How often a connection was replaced because its timestamps had gone back."""
        self.placement = AudioPlacement()
        self.state: IngestState = "starting"
        self.tracks = Tracks(None, None, None)
        self.last_error: str | None = None
        self.connections = 0

    def resume(self, pictures: Sequence[AccessUnit], sound: Seam) -> None:
        """Another worker has read the source up to here. The first connection goes on from there to the picture and to
        the sample, where the server still has the last of them; else from its next key frame."""
        for unit in pictures:
            if unit.key:
                self._recent.note(unit.data, unit.dts_ns)
        self._left_off = (pictures[-1].dts_ns if pictures else None, sound)
        if pictures:
            self._first_url = asking_longer(self._url)

    @property
    def video_coming(self) -> bool:
        """The source has pictures, though perhaps no key frame has come yet."""
        return self._connection is not None and self._connection.pipeline.has_video

    @property
    def complete_until_ns(self) -> int:
        """Source time up to which every track that the source has was read."""
        connection = self._connection
        if connection is None or connection.first_arrival_ns is None:
            return 0
        present = (
            (connection.pipeline.has_video, connection.video_ns),
            (connection.pipeline.has_audio, connection.audio_ns),
        )
        return min((read or 0 for there, read in present if there), default=0)

    @property
    def duration_ns(self) -> int | None:
        """Length of a file; None where it isn't known."""
        return self._connection.pipeline.duration_ns() if self._connection is not None else None

    @property
    def missing_tracks(self) -> tuple[str, ...]:
        """Tracks that the source, read for 3 s by now, has shown nothing of."""
        connection = self._connection
        if connection is None or connection.first_arrival_ns is None:
            return ()
        if self._clock.now_ns() - connection.first_arrival_ns < _SILENT_TRACK_NS:
            return ()
        tracks = (("video", connection.video_ns), ("audio", connection.audio_ns))
        return tuple(name for name, last in tracks if last is None)

    async def run(self) -> None:
        """Raises IngestError where another attempt is no use."""
        pause = ImpatientBackoff(self._clock)
        while True:
            end = await self._one_connection()
            self.last_error = redact(end.error) if end.error else None
            if self._once:
                self.state = "ended"
                if end.error:
                    raise IngestError(f"the source could not be read: {redact(end.error)}", retryable=False)
                return
            if self.state == "live":
                pause.reset()
                log.warning("source lost: %s", end.error or "end of stream", extra={"stage": "ingest"})
                self.state = "reconnecting"
            elif self.state == "starting":
                log.info("waiting for the source: %s", end.error or "end of stream", extra={"stage": "ingest"})
                self.state = "waiting"
            await asyncio.sleep(pause.next_s())
            while (why := await why_absent(self._url)) is not None:
                self.last_error = redact(why)
                await asyncio.sleep(pause.next_s())

    async def _one_connection(self) -> End:
        pipeline, self._first_url = IngestPipeline(self._first_url or self._url), None
        self._connection = connection = _Connection(pipeline)
        try:
            await pipeline.start()
            while True:
                idle = self._poll(connection)
                if connection.jumped or self._successor is not None:
                    self._connection = connection = await self._rejoin(connection)
                    pipeline = connection.pipeline
                self._look_at_tracks(pipeline)
                ended = pipeline.poll_end()  # at every tick: it also hears what breaks in the sound alone
                end = (ended or self._starved(connection)) if idle else None
                if end is not None:
                    self._begin(connection)
                    return end
                await (self._pulse.next_tick() if idle or self._live else asyncio.sleep(0))
        finally:
            self._connection = None
            self._end_softly()
            await self._give_up_successor()
            await pipeline.stop()

    async def _rejoin(self, connection: _Connection) -> _Connection:
        """Bring a second connection on its way; the one that is read from now on, which may be it already."""
        successor = self._successor
        if successor is None:
            if self._clock.now_ns() >= connection.rejoin_at_ns:
                connection.rejoin_attempts += 1
                self._successor = successor = Successor(self._url, self._clock)
                await successor.start()
            return connection
        if not successor.poll():
            await self._give_up_successor()
            connection.rejoin_at_ns = self._clock.now_ns() + _REJOIN_PAUSE_NS
            connection.jumped = connection.rejoin_attempts < _REJOIN_ATTEMPTS
            return connection
        offset_ns = self._recent.offset_of(successor.video)
        if offset_ns is None:
            return connection
        self._successor = None
        sound_end = self.placement.end
        self.placement.restart()
        self._timeline.adopt(offset_ns)
        after = _Connection(successor.pipeline, begun=True, needs_key=False)
        after.seam = Seam(sound_end) if sound_end is not None else None
        after.video_floor_ns, after.first_arrival_ns = connection.video_ns, connection.first_arrival_ns
        after.last_arrival_ns = now = self._clock.now_ns()
        self.rejoins += 1
        log.info("timestamps went back: a new connection has taken over", extra={"stage": "ingest"})
        self._deliver(after, now, successor.video, successor.audio)
        await connection.pipeline.stop()
        return after

    async def _give_up_successor(self) -> None:
        successor, self._successor = self._successor, None
        if successor is not None:
            await successor.pipeline.stop()

    def _end_softly(self) -> None:
        """A live source's sound has broken off: a little silence behind it, a sample apart, has it faded out."""
        end = self.placement.end
        if self._live and end is not None:
            self._sink.take_audio(end + 1, _SILENCE)
            self.placement.restart()

    def _starved(self, connection: _Connection) -> End | None:
        """A media server may keep its readers while its own source hangs: for all protocols that is a loss."""
        if not self._live or not connection.begun:
            return None
        silent_ns = self._clock.now_ns() - connection.last_arrival_ns
        return End(f"nothing came for {_IDLE_NS // NS_PER_S} s") if silent_ns > _IDLE_NS else None

    def _look_at_tracks(self, pipeline: IngestPipeline) -> None:
        """Also while nothing comes: a source may have nothing that can be read."""
        tracks, before = pipeline.tracks, self.tracks
        if tracks.unsupported is not None and str(tracks.unsupported) != str(before.unsupported):
            log.warning("%s", tracks.unsupported, extra={"stage": "ingest"})
        # what the last connection said holds until this one says something
        if tracks != Tracks(None, None, None):
            self.tracks = tracks

    def _poll(self, connection: _Connection) -> bool:
        """Take what has come; True when that was nothing."""
        video, audio = self._pull(connection)
        if not video and not audio:
            return True
        now = self._clock.now_ns()
        if connection.first_arrival_ns is None:
            connection.first_arrival_ns = now
        connection.last_arrival_ns = now
        if connection.begun:
            self._deliver(connection, now, video, audio)
        else:
            connection.early.append((now, video, audio))
            if not self._live or now - connection.first_arrival_ns >= _SETTLE_NS:
                self._begin(connection)
        return False

    def _pull(self, connection: _Connection) -> tuple[list[Packet], list[Packet]]:
        pipeline = connection.pipeline
        if self._wanted_until is None:
            return pipeline.pull_video(), pipeline.pull_audio()
        wanted = self._wanted_until()
        behind = min(connection.video_ns or 0, connection.audio_ns or 0)
        # one track may be read past the bound while the other, further back in the file, has not been reached
        starving = behind < wanted - _FILE_WINDOW_NS // 2
        video = pipeline.pull_video(30) if starving or (connection.video_ns or 0) < wanted else []
        audio = pipeline.pull_audio(10) if starving or (connection.audio_ns or 0) < wanted else []
        return video, audio

    def _begin(self, connection: _Connection) -> None:
        """Decide where the connection lies on the timeline, and deliver what was held back for that."""
        arrivals = [
            (packet.dts_ns, arrival)
            for arrival, video, audio in connection.early
            for packet in (*video, *audio)
            if packet.dts_ns is not None
        ]
        early, connection.early = connection.early, []
        if not arrivals:
            return
        offset_ns = self._offset_where_left_off(arrivals, early)
        picture_ns, connection.seam = self._left_off or (None, None)
        if offset_ns is not None:
            self._timeline.adopt(offset_ns)
            connection.video_floor_ns, connection.needs_key = picture_ns, False
        else:
            self._timeline.begin(arrivals)
        self._left_off = None
        self.placement.restart()
        connection.begun = True
        self.connections += 1
        self.state = "live"
        self.last_error = None
        log.info("source connected", extra={"stage": "ingest", "connection": self.connections})
        for arrival, video, audio in early:
            self._deliver(connection, arrival, video, audio)

    def _offset_where_left_off(
        self, arrivals: list[tuple[int, int]], early: list[tuple[int, list[Packet], list[Packet]]]
    ) -> int | None:
        """By a key frame that the worker before has seen too. One that is elsewhere by its arrival is another one that
        looks the same: pictures that stand still are alike."""
        epoch_ns = self._timeline.epoch_ns
        if self._left_off is None or epoch_ns is None:
            return None
        offset_ns = self._recent.offset_of(packet for _, video, _ in early for packet in video)
        lead_ns = min(arrival - running for running, arrival in arrivals) - epoch_ns
        return offset_ns if offset_ns is not None and abs(offset_ns - lead_ns) < _SAME_PLACE_NS else None

    def _deliver(self, connection: _Connection, arrival_ns: int, video: list[Packet], audio: list[Packet]) -> None:
        for packet in video:
            self._deliver_video(connection, arrival_ns, packet)
        for packet in audio:
            self._deliver_audio(connection, arrival_ns, packet)

    def _deliver_video(self, connection: _Connection, arrival_ns: int, packet: Packet) -> None:
        if packet.pts_ns is None or packet.dts_ns is None:
            return
        if connection.needs_key and packet.delta:
            return
        connection.needs_key = False
        if self._rejoins_here and jumped_back(packet, connection.video_dts_ns):
            connection.jumped = True
        connection.video_dts_ns = packet.dts_ns
        dts = self._timeline.place("video", packet.dts_ns, _PICTURE_NS, arrival_ns)
        if connection.video_floor_ns is not None and dts <= connection.video_floor_ns + _SAME_PICTURE_NS:
            return
        connection.video_ns = dts
        if self._rejoins_here:
            self._recent.note(packet.data, dts)
        pts = dts + packet.pts_ns - packet.dts_ns
        self._sink.take_video(AccessUnit(pts, dts, not packet.delta, packet.data, packet.caps))

    def _deliver_audio(self, connection: _Connection, arrival_ns: int, packet: Packet) -> None:
        if packet.pts_ns is None:
            return
        samples = len(packet.data) // _PCM_FRAME_BYTES
        duration = samples * NS_PER_S // 48_000
        start = self._timeline.place("audio", packet.pts_ns, duration, arrival_ns)
        connection.audio_ns = start
        position, pcm = self.placement.place(start, packet.data)
        if connection.seam is not None and not connection.seam.passed:
            position, pcm = connection.seam.take(position, pcm)
            self.placement.move(connection.seam.moved)
        if pcm:
            self._sink.take_audio(position, pcm)

"""A connection is replaced by a new one while it runs, because its demuxer has lost the distance of its tracks.

FLV's timestamps may go back within a connection: an encoder that begins anew, or 32 bits of milliseconds that are
over after 49.7 days. GStreamer's flvdemux then takes the jump out of each track by that track's own last tag, so that
sound and pictures are up to a picture and an AAC frame apart from there on; after a wrap, the sound decoder throws
all sound away. A fresh demuxer does neither. So a second connection is opened beside the first; once a picture shows
up in it that the first one delivered too, the two can be laid upon each other, and the second goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from babelcast.clock import Clock
from babelcast.gst.bridge import Packet
from babelcast.gst.ingest import IngestPipeline
from babelcast.units import NS_PER_MS, NS_PER_S

_BACK_NS = 500 * NS_PER_MS
_PATIENCE_NS = 15 * NS_PER_S
_MAX_PACKETS = 3_000
_RECENT = 200


def jumped_back(packet: Packet, before_ns: int | None) -> bool:
    """Whether a picture shows that its track's timestamps have gone back."""
    if packet.resync:
        return True
    return before_ns is not None and packet.dts_ns is not None and packet.dts_ns < before_ns - _BACK_NS


class RecentPictures:
    """The latest pictures of the connection that is on, with their source times."""

    def __init__(self) -> None:
        self._times: deque[tuple[bytes, int]] = deque(maxlen=_RECENT)

    def note(self, data: bytes, time_ns: int) -> None:
        self._times.append((data, time_ns))

    def offset_of(self, packets: Iterable[Packet]) -> int | None:
        """Source time minus running time of the other connection, by its newest picture that both have."""
        known = {data: time_ns for data, time_ns in self._times}
        for packet in reversed(list(packets)):
            if packet.dts_ns is not None and packet.data in known:
                return known[packet.data] - packet.dts_ns
        return None


class Successor:
    """The second connection, until it can take over. Bounded by time (15 s) and by 3,000 packets: *give up*."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.pipeline = IngestPipeline(url)
        self.video: list[Packet] = []
        self.audio: list[Packet] = []
        self._clock = clock
        self._deadline_ns = clock.now_ns() + _PATIENCE_NS

    async def start(self) -> None:
        await self.pipeline.start()

    def poll(self) -> bool:
        """Take what has come. False: it is of no use (it ended, it takes too long, or what the server kept for it
        reaches back to before the jump)."""
        video = self.pipeline.pull_video()
        last_ns = self.video[-1].dts_ns if self.video else None
        for packet in video:
            if jumped_back(packet, last_ns):
                return False
            last_ns = packet.dts_ns
        self.video += video
        self.audio += self.pipeline.pull_audio()
        if self.pipeline.poll_end() is not None or len(self.video) + len(self.audio) > _MAX_PACKETS:
            return False
        return self._clock.now_ns() < self._deadline_ns

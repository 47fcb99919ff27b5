"""The one crossing between GStreamer's streaming threads and asyncio.

It is the application elements' own queue, and nothing else: a streaming thread leaves a sample in an appsink's
queue, and the event loop takes what is there on its next tick (:meth:`SinkReader.pull`, which never waits). The
other way round, :func:`buffer_of` makes a buffer that the loop leaves in an appsrc. The bus is read the same way
(:func:`poll_end`). So no Python runs on a streaming thread while media flows:
no callback per packet, no lock, no signal that would keep a dead pipeline's file descriptors open, and a tick
costs the same whether one packet has come or ten.

The queue's policy is *pause*: when it is full, the streaming thread waits, and with it the socket or file it reads.

Bytes and timestamps are copied out of the sample here (PyGObject gives the memory back with the sample).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from babelcast.gst.runtime import NONE_NS, Gst
from babelcast.threads import to_its_end

_TIME = Gst.Format.TIME
_DELTA_UNIT = Gst.BufferFlags.DELTA_UNIT
_DISCONT = Gst.BufferFlags.DISCONT
_RESYNC = Gst.BufferFlags.RESYNC


@dataclass(frozen=True, slots=True)
class Packet:
    """A buffer of an appsink, with its times in the pipeline's running time (ns). ``pts_ns`` None: it had none.

    ``resync``: the demuxer took a jump of the timestamps out in front of it."""

    data: bytes
    pts_ns: int | None
    dts_ns: int | None
    delta: bool
    discont: bool
    caps: str
    resync: bool = False


class SinkReader:
    """Takes packets out of one appsink. Used by one thread."""

    def __init__(self, appsink: Any) -> None:
        self._sink = appsink
        self._caps: Any = None
        self._caps_text = ""

    def pull(self, limit: int = 1_000) -> list[Packet]:
        """What lies in the queue now, ``limit`` packets at most. Never waits."""
        packets: list[Packet] = []
        while len(packets) < limit and (sample := self._sink.try_pull_sample(0)) is not None:
            packets.append(self._packet(sample))
        return packets

    @property
    def ended(self) -> bool:
        """EOS has come and the queue is empty."""
        return bool(self._sink.is_eos())

    @property
    def caps(self) -> str:
        """Caps of the last packet, as a string; empty before the first."""
        return self._caps_text

    def _packet(self, sample: Any) -> Packet:
        buffer = sample.get_buffer()
        caps = sample.get_caps()
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps, self._caps_text = caps, caps.to_string()
        pts, dts = _running_time(sample.get_segment(), buffer.pts, buffer.dts)
        return Packet(
            data=buffer.extract_dup(0, buffer.get_size()),
            pts_ns=pts,
            dts_ns=dts,
            delta=buffer.has_flags(_DELTA_UNIT),
            discont=buffer.has_flags(_DISCONT),
            caps=self._caps_text,
            resync=buffer.has_flags(_RESYNC),
        )


def _running_time(segment: Any, pts: int, dts: int) -> tuple[int | None, int | None]:
    """DTS goes by its distance to PTS: with B-frames it may lie before the segment, where running time is undefined."""
    if pts == NONE_NS:
        return None, None
    running = segment.to_running_time(_TIME, pts)
    if running == NONE_NS:  # before the segment
        running = pts - segment.start
    return running, running if dts == NONE_NS else running - (pts - dts)


def buffer_of(data: bytes, pts_ns: int, *, dts_ns: int | None = None, duration_ns: int | None = None) -> Any:
    """A buffer that owns a copy of ``data``, for an appsrc."""
    buffer = Gst.Buffer.new_wrapped(data)
    buffer.pts = pts_ns
    if dts_ns is not None:
        buffer.dts = dts_ns
    if duration_ns is not None:
        buffer.duration = duration_ns
    return buffer


@dataclass(frozen=True, slots=True)
class End:
    """Why a pipeline has ended: ``error`` is None at the end of the stream."""

    error: str | None
    debug: str = ""


def poll_end(bus: Any, spare: Callable[[Any, str], bool] | None = None) -> End | None:
    """The next EOS or error on ``bus``, without waiting. Other messages are thrown away.

    ``spare`` is asked of each error (element, reason): True means that it doesn't end the pipeline.
    """
    while (message := bus.pop_filtered(Gst.MessageType.EOS | Gst.MessageType.ERROR)) is not None:
        if message.type == Gst.MessageType.EOS:
            return End(None)
        error, debug = message.parse_error()
        if spare is None or not spare(message.src, error.message):
            return End(error.message, debug or "")
    return None


async def change_state(pipeline: Any, state: Any) -> Any:
    """Set the state on a thread, and give what GStreamer says of it. Who is cancelled meanwhile leaves once it is set.

    A pipeline that is dropped before it is NULL takes the process along: the thread of GStreamer 1.22's rtmp2 elements
    then frees its own element with that one's lock held, and ``g_mutex_clear`` aborts.
    """
    return await to_its_end(pipeline.set_state, state)

"""The output pipeline: access units and PCM in, FLV over RTMP (or a file) out.

One :class:`PublishPipeline` is one connection, or one file. Times given to it are its own running time; where it
is live, running time 0 is ``base_time_ns`` of the system clock. The sink sends what it gets when it gets it: the
caller's tick is the pace (a sink that waits for the clock packet by packet costs a sixth of the whole worker).

Three corrections are made here and nowhere else:

- AAC priming: the encoder's output is :data:`AAC_PRIMING_SAMPLES` late and says nothing about it, so PCM is pushed
  with that much earlier a PTS.
- flvmux takes its first tag as zero and clamps what is earlier. A live session begins with sound, and its pictures
  come later; a file begins with its first key frame, so nothing may be pushed before that one's DTS.
- H.264 caps (with the codec's headers) are set on the appsrc as the access units carry them; they change at key
  frames only, and flvmux then writes a new sequence header.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from babelcast.errors import PublishError
from babelcast.gst.bridge import End, buffer_of, change_state, poll_end
from babelcast.gst.runtime import NONE_NS, Gst, system_clock
from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit, samples_to_ns

log = logging.getLogger(__name__)

AAC_PRIMING_SAMPLES = 1024
"""Delay of ``avenc_aac`` in samples."""

_PCM_CAPS = "audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved"
# The default coder (two-loop search) costs three times the processor for no audible gain at these rates.
# Its intensity stereo puts wide sound above 7.5 kHz in anti-phase (correlation −0.4 where the source has 0): whoever
# listens in mono would lose it. Its temporal noise shaping makes clicks of up to −38 dBFS in speech, one in half a
# minute, and without it the noise is half a decibel lower besides.
_ENCODER = (
    "audioconvert ! avenc_aac name=encoder aac-coder=fast aac-is=false aac-tns=false bitrate={bitrate} ! aacparse"
)
_APPSRC = "format=time is-live={live} block=false max-bytes=0 max-buffers=0 max-time=0"
# chunk-size: the protocol's default of 128 bytes makes 6,000 chunks a second out of 6 Mb/s.
_RTMP_SINK = "rtmp2sink name=sink sync=false async-connect=true timeout=5 chunk-size=65536 enable-last-sample=false"
# latency: without it the muxer takes one packet at a time from each track, and wakes the encoder's thread for each.
# It waits that much longer for a track that brings nothing before it sends the other one alone. What comes after its
# turn then gets a wrong timestamp, so while both tracks come the muxer is made to wait long: a process that was kept
# from the processor for a second is late with both, and muxes them in order.
_LIVE_MUXER = f"flvmux name=mux streamable=true latency={200 * NS_PER_MS}"
_PATIENCE_NS = {True: 3 * NS_PER_S, False: 200 * NS_PER_MS}
_SOUND_ALONE_NS = 350 * NS_PER_MS
_MUXERS = {
    ".mp4": "mp4mux name=mux faststart=true",
    ".m4v": "mp4mux name=mux faststart=true",
    ".mov": "qtmux name=mux faststart=true",
    ".mkv": "matroskamux name=mux",
    ".flv": "flvmux name=mux",
    ".ts": "mpegtsmux name=mux",
}
PRIMER_NS = 2_500 * NS_PER_MS
"""Of running time in front of what a live session begins with: see :meth:`PublishPipeline.prime`."""
_PRIMER_AT_NS = (0, PRIMER_NS - 300 * NS_PER_MS)
_PRIMER_SAMPLES = 2_048
_PENDING_LIMIT_NS = 6_000_000_000
_HANDSHAKE_BYTES = 8_000


def is_live_output(url: str) -> bool:
    """Whether ``url`` is pushed in real time (RTMP) or written as a file. Raises PublishError for neither."""
    scheme = urlsplit(url).scheme.lower() if "://" in url else "file"
    if scheme in {"rtmp", "rtmps"}:
        return True
    if scheme == "file" and Path(url).suffix.lower() in _MUXERS:
        return False
    raise PublishError(
        f"the output can't be written as {scheme if scheme != 'file' else Path(url).suffix or 'a file without suffix'}",
        hint=f"rtmp://, rtmps:// or a file ending in {', '.join(_MUXERS)}",
        retryable=False,
    )


class PublishPipeline:
    """One output session. All methods are called from the event loop's thread."""

    def __init__(self, url: str, *, with_video: bool, audio_bitrate: int, base_time_ns: int | None) -> None:
        """``base_time_ns`` (system clock) is running time 0 of a live output; None for a file."""
        self._url = url
        self._live = base_time_ns is not None
        self._base_time_ns = base_time_ns
        self._with_video = with_video
        self._bitrate = audio_bitrate
        self._pipeline: Any = None
        self._video: Any = None
        self._audio: Any = None
        self._sink: Any = None
        self._caps = ""
        self._connected = False
        self._last_dts_ns = -1
        self._patient = False

    def start(self) -> None:
        """Begin to connect (or open the file); never blocks. What goes wrong is seen in :meth:`poll_end`."""
        self._pipeline = Gst.parse_launch(self._description())
        self._video = self._pipeline.get_by_name("video")
        self._audio = self._pipeline.get_by_name("audio")
        self._sink = self._pipeline.get_by_name("sink")
        self._sink.set_property("location", self._url.removeprefix("file://"))
        self._pipeline.use_clock(system_clock())
        if self._base_time_ns is not None:
            self._pipeline.set_start_time(NONE_NS)
            self._pipeline.set_base_time(self._base_time_ns)
        self._pipeline.set_state(Gst.State.PLAYING)

    def _description(self) -> str:
        appsrc = _APPSRC.format(live=str(self._live).lower())
        suffix = "" if self._live else Path(self._url).suffix.lower()
        mux = _LIVE_MUXER if self._live else _MUXERS[suffix]
        sink = _RTMP_SINK if self._live else "filesink name=sink"
        convert = "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! " if suffix == ".ts" else ""
        # an appsrc without caps would be linked to whatever pad comes first
        number = {"flvmux": "", "mpegtsmux": None}.get(mux.partition(" ")[0], "_0")
        pads = {kind: "" if number is None else kind + number for kind in ("video", "audio")}
        encoder = _ENCODER.format(bitrate=self._bitrate)
        parts = [f"{mux} ! {sink}"]
        parts.append(f'appsrc name=audio {appsrc} caps="{_PCM_CAPS}" ! {encoder} ! mux.{pads["audio"]}')
        if self._with_video:
            parts.append(f"appsrc name=video {appsrc} ! {convert}mux.{pads['video']}")
        return " ".join(parts)

    def prime(self) -> None:
        """Send two moments of silence, 2.2 s of running time apart, at once: call it first, and begin at PRIMER_NS.

        MediaMTX listens for two seconds, by the timestamps, before it lets anybody read; that is over then.
        """
        for start_ns in _PRIMER_AT_NS:
            silence = buffer_of(bytes(4 * _PRIMER_SAMPLES), start_ns, duration_ns=samples_to_ns(_PRIMER_SAMPLES))
            self._audio.push_buffer(silence)

    def catch_up(self, base_time_ns: int) -> None:
        """Have running time 0 there from now on: for a session that began with media that was due before it was opened,
        and had to be muxed in order, once that is through."""
        if self._pipeline is not None:
            self._pipeline.get_by_name("mux").set_base_time(base_time_ns)

    def announce_video(self, caps: str) -> None:
        """Have the codec's headers written with the first sound, though the first picture may be seconds away.

        Servers that find out about tracks by listening for a while (MediaMTX: 2 s) then know the pictures before
        they come. A live flvmux whose video pad has no caps yet would let no sound out either.
        """
        if caps != self._caps:
            self._video.set_property("caps", Gst.Caps.from_string(caps))
            self._caps = caps

    def push_video(self, unit: AccessUnit, pts_ns: int, dts_ns: int) -> None:
        """``pts_ns`` and ``dts_ns`` in running time; the unit's own times are not looked at."""
        self.announce_video(unit.caps)
        dts_ns = max(dts_ns, self._last_dts_ns + 1_000_000, 0)
        self._last_dts_ns = dts_ns
        buffer = buffer_of(unit.data, max(pts_ns, 0), dts_ns=dts_ns)
        if not unit.key:
            buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
        self._video.push_buffer(buffer)
        self._be_patient(True)

    def push_audio(self, pcm: bytes, start_ns: int, samples: int) -> None:
        """``pcm`` S16LE stereo of ``samples`` samples that are heard at ``start_ns`` running time."""
        pts = max(0, start_ns - samples_to_ns(AAC_PRIMING_SAMPLES))
        self._audio.push_buffer(buffer_of(pcm, pts, duration_ns=samples_to_ns(samples)))
        if start_ns - self._last_dts_ns > _SOUND_ALONE_NS:
            self._be_patient(False)

    def _be_patient(self, patient: bool) -> None:
        if self._live and patient != self._patient:
            self._patient = patient
            self._pipeline.get_by_name("mux").set_property("latency", _PATIENCE_NS[patient])

    def poll_end(self) -> End | None:
        """Why the session has ended, None while it has not."""
        return poll_end(self._pipeline.get_bus()) if self._pipeline is not None else End(None)

    @property
    def connected(self) -> bool:
        """The destination has taken media. Asking costs a little: once a second is enough."""
        if not self._connected and self._sink is not None:
            self._connected = not self._live or self._bytes_out() > _HANDSHAKE_BYTES
        return self._connected

    def _bytes_out(self) -> int:
        ok, sent = self._sink.get_property("stats").get_uint64("out-bytes-total")
        return int(sent) if ok else 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait in front of the muxer: the back-pressure of a file output."""
        if self._pipeline is None:
            return 0
        sources = [self._audio, self._video] if self._video is not None else [self._audio]
        return sum(int(source.get_property("current-level-bytes")) for source in sources)

    @property
    def congested(self) -> bool:
        """More than 6 s of sound wait in front of the encoder: the destination does not take the stream at its rate."""
        if self._pipeline is None:
            return False
        return int(self._audio.get_property("current-level-time")) > _PENDING_LIMIT_NS

    async def finish(self, timeout_s: float) -> bool:
        """Send EOS, wait until the last byte is out, stop. False when it did not get there in time."""
        if self._pipeline is None:
            return False
        for source in (self._audio, self._video):
            if source is not None:
                source.end_of_stream()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        end = None
        try:
            while end is None and loop.time() < deadline:
                end = self.poll_end()
                if end is None:
                    await asyncio.sleep(0.02)
        finally:
            await self.stop()
        if end is not None and end.error:
            raise PublishError(f"the output could not be finished: {end.error}")
        return end is not None

    async def stop(self) -> None:
        """Close at once, without EOS. Idempotent."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await change_state(pipeline, Gst.State.NULL)
            self._video = self._audio = self._sink = None

"""The input pipeline: a URL in, H.264 access units and 48 kHz stereo PCM out, as they come.

One :class:`IngestPipeline` is one connection. It ends at EOS and at an error alike; whoever owns it stops it and
makes another one. Pads come and go by themselves: a source without sound or without pictures is no error here.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from babelcast.errors import IngestError, UnsupportedMediaError
from babelcast.gst.bridge import End, Packet, SinkReader, change_state, poll_end
from babelcast.gst.downmix import follow_channels
from babelcast.gst.runtime import Gst, system_clock

log = logging.getLogger(__name__)

AUDIO_BLOCK_MS = 100
"""Length of a PCM packet: long enough that Python is called ten times a second and not fifty."""

_RTMP_IDLE_S = 3
_SOUND_IS_BACK_NS = 1_000_000_000
_LIVE_SCHEMES = {
    # idle-timeout: a publisher that stopped without a word is an end of stream
    "rtmp": f"rtmp2src name=src timeout=5 idle-timeout={_RTMP_IDLE_S} ! flvdemux name=demux",
    "rtsp": "rtspsrc name=demux latency=200 protocols=tcp tcp-timeout=3000000 user-agent=Babelcast buffer-mode=none",
    "srt": "srtsrc name=src latency=200 auto-reconnect=false ! queue ! tsdemux name=demux ignore-pcr=true",
}
_LIVE_SCHEMES |= {"rtmps": _LIVE_SCHEMES["rtmp"], "rtsps": _LIVE_SCHEMES["rtsp"]}
_FILE_SCHEMES = {"": "filesrc", "file": "filesrc", "http": "souphttpsrc", "https": "souphttpsrc"}
# parsebin takes everything else, but writes SPS and PPS into the first key frame
_DEMUXERS = {
    ".flv": "flvdemux",
    ".mp4": "qtdemux",
    ".m4v": "qtdemux",
    ".mov": "qtdemux",
    ".mkv": "matroskademux",
    ".ts": "tsdemux",
}

_AVC = "video/x-h264,stream-format=avc,alignment=au"
_VIDEO_TAIL = "appsink name=out sync=false async=false max-buffers={buffers} enable-last-sample=false"
# audiobuffersplit counts samples from one discontinuity to the next, so FLV's millisecond rounding is gone after
# it; a step of more than 3 ms that lasts 400 ms is a real one and comes out as a discontinuity. It comes early,
# because whatever is behind it is called ten times a second and not fifty.
_AUDIO_TAIL = (
    "audioconvert name=downmix ! audio/x-raw,format=F32LE,channels=2,layout=interleaved "
    "! audiobuffersplit output-buffer-duration={block}/1000 alignment-threshold=3000000 discont-wait=400000000 "
    "! rglimiter name=limiter ! audioresample ! audioconvert dithering=none ! audio/x-raw,format=S16LE,rate=48000 "
    "! appsink name=out sync=false async=false max-buffers={buffers} enable-last-sample=false"
)
_RTP_DEPAYLOADERS = {
    "H264": "rtph264depay",
    "MPEG4-GENERIC": "rtpmp4gdepay",
    "MP4A-LATM": "rtpmp4adepay",
    "OPUS": "rtpopusdepay",
    "MPA": "rtpmpadepay",
}
_CODEC_NAMES = {
    "video/x-h264": "H.264",
    "video/x-h265": "H.265 (HEVC)",
    "video/x-av1": "AV1",
    "video/x-vp8": "VP8",
    "video/x-vp9": "VP9",
    "H265": "H.265 (HEVC)",
    "hvc1": "H.265 (HEVC)",
    "av01": "AV1",
    "vp08": "VP8",
    "vp09": "VP9",
    "avc1": "H.264 in enhanced RTMP's form",
    "mp4a": "AAC in enhanced RTMP's form",
    "fLaC": "FLAC",
    "ac-3": "AC-3",
    "ec-3": "E-AC-3",
}
_NO_WORDS = re.compile(r"domain g-|streaming stopped, reason|no known streams found")
"""Beginnings of details that say nothing to people."""
_FLV_TAGS = {8: "audio", 9: "video"}
_FLV_HEADER = 11
_FLV_EX_VIDEO = 0x80
_FLV_EX_AUDIO = 9
_FLV_LEGACY_HEVC = 12


@dataclass(frozen=True, slots=True)
class Tracks:
    """What the source has, as far as is known by now. Texts are for people (``H.264 1280x720 30/1``)."""

    video: str | None
    audio: str | None
    unsupported: UnsupportedMediaError | None


def is_live(url: str) -> bool:
    """Whether ``url`` comes in real time. Raises IngestError for a scheme that can't be read."""
    scheme = _scheme(url)
    if scheme in _LIVE_SCHEMES:
        return True
    if scheme in _FILE_SCHEMES:
        return False
    raise IngestError(
        f"a source can't be read by {scheme}://", hint="rtmp, rtmps, rtsp, srt, http(s) or a file", retryable=False
    )


def _scheme(url: str) -> str:
    return urlsplit(url).scheme.lower() if "://" in url else ""


def _file_head(url: str) -> str:
    suffix = Path(urlsplit(url).path if _scheme(url) else url).suffix.lower()
    return f"{_FILE_SCHEMES[_scheme(url)]} name=src ! {_DEMUXERS.get(suffix, 'parsebin')} name=demux"


class IngestPipeline:
    """One connection to a source. ``pull_video`` and ``pull_audio`` never wait; call them from one thread."""

    def __init__(self, url: str) -> None:
        self._live = is_live(url)
        # Appsinks of a live source never block and don't preroll, so its branches can do without threads of their own.
        self._entry = "" if self._live else "queue ! "
        self._url = url
        self._pipeline: Any = None
        self._demux: Any = None
        self._handler = 0
        self._video: SinkReader | None = None
        self._audio: SinkReader | None = None
        self._audio_branch: Any = None
        self._sound_error: UnsupportedMediaError | None = None
        self._sound_error_ns = 0
        self._source_audio: str | None = None
        self._unsupported: UnsupportedMediaError | None = None
        self._failure: str | None = None
        self._stopping = False
        self._end: End | None = None

    async def start(self) -> None:
        """Begin to connect. What goes wrong later is seen in :meth:`poll_end`."""
        scheme = _scheme(self._url)
        # in a pipeline by name: what is parsed from a single element would be that element alone
        self._pipeline = Gst.parse_launch(f"pipeline.( {_LIVE_SCHEMES.get(scheme) or _file_head(self._url)} )")
        self._pipeline.use_clock(system_clock())
        self._demux = self._pipeline.get_by_name("demux")
        source = self._pipeline.get_by_name("src") or self._demux
        location = self._url if scheme != "file" else urlsplit(self._url).path
        source.set_property("uri" if scheme == "srt" else "location", location)
        if scheme.startswith("rtmp"):
            self._keep_out_enhanced_rtmp(source)
        self._handler = self._demux.connect("pad-added", self._on_pad_added)
        result = await change_state(self._pipeline, Gst.State.PLAYING)
        if result == Gst.StateChangeReturn.FAILURE:
            end = poll_end(self._pipeline.get_bus()) or End("the pipeline did not start")
            self._end = _in_words(end, scheme)

    async def stop(self) -> None:
        """Close the connection and free everything. Idempotent."""
        if self._pipeline is None or self._stopping:
            return
        self._stopping = True
        # a signal that stays connected keeps the pipeline, and so its sockets and eventfds, alive for ever
        self._demux.disconnect(self._handler)
        await change_state(self._pipeline, Gst.State.NULL)
        self._pipeline = self._demux = self._video = self._audio = self._audio_branch = None

    def pull_video(self, limit: int = 1_000) -> list[Packet]:
        """Access units (AVC, one picture each) that have come."""
        return self._video.pull(limit) if self._video else []

    def pull_audio(self, limit: int = 1_000) -> list[Packet]:
        """PCM that has come: S16LE interleaved stereo at 48 kHz, packets of 100 ms (shorter at an end)."""
        packets = self._audio.pull(limit) if self._audio else []
        # what was decoded before an error may come out after it
        if packets and self._sound_error and system_clock().get_time() - self._sound_error_ns > _SOUND_IS_BACK_NS:
            self._sound_error = None
        return packets

    def poll_end(self) -> End | None:
        """Why the connection has ended, once; None while it has not. Packets may still lie in the queues."""
        if self._end is None and self._pipeline is not None:
            self._end = _in_words(poll_end(self._pipeline.get_bus(), self._spare_sound), _scheme(self._url))
            if self._failure and self._end is None:
                self._end = End(self._failure)
        return self._end

    def _spare_sound(self, source: Any, reason: str) -> bool:
        """Whether an error is one of the sound alone: it is told, and silence sent until sound comes again."""
        branch = self._audio_branch
        if branch is None or not source.has_as_ancestor(branch):
            return False
        self._sound_error_ns = system_clock().get_time()
        if self._sound_error is None:
            text = f"the source's audio ({self._source_audio}) can't be decoded: silence is sent"
            self._sound_error = UnsupportedMediaError(text, hint=reason.rstrip("."))
        return True

    def duration_ns(self) -> int | None:
        """Length of the source, where it has one and says it."""
        if self._pipeline is None or self._live:
            return None
        known, duration = self._pipeline.query_duration(Gst.Format.TIME)
        return int(duration) if known and duration > 0 else None

    @property
    def has_video(self) -> bool:
        """The source has pictures that can be passed through, whether or not one has come."""
        return self._video is not None

    @property
    def has_audio(self) -> bool:
        """The source has sound, whether or not any has come."""
        return self._audio is not None

    @property
    def tracks(self) -> Tracks:
        video = describe_video(self._video.caps) if self._video and self._video.caps else None
        return Tracks(video, self._source_audio, self._unsupported or self._sound_error)

    # --- on a streaming thread: a few times per connection, never per packet ---

    def _on_pad_added(self, _demux: Any, pad: Any) -> None:
        try:
            caps = pad.get_current_caps() or pad.query_caps(None)
            self._attach(pad, caps.get_structure(0))
        except Exception as error:  # nothing may be raised into GStreamer's thread
            log.exception("pad could not be linked", extra={"stage": "ingest"})
            self._failure = f"the source could not be linked: {error}"

    def _attach(self, pad: Any, structure: Any) -> None:
        kind, codec, head = _head_of(structure)
        if kind == "video" and self._video is None and codec == "H.264":
            tail = _VIDEO_TAIL.format(buffers=600 if self._live else 120)
            self._video = self._link(pad, self._branch(f"{self._entry}{head} {tail}"))
        elif kind == "audio" and self._audio is None:
            self._source_audio = _describe_audio(codec, structure)
            tail = _AUDIO_TAIL.format(block=AUDIO_BLOCK_MS, buffers=200 if self._live else 60)
            # what breaks in the sound must not end the pictures: see _spare_sound
            self._audio_branch = self._branch(f"{self._entry}errorignore convert-to=ok ! {head} {tail}")
            follow_channels(self._audio_branch)
            self._audio = self._link(pad, self._audio_branch)
        else:
            if kind == "video" and self._video is None:
                self._refuse(codec)
            self._link_to_nothing(pad)

    def _branch(self, description: str) -> Any:
        first, _, rest = description.partition(" ")
        branch = Gst.parse_bin_from_description(f"{first} name=in {rest}", False)
        # not by its own ghosting: where decodebin is in it, that would pick the pad behind it
        branch.add_pad(Gst.GhostPad.new("sink", branch.get_by_name("in").get_static_pad("sink")))
        return branch

    def _link(self, pad: Any, branch: Any) -> SinkReader:
        self._pipeline.add(branch)
        reader = SinkReader(branch.get_by_name("out"))
        branch.sync_state_with_parent()
        result = pad.link(branch.get_static_pad("sink"))
        if result != Gst.PadLinkReturn.OK:
            raise IngestError(f"linking failed: {result.value_nick}")
        return reader

    def _link_to_nothing(self, pad: Any) -> None:
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("sync", False)
        sink.set_property("async", False)
        self._pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def _refuse(self, codec: str, kind: str = "video") -> None:
        if kind == "audio":
            self._unsupported = UnsupportedMediaError(
                f"the source's audio is {codec}, which can't be read by RTMP: silence is sent",
                hint="set the encoder to AAC, or publish by SRT",
            )
            return
        self._unsupported = UnsupportedMediaError(
            f"the source's video is {codec}; only H.264 can be passed through, so it goes on with sound alone",
            hint="set the encoder to H.264",
        )

    def _keep_out_enhanced_rtmp(self, source: Any) -> None:
        """flvdemux 1.22 ends the connection at a codec that it does not know: such tags are named and thrown away.

        Called for every tag until both tracks have shown a codec that it knows, so for a plain source a few times.
        """
        plain = set()

        def look(_pad: Any, info: Any) -> Any:
            buffer = info.get_buffer()
            head = buffer.extract_dup(0, min(16, buffer.get_size()))
            kind = _FLV_TAGS.get(head[0]) if len(head) > _FLV_HEADER else None
            if kind is None:
                return Gst.PadProbeReturn.OK
            codec = _foreign_codec(kind, head[_FLV_HEADER:])
            if codec is not None:
                if self._unsupported is None:
                    self._refuse(codec, kind)
                return Gst.PadProbeReturn.DROP
            plain.add(kind)
            return Gst.PadProbeReturn.REMOVE if len(plain) == len(_FLV_TAGS) else Gst.PadProbeReturn.OK

        source.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, look)


def _foreign_codec(kind: str, body: bytes) -> str | None:
    """The codec of an FLV tag's body where FLV 10.1 has no number for it, else None. Enhanced RTMP has four letters."""
    if kind == "audio":
        if body[0] >> 4 != _FLV_EX_AUDIO:
            return None
    elif body[0] & 15 == _FLV_LEGACY_HEVC and not body[0] & _FLV_EX_VIDEO:
        return "H.265 (HEVC)"
    elif not body[0] & _FLV_EX_VIDEO:
        return None
    fourcc = body[1:5].decode("latin-1")
    return _CODEC_NAMES.get(fourcc, fourcc if fourcc.isalnum() else "of an unknown kind")


def _in_words(end: End | None, scheme: str) -> End | None:
    """What a person can do something with. "Could not read from resource" says less than the line that the element put
    behind it, where that is no programmer's; "Internal data stream error" is all that is said of an HTTP server that
    can't be reached."""
    if end is None or end.error is None:
        return end
    error = end.error.rstrip(".")
    if error == "Internal data stream error" and scheme in {"http", "https"}:
        return End("the server can't be reached, or does not answer as a web server does", end.debug)
    if error in {"This file contains no playable streams", "This file is invalid and cannot be played"}:
        return End("it is no media file that can be read, or not whole", end.debug)
    _, last, detail = end.debug.rpartition(":\n")
    detail = detail.partition(", URL: ")[0].strip()
    if not last or not detail or _NO_WORDS.match(detail):
        return End(error, end.debug)
    return End(detail if detail.startswith(error) else f"{error}: {detail}", end.debug)


def _head_of(structure: Any) -> tuple[str, str, str]:
    """(video | audio | other, codec for people, elements that lead up to the tail) of a demuxer's pad."""
    name = structure.get_name()
    if name == "application/x-rtp":
        kind = structure.get_string("media") or "other"
        encoding = (structure.get_string("encoding-name") or "").upper()
        depayloader = _RTP_DEPAYLOADERS.get(encoding)
        if encoding == "H264":
            return kind, "H.264", f"{depayloader} ! h264parse ! h264timestamper ! {_AVC} !"
        if kind != "audio":
            return kind, _CODEC_NAMES.get(encoding, encoding), ""
        if encoding == "OPUS":
            return kind, "Opus", f"{depayloader} ! opusdec !"
        if encoding in {"MPEG4-GENERIC", "MP4A-LATM"}:
            return kind, "AAC", f"{depayloader} ! aacparse ! avdec_aac !"
        return kind, encoding, f"{depayloader} ! decodebin !" if depayloader else "decodebin !"
    kind = name.partition("/")[0]
    if kind == "video":
        # In these formats every sample is one access unit, though flvdemux does not say so. h264parse would only do
        # harm: it writes SPS and PPS into the first key frame (always from GStreamer 1.26 on).
        whole = structure.get_string("stream-format") == "avc"
        head = f"capssetter join=true caps={_AVC} !" if whole else f"h264parse ! {_AVC} !"
        return kind, _CODEC_NAMES.get(name, name.partition("/")[2]), head
    return (kind if kind == "audio" else "other"), *_audio_decoder(name, structure)


def _audio_decoder(name: str, structure: Any) -> tuple[str, str]:
    if name == "audio/mpeg":
        ok, version = structure.get_int("mpegversion")
        if ok and version == 1:
            return "MPEG audio", "mpegaudioparse ! mpg123audiodec !"
        return "AAC", "aacparse ! avdec_aac !"
    if name == "audio/x-opus":
        return "Opus", "opusparse ! opusdec !"
    if name in {"audio/x-ac3", "audio/x-eac3"}:
        return "AC-3", f"ac3parse ! avdec_{name.removeprefix('audio/x-')} !"
    if name == "audio/x-raw":
        return "PCM", ""
    return name.partition("/")[2], "decodebin !"


def _describe_audio(codec: str, structure: Any) -> str:
    has_rate, rate = structure.get_int("rate")
    has_channels, channels = structure.get_int("channels")
    parts = [codec, f"{rate} Hz" if has_rate else "", f"{channels} ch" if has_channels else ""]
    return " ".join(part for part in parts if part)


@functools.lru_cache(maxsize=8)
def describe_video(caps: str) -> str:
    """``H.264 high 1920x1080 30/1`` from a caps string."""
    structure = Gst.Caps.from_string(caps).get_structure(0)
    has_width, width = structure.get_int("width")
    _, height = structure.get_int("height")
    has_rate, numerator, denominator = structure.get_fraction("framerate")
    parts = [
        _CODEC_NAMES.get(structure.get_name(), structure.get_name()),
        structure.get_string("profile") or "",
        f"{width}x{height}" if has_width else "",
        f"{numerator}/{denominator}" if has_rate else "",
    ]
    return " ".join(part for part in parts if part)

"""ffmpeg's command lines, as lists of words. Pure.

No address with a secret is a word of them: an address is read by ffmpeg's concat demuxer from a pipe of its own
(:func:`playlist`), and destinations are not ffmpeg's business at all.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from babelcast.bridge.settings import BridgeSettings, file_path, is_file

RATE = 48_000
CHANNELS = 2
BACKGROUND = "0x10151c"
_PROTOCOLS = "file,pipe,fd,crypto,srt,udp,rtp,tcp,tls,http,https,httpproxy,rtmp,rtmps,rtsp,rtsps"
_SOUND_IN = ("-f", "s16le", "-ar", str(RATE), "-ac", str(CHANNELS))

Video = Literal["source", "slate"]
Sound = Literal["input", "pipe"]
"""``pipe``: 16-bit stereo samples that the bridge writes, silence where there is nothing else."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """Descriptors that ffmpeg inherits; 0 where there is none. The programme itself goes to its standard output."""

    playlist: int = 0
    sound: int = 0
    progress: int = 0
    count: int = 0
    """Gets the source's video as it came, for the bitrate in."""


def is_played(audio_source: str) -> bool:
    """A program plays it; else the sound is the source's own, or silence."""
    return audio_source not in ("input", "silence") and not audio_source.startswith(("anullsrc", "lavfi:anullsrc"))


def playlist(address: str, *, low_delay: bool = False) -> str:
    """What the concat demuxer is given, so that ``address`` is in no argument."""
    quoted = address.replace("'", "'\\''")
    options = []
    if address.startswith("rtsp"):
        options.append("option rtsp_transport tcp")
    if low_delay:
        options += ["option probesize 8192", "option analyzeduration 500000"]
    else:
        options += ["option probesize 1000000", "option analyzeduration 1000000"]
    return "\n".join(["ffconcat version 1.0", f"file '{quoted}'", *options, ""])


def _input(address: str, pipe: int) -> list[str]:
    if is_file(address):
        return ["-re", "-stream_loop", "-1", "-i", f"file:{file_path(address)}"]
    return ["-f", "concat", "-safe", "0", "-protocol_whitelist", _PROTOCOLS, "-i", f"pipe:{pipe}"]


def programme(
    settings: BridgeSettings, encoder: str, video: Video, sound: Sound, pipes: Pipes, text_file: str = ""
) -> list[str]:
    """FLV to standard output. ``encoder`` is ffmpeg's name of it, or ``copy``; ``text_file`` holds the slate's text."""
    width, height = settings.size
    filters = [
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2",
        f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2",
        "setsar=1",
    ]
    if video == "source":
        assert settings.source_url is not None
        source = _input(settings.source_url.get_secret_value(), pipes.playlist)
    elif settings.slate_image is not None:
        source = ["-re", "-loop", "1", "-framerate", str(settings.fps), "-i", f"file:{settings.slate_image.absolute()}"]
    else:
        source = ["-re", "-f", "lavfi", "-i", f"color=c={BACKGROUND}:s={width}x{height}:r={settings.fps}"]
        if text_file:
            filters.append(
                f"drawtext=textfile={text_file}:expansion=none:fontsize={max(8, height // 14)}:fontcolor=white"
                ":line_spacing=8:x=(w-text_w)/2:y=(h-text_h)/2"
            )
    if video == "slate" and encoder == "copy":
        encoder = "libx264"
    sound_in = ["-thread_queue_size", "16", *_SOUND_IN, "-i", f"pipe:{pipes.sound}"] if sound == "pipe" else []
    pictures = ["-c:v", "copy"] if encoder == "copy" else _encode(settings, encoder, [*filters, "format=yuv420p"])
    count = ["-map", "0:v:0", "-c", "copy", "-f", "data", f"pipe:{pipes.count}"] if pipes.count else []
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "level+info", "-nostats"),
        *("-progress", f"pipe:{pipes.progress}", "-stats_period", "0.5"),
        *source,
        *sound_in,
        *("-map", "0:v:0", "-map", "1:a:0" if sound == "pipe" else "0:a:0?"),
        *pictures,
        # without what makes clicks in speech and anti-phase in wide sound (gst/publish.py says more)
        *("-c:a", "aac", "-aac_tns", "0", "-aac_is", "0"),
        *("-b:a", str(settings.audio_bitrate), "-ar", str(RATE), "-ac", str(CHANNELS)),
        *(("-af", "aresample=async=1000") if sound == "input" else ()),
        *("-max_interleave_delta", "1000000", "-flush_packets", "1"),
        *("-flvflags", "no_duration_filesize", "-f", "flv", "pipe:1"),
        *count,
    ]


def _encode(settings: BridgeSettings, encoder: str, filters: list[str]) -> list[str]:
    rate, distance = settings.video_bitrate, settings.key_distance
    special: list[str] = []
    if encoder == "libx264":
        # no B-frames: the preview passes the pictures through as they are
        special = ["-preset", settings.video_preset or "veryfast", "-sc_threshold", "0", "-profile:v", "high"]
    elif encoder == "h264_nvenc":
        special = ["-preset", settings.video_preset or "p4", "-tune", "ll", "-rc", "cbr", "-no-scenecut", "1"]
        special += ["-profile:v", "high"]
    elif settings.video_preset:
        special = ["-preset", settings.video_preset]
    return [
        *("-vf", ",".join(filters), "-fps_mode", "cfr", "-r", str(settings.fps)),
        *("-c:v", encoder, *special, "-bf", "0", "-g", str(distance)),
        *("-b:v", str(rate), "-maxrate", str(rate), "-bufsize", str(2 * rate)),
    ]


def sound(address: str, pipe: int) -> list[str]:
    """Decodes ``address`` (``lavfi:GRAPH`` too) to samples on standard output."""
    if address.startswith("lavfi:"):
        source = ["-re", "-f", "lavfi", "-i", address.removeprefix("lavfi:")]
    else:
        source = _input(address, pipe)
    # what is live is not late by what was probed: that is thrown away
    probed = () if is_file(address) else ("-fflags", "nobuffer")
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "level+warning"),
        *probed,
        *source,
        *("-map", "0:a:0", "-flush_packets", "1", *_SOUND_IN, "pipe:1"),
    ]


def record(feed_url: str, folder: Path, minutes: float) -> list[str]:
    """Copies the programme into files of ``minutes``. FLV, because a file that was cut off can be played, and because
    the source's pictures and the slate's may have headers of their own."""
    pattern = str(folder.absolute()).replace("%", "%%") + "/bridge-%Y%m%d-%H%M%S.flv"
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "level+warning", "-rw_timeout", "15000000"),
        *("-i", feed_url, "-map", "0", "-c", "copy", "-f", "segment", "-segment_format", "flv"),
        *("-segment_time", f"{minutes * 60:g}", "-reset_timestamps", "1", "-strftime", "1", f"file:{pattern}"),
    ]


def probe(encoder: str) -> list[str]:
    """Encodes pictures for real: an encoder that is compiled in may have no hardware."""
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error"),
        *("-f", "lavfi", "-i", "color=s=256x256:r=30", "-frames:v", "3", "-pix_fmt", "yuv420p"),
        *("-c:v", encoder, "-f", "null", "-"),
    ]


def shown(words: list[str]) -> str:
    """For a shell, secrets masked."""
    from babelcast.telemetry.redact import redact

    return redact(shlex.join(words))

"""What a producer may send, by the content type of its request. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

_DEMUXERS = {
    "audio/aac": "aac",
    "audio/aacp": "aac",
    "audio/x-aac": "aac",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/ogg": "ogg",
    "application/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
}
_ENCODINGS = {"s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "u8"}
ACCEPTED = (
    "audio/aac (ADTS)",
    "audio/mpeg",
    "audio/ogg (Opus, Vorbis)",
    "audio/wav",
    "audio/L16;rate=48000;channels=2 (big-endian)",
    "audio/pcm;rate=48000;channels=2;encoding=s16le",
)
ACCEPT_POST = "audio/aac, audio/mpeg, audio/ogg, audio/wav, audio/L16, audio/pcm"
"""For the header of that name."""


class UnsupportedFormat(ValueError):
    """The message is for the producer."""


@dataclass(frozen=True, slots=True)
class Format:
    """``options``: what ffmpeg is told of its input, and ``live`` what it is told besides of one that has no length. It
    never guesses, so that no body is taken for a playlist."""

    name: str
    options: tuple[str, ...]
    live: tuple[str, ...] = ()


def format_of(content_type: str | None) -> Format:
    """Raises UnsupportedFormat for a type that is missing, not known, or has parameters that can't be."""
    if not content_type:
        raise UnsupportedFormat("say by Content-Type what you send")
    header = Message()
    header["content-type"] = content_type
    name = header.get_content_type()
    parameters = {key.lower(): value for key, value in header.get_params(failobj=[])[1:]}
    if name in _DEMUXERS:
        # who writes a WAV while it is made can't know its length; in a file, what follows the sound is not sound
        endless = ("-ignore_length", "1") if _DEMUXERS[name] == "wav" else ()
        return Format(name, ("-f", _DEMUXERS[name]), endless)
    if name in ("audio/l16", "audio/pcm"):
        encoding = "s16be" if name == "audio/l16" else parameters.get("encoding", "s16le").lower()
        if encoding not in _ENCODINGS:
            raise UnsupportedFormat(f"encoding must be one of {', '.join(sorted(_ENCODINGS))}")
        rate = _number(parameters, "rate", 48_000 if name == "audio/pcm" else None, 8_000, 192_000)
        channels = _number(parameters, "channels", 2 if name == "audio/pcm" else 1, 1, 8)
        return Format(name, ("-f", encoding, "-ar", str(rate), "-ac", str(channels)))
    raise UnsupportedFormat(f"{name[:60]} can't be taken")


def _number(parameters: dict[str, str], name: str, default: int | None, least: int, most: int) -> int:
    text = parameters.get(name, "" if default is None else str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise UnsupportedFormat(f"{name} must be a number from {least} to {most}")
    return int(text)


def decoder(form: Format, *, live: bool) -> list[str]:
    """ffmpeg's command: the body at its standard input, 16-bit stereo at 48 kHz at its standard output.

    It looks ahead no further than it must, and keeps what it saw: ``-fflags nobuffer`` would throw that away, which was
    the first half second of an MP3.
    """
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "level+warning", "-protocol_whitelist", "pipe,fd"),
        *("-probesize", "32", "-analyzeduration", "0", *form.options, *(form.live if live else ()), "-i", "pipe:0"),
        *("-map", "0:a:0", "-f", "s16le", "-ar", "48000", "-ac", "2", "-flush_packets", "1", "pipe:1"),
    ]

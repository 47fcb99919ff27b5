"""A still picture as two seconds of H.264 that can be sent over and over, with new codec headers in front of it."""

from __future__ import annotations

import asyncio
import tempfile
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from babelcast.errors import MissingDependencyError, PublishError
from babelcast.slate.ffmpeg import INSTALL, FlvTag, flv_tags, run_ffmpeg
from babelcast.units import NS_PER_S

_LENGTH_S = 2
"""Also the distance of the key frames: destinations ask for one every 2 to 4 s."""
_TIMEOUT_S = 10.0
_MAX_GROUP = 48 << 20
_MAX_SIDE = 4_096
_MAX_PIXELS = str(64 << 20)
_BACKGROUND = "0x10151c"
_FONTS = (
    Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    Path("/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf"),
    Path("/usr/share/fonts/dejavu/DejaVuSans.ttf"),
    Path("/usr/share/fonts/TTF/DejaVuSans.ttf"),
)
# In this order the first that works. h264_vaapi is not in it: it takes pictures only from a device named before.
_ENCODERS: dict[str, tuple[str, ...]] = {
    "libx264": ("-preset", "veryfast", "-tune", "stillimage", "-crf", "20", "-profile:v", "main"),
    "libopenh264": ("-b:v", "2M", "-profile:v", "constrained_baseline"),
    "h264_nvenc": ("-b:v", "2M", "-profile:v", "main"),
    "h264_qsv": ("-b:v", "2M", "-profile:v", "main"),
    "h264_amf": ("-b:v", "2M", "-profile:v", "main"),
    "h264_videotoolbox": ("-b:v", "2M", "-profile:v", "main"),
    "h264_mf": ("-b:v", "2M"),
    "h264_v4l2m2m": ("-b:v", "2M"),
}
_GLYPH_WIDTH = 0.56  # of the font's size, the mean over DejaVu Sans's Latin letters, with some margin
_LINE_HEIGHT = 1.35


@dataclass(frozen=True, slots=True)
class SlateUnit:
    """One picture: an AVC access unit (lengths in front of its NAL units, parameter sets not in it)."""

    data: bytes
    key: bool


@dataclass(frozen=True, slots=True)
class Slate:
    """``units`` begin with an IDR picture and have no B-frames, so they may be sent over and over, and be left at
    any place. ``caps`` is for GStreamer (with ``codec_data``), ``avcc`` the same AVCDecoderConfigurationRecord for
    FLV. Immutable, and may be shared."""

    caps: str
    avcc: bytes
    units: tuple[SlateUnit, ...]
    width: int
    height: int
    frame_rate: Fraction

    def unit(self, index: int) -> SlateUnit:
        """The picture at ``index`` of the endless repetition."""
        return self.units[index % len(self.units)]

    def time_ns(self, index: int) -> int:
        """When that picture begins, from the first one; no error adds up."""
        return index * NS_PER_S * self.frame_rate.denominator // self.frame_rate.numerator

    @property
    def frame_duration_ns(self) -> int:
        return self.time_ns(1)

    @property
    def size_bytes(self) -> int:
        return sum(len(unit.data) for unit in self.units)


async def make_slate(
    width: int,
    height: int,
    frame_rate: Fraction | float,
    *,
    text: str | None = None,
    image: Path | None = None,
    background_annexb: bytes | None = None,
) -> Slate:
    """The text in the middle of a dark ground, of ``image`` (fitted, with bars), or of the last picture.

    ``background_annexb``: one group of pictures as an Annex B byte stream (:func:`babelcast.slate.h264.annexb`),
    of which the last picture is taken; without ``text`` that is the picture that *holds*. An image stands instead
    of a text: with one, ``text`` is not drawn. Sides and frame rate are brought to what H.264 and FLV can say
    (even, 16 to 4096; 1 to 60).

    Takes about a second, at most 10 s. Raises MissingDependencyError (no ffmpeg, no H.264 encoder in it) or
    PublishError (everything else: an image that can't be read, pictures that can't be decoded).
    """
    width, height = (min(max(side // 2 * 2, 16), _MAX_SIDE) for side in (width, height))
    rate = min(max(Fraction(frame_rate).limit_denominator(1_001), Fraction(1)), Fraction(60))
    try:
        with tempfile.TemporaryDirectory(prefix="babelcast-slate-") as name:
            async with asyncio.timeout(_TIMEOUT_S):
                return await _make(Path(name), width, height, rate, text, image, background_annexb)
    except TimeoutError:
        raise PublishError(f"the slate was not ready after {_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise PublishError(f"the slate could not be made: {error}") from error


async def _make(
    folder: Path,
    width: int,
    height: int,
    rate: Fraction,
    text: str | None,
    image: Path | None,
    group: bytes | None,
) -> Slate:
    if image is not None:
        # file: keeps ffmpeg from reading a protocol into the name; absolute, since it works elsewhere
        source = ["-max_pixels", _MAX_PIXELS, "-i", f"file:{_absolute(image)}"]
    elif group is not None:
        await _last_picture(folder, width, height, group)
        source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-i", "last.yuv"]
    else:
        source = ["-f", "lavfi", "-i", f"color=c={_BACKGROUND}:s={width}x{height}"]
    filters = ["trim=end_frame=1", *_fit(width, height)]
    if text and image is None:
        filters += _draw(folder, text, width, height)
    length = round(rate * _LENGTH_S)
    # drawn once, then repeated: a still costs the encoder next to nothing
    filters += ["format=yuv420p", "loop=loop=-1:size=1", f"setpts=N*{rate.denominator}/({rate.numerator}*TB)"]
    head = [*source, "-map", "0:v:0", "-vf", ",".join(filters), "-r", str(rate), "-frames:v", str(length)]
    tail = ["-bf", "0", "-g", str(length), "-threads", "2", "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"]
    errors: list[str] = []
    for encoder in await _encoders():
        try:
            flv = await run_ffmpeg([*head, "-c:v", encoder, *_ENCODERS[encoder], *tail], folder, timeout_s=_TIMEOUT_S)
            return _slate(list(flv_tags(flv)), width, height, rate)
        except PublishError as error:
            errors.append(f"{encoder}: {error}")
    raise PublishError(f"the slate could not be made: {errors[0]}")


async def _last_picture(folder: Path, width: int, height: int, group: bytes) -> None:
    """``last.yuv`` in ``folder``: every picture is written over the one before, so no more than one is kept."""
    if len(group) > _MAX_GROUP:
        raise PublishError(f"the last group of pictures is longer than {_MAX_GROUP >> 20} MiB")
    fit = ",".join([*_fit(width, height), "format=yuv420p"])
    decode = ["-max_pixels", _MAX_PIXELS, "-f", "h264", "-i", "pipe:0"]
    encode = ["-c:v", "rawvideo", "-f", "image2", "-update", "1"]
    await run_ffmpeg(
        [*decode, "-vf", fit, "-fps_mode", "passthrough", *encode, "last.yuv"],
        folder,
        feed=group,
        timeout_s=_TIMEOUT_S,
    )
    picture = folder / "last.yuv"
    if not picture.exists() or picture.stat().st_size != width * height * 3 // 2:
        raise PublishError("the last group of pictures could not be decoded")


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # ~ where there is no such home
        raise PublishError(f"the image {path} can't be found: {str(error).rstrip('.').lower()}") from None


def _fit(width: int, height: int) -> list[str]:
    return [
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2",
        f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2",
        "setsar=1",
    ]


def _draw(folder: Path, text: str, width: int, height: int) -> list[str]:
    """A filter for each line. The letters travel in files: no character of theirs is ffmpeg's to interpret."""
    size, lines = _layout(text, width, height)
    font = next((f"fontfile={path}" for path in _FONTS if path.exists()), "font=DejaVu Sans")
    filters = []
    for number, line in enumerate(lines):
        if not line:
            continue
        name = f"line{number}.txt"
        (folder / name).write_text(line, encoding="utf-8")
        y = f"h/2+{(number - len(lines) / 2) * size * _LINE_HEIGHT:.1f}"
        filters.append(
            f"drawtext={font}:textfile={name}:expansion=none:fontsize={size}:fontcolor=white"
            f":borderw={max(1, size // 16)}:bordercolor=black@0.8:x=(w-text_w)/2:y={y}"
        )
    return filters


def _layout(text: str, width: int, height: int) -> tuple[int, list[str]]:
    """(font size in pixels, lines), as large as fits into four fifths of the picture."""
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\r\n", "\n"))
    size = max(8, min(width, height) // 11)
    while True:
        columns = max(1, int(width * 0.8 / (size * _GLYPH_WIDTH)))
        lines = [part for line in printable.strip().split("\n") for part in (textwrap.wrap(line, columns) or [""])]
        if size <= 8 or len(lines) * size * _LINE_HEIGHT <= height * 0.8:
            return size, lines
        size -= max(1, size // 10)


async def _encoders() -> list[str]:
    """Those of ours that this ffmpeg has, the best first."""
    with tempfile.TemporaryDirectory() as name:
        listing = await run_ffmpeg(["-hide_banner", "-encoders"], Path(name), timeout_s=_TIMEOUT_S)
    known = {words[1] for line in listing.decode("utf-8", "replace").splitlines() if len(words := line.split()) > 1}
    found = [encoder for encoder in _ENCODERS if encoder in known]
    if not found:
        raise MissingDependencyError("this ffmpeg has no H.264 encoder", hint=INSTALL)
    return found


def _slate(tags: list[FlvTag], width: int, height: int, rate: Fraction) -> Slate:
    avcc, units = b"", []
    for tag in tags:
        if tag.type != 9 or len(tag.body) < 5:
            continue
        if tag.body[1] == 0:
            avcc = tag.body[5:]
        elif tag.body[1] == 1:
            units.append(SlateUnit(tag.body[5:], tag.body[0] >> 4 == 1))
    if len(avcc) < 7 or not units or not units[0].key:
        raise PublishError("ffmpeg gave no pictures")
    return Slate(_caps(avcc, width, height, rate), avcc, tuple(units), width, height, rate)


def _caps(avcc: bytes, width: int, height: int, rate: Fraction) -> str:
    return (
        "video/x-h264, stream-format=(string)avc, alignment=(string)au"
        f", codec_data=(buffer){avcc.hex()}, width=(int){width}, height=(int){height}"
        f", framerate=(fraction){rate.numerator}/{rate.denominator}, pixel-aspect-ratio=(fraction)1/1"
    )

"""The bridge's settings: the environment, and a ``media.env`` file that overrides it.

The file has ``NAME=value`` lines, as for Docker's ``--env-file``; blank lines and ``#`` comments are skipped, one pair
of quotes around a value is taken off, and ``export `` in front of a name is allowed. A bad line is named by its number,
never by its value, which may be a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from babelcast.errors import ConfigError

SOURCE_SCHEMES = ("srt", "rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "http", "https", "file")
AUDIO_SCHEMES = ("http", "https", "udp", "rtp", "srt", "rtsp", "rtmp", "file")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_BITRATE = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
_MAX_FILE = 64 * 1024

Seconds = Annotated[float, Field(gt=0, le=3600)]


class BridgeSettings(BaseModel):
    """Field names in capitals are the names in the environment. Bitrates in bits per second, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_url: SecretStr | None = None
    """``SOURCE_URL``, or ``SRT_URL``: may hold a passphrase."""
    primary_rtmp_url: str | None = None
    primary_stream_key: SecretStr | None = None
    backup_rtmp_url: str | None = None
    backup_stream_key: SecretStr | None = None
    audio_source: SecretStr = SecretStr("input")
    """``input``, ``silence`` (or ``anullsrc…``), ``lavfi:GRAPH``, or an address; may hold a token."""
    video_encoder: str = Field(default="auto", pattern=r"^[a-z0-9_]{2,32}$")
    """``auto``, ``nvenc``, ``x264``, ``copy``, or the name of one of ffmpeg's H.264 encoders."""
    video_bitrate: int = Field(default=4_000_000, ge=50_000, le=100_000_000)
    video_preset: str | None = Field(default=None, pattern=r"^[a-z0-9]{1,16}$")
    video_size: str = "1280x720"
    fps: int = Field(default=30, ge=1, le=120)
    gop: int | None = Field(default=None, ge=1, le=1200)
    """Pictures between key frames; two seconds' worth by default."""
    audio_bitrate: int = Field(default=128_000, ge=32_000, le=512_000)
    slate: Literal["on", "off"] = "on"
    slate_text: str = Field(default="We'll be right back", max_length=200)
    slate_image: Path | None = None
    source_timeout: Seconds = 3.0
    """A source that gives no picture for this long is lost."""
    connect_timeout: Seconds = 15.0
    """A source that listens for us and gives nothing for this long is tried again."""
    backoff_first: Seconds = 0.5
    backoff_max: Seconds = 10.0
    autostart: Literal["on", "off"] = "on"
    record: Path | None = None
    """A folder for a recording of the programme."""
    record_minutes: float = Field(default=10.0, gt=0, le=1440)
    """Of one file."""
    record_keep_gb: float = Field(default=20.0, gt=0)
    """Of all files; then the oldest is removed."""
    alert_webhook_url: SecretStr | None = None
    alert_min_bitrate: int = Field(default=0, ge=0)
    """Bits per second out; 0 is off, as with the next three."""
    alert_min_fps: float = Field(default=0.0, ge=0)
    alert_destination_after: float = Field(default=10.0, ge=0)
    alert_source_after: float = Field(default=5.0, ge=0)

    @field_validator("video_bitrate", "audio_bitrate", "alert_min_bitrate", mode="before")
    @classmethod
    def _bitrate(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = _BITRATE.fullmatch(value.strip())
        if found is None:
            raise ValueError("must be a number of bits per second, such as 4M, 2500k or 128000")
        return round(float(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()])

    @field_validator("video_size")
    @classmethod
    def _even(cls, value: str) -> str:
        found = _SIZE.fullmatch(value)
        if found is None or not all(16 <= int(side) <= 4096 and int(side) % 2 == 0 for side in found.groups()):
            raise ValueError("must be WIDTHxHEIGHT, both even, 16 to 4096, such as 1280x720")
        return value

    @field_validator("source_url")
    @classmethod
    def _source(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_address(value.get_secret_value(), SOURCE_SCHEMES)
        return value

    @field_validator("audio_source")
    @classmethod
    def _audio(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text not in ("input", "silence") and not text.startswith(("anullsrc", "lavfi:")):
            _check_address(text, AUDIO_SCHEMES)
        return value

    @field_validator("slate_image")
    @classmethod
    def _image(cls, value: Path | None) -> Path | None:
        if value is not None:
            _check_file(value)
        return value

    @field_validator("primary_rtmp_url", "backup_rtmp_url")
    @classmethod
    def _rtmp(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"^rtmps?://[^/\s]+/\S+", value):
            raise ValueError("must be rtmp://HOST/APP or rtmps://HOST/APP")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_address(value.get_secret_value(), ("http", "https"))
        return value

    @model_validator(mode="after")
    def _whole(self) -> BridgeSettings:
        if self.primary_stream_key and not self.primary_rtmp_url:
            raise ValueError("PRIMARY_STREAM_KEY is given without PRIMARY_RTMP_URL")
        if self.backup_stream_key and not self.backup_rtmp_url:
            raise ValueError("BACKUP_STREAM_KEY is given without BACKUP_RTMP_URL")
        return self

    @property
    def size(self) -> tuple[int, int]:
        width, _, height = self.video_size.partition("x")
        return int(width), int(height)

    @property
    def key_distance(self) -> int:
        return self.gop or 2 * self.fps

    def shown(self) -> dict[str, object]:
        """For people: names as in the environment, secrets masked."""
        from babelcast.telemetry.redact import MASK, redact, redact_url

        found: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in ("source_url", "alert_webhook_url") and value is not None:
                value = redact(value.get_secret_value())
            elif name == "audio_source":
                value = redact(value.get_secret_value())
            elif isinstance(value, SecretStr):
                value = MASK
            elif name.endswith("_rtmp_url") and value is not None:
                has_key = getattr(self, name.replace("rtmp_url", "stream_key")) is not None
                value = value if has_key and "@" not in value and "?" not in value else redact_url(value)
            elif isinstance(value, Path):
                value = str(value)
            found[name.upper()] = value
        return found


def _check_address(text: str, schemes: tuple[str, ...]) -> None:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    if "file" in schemes and is_file(text):
        _check_file(Path(file_path(text)))
        return
    try:
        parts = urlsplit(text)
        found = parts.port, parts.hostname
    except ValueError:
        raise ValueError("is not a valid address") from None
    if parts.scheme not in schemes:
        what = "a file's path or an address" if "file" in schemes else "an address"
        raise ValueError(f"must be {what} of {', '.join(schemes)}")
    if not found[1] and not listens(text):
        waits = "; to wait for a caller, srt://:PORT?mode=listener" if parts.scheme == "srt" else ""
        raise ValueError(f"has no host: {parts.scheme}://HOST:PORT{waits}")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"there is no such file: {path}")


def is_file(address: str) -> bool:
    return "://" not in address or address.startswith("file:")


def listens(address: str) -> bool:
    """The source calls us, so waiting for it is no fault."""
    parts = urlsplit(address)
    if parts.scheme == "srt":
        return parse_qs(parts.query).get("mode") == ["listener"]
    return parts.scheme in ("udp", "rtp")


def file_path(address: str) -> str:
    return unquote(urlsplit(address).path) if address.startswith("file:") else address


ALIASES = ("SOURCE_URL", "SRT_URL")
"""Of one setting; where both are given in one place, the first counts."""
NAMES = frozenset(name.upper() for name in BridgeSettings.model_fields) | {*ALIASES}


def parse_env(text: str, file: str = "media.env") -> dict[str, tuple[str, int]]:
    """Name → (value, line number). The last one of a name counts. Raises ConfigError with the line's number."""
    found: dict[str, tuple[str, int]] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError("this is not NAME=value", file=file, line=number)
        name, value = match[1], match[2].strip()
        if value[:1] in ("'", '"'):
            if len(value) < 2 or value[-1] != value[0]:
                raise ConfigError("the quote is not closed", file=file, line=number, key=name)
            value = value[1:-1]
        if name not in NAMES:
            raise ConfigError("there is no such setting", file=file, line=number, key=name, hint=_near(name))
        found[name] = (value, number)
    return found


def _near(name: str) -> str | None:
    import difflib

    near = difflib.get_close_matches(name, NAMES, 1)
    return f"did you mean {near[0]}?" if near else None


def read_env_file(path: Path) -> str:
    """Raises ConfigError where it can't be read."""
    try:
        data = path.read_bytes()
        if len(data) > _MAX_FILE:
            raise ConfigError(f"the file has more than {_MAX_FILE >> 10} KiB", file=str(path))
        return data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"can't read it: {error.strerror}", file=str(path)) from None
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8", file=str(path)) from None


def load(environ: Mapping[str, str], path: Path | None = None, text: str | None = None) -> BridgeSettings:
    """``path``'s content (or ``text`` in its place) over ``environ``; an empty value means the default.

    Raises ConfigError, which names the file's line, or the variable of the environment.
    """
    file = str(path) if path else "media.env"
    if text is None:
        text = read_env_file(path) if path else ""
    lines = parse_env(text, file)
    outer = {name: environ[name] for name in NAMES if name in environ}
    inner = {name: value for name, (value, _) in lines.items()}
    values = _one_source(outer) | _one_source(inner)
    try:
        return BridgeSettings.model_validate({name.lower(): value for name, value in values.items() if value != ""})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]).upper() if first["loc"] else None
        if name in ALIASES:
            name = next(each for layer in (inner, outer) for each in ALIASES if layer.get(each))
        message = first["msg"].removeprefix("Value error, ")
        line = lines[name][1] if name in lines else None
        where = file if line is not None else "environment" if name in environ else None
        raise ConfigError(message, file=where, line=line, key=name) from None


def _one_source(values: Mapping[str, str]) -> dict[str, str]:
    """A place's values, with the source under its one name: what the file says of it overrides the environment under
    whichever name."""
    found = {name: value for name, value in values.items() if name not in ALIASES}
    given = [values[name] for name in ALIASES if name in values]
    if given:
        found[ALIASES[0]] = next((value for value in given if value), "")
    return found

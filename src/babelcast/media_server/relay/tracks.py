"""What the ``/v3`` API says of a track: codec and its properties, named as MediaMTX names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from babelcast.rtmp import amf0
from babelcast.rtmp.flv import Tag

_H264_PROFILES = {66: "Baseline", 77: "Main", 88: "Extended", 100: "High", 110: "High 10", 122: "High 4:2:2"}
_H265_PROFILES = {1: "Main", 2: "Main 10", 3: "Main Still Picture", 4: "Range Extensions"}
# ISO/IEC 14496-3, table 1.18
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@dataclass(frozen=True, slots=True)
class Track:
    codec: str
    props: Mapping[str, int | str] | None = None


def track_of(tag: Tag, payload: bytes, metadata: Mapping[str, amf0.Value]) -> Track:
    """The track of a tag that has a codec; properties come from its header, the picture size from ``metadata``."""
    assert tag.codec is not None
    config = payload[tag.config_at :] if tag.config_at is not None else b""
    size = {"width": _whole(metadata.get("width")), "height": _whole(metadata.get("height"))}
    if tag.codec == "H264":
        profile, level = (config[1], config[3]) if len(config) > 3 else (0, 0)
        return Track("H264", {**size, "profile": _H264_PROFILES.get(profile, str(profile)), "level": f"{level / 10:g}"})
    if tag.codec == "H265":
        profile, level = (config[1] & 31, config[12]) if len(config) > 12 else (0, 0)
        return Track("H265", {**size, "profile": _H265_PROFILES.get(profile, str(profile)), "level": f"{level / 30:g}"})
    if tag.codec == "MPEG-4 Audio":
        rate, channels = _aac_config(config)
        return Track(tag.codec, {"sampleRate": rate, "channelCount": channels})
    if tag.codec == "Opus":
        channels = config[9] if config.startswith(b"OpusHead") and len(config) > 9 else 2
        return Track("Opus", {"channelCount": channels})
    return Track(tag.codec)


def _aac_config(config: bytes) -> tuple[int, int]:
    """Sample rate and channels of an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1); zeros when it is short."""
    bits = int.from_bytes(config[:6].ljust(6, b"\0"), "big")
    if len(config) < 2:
        return 0, 0
    index = (bits >> 39) & 15
    if index == 15:
        return (bits >> 15) & 0xFFFFFF, (bits >> 11) & 15
    rate = _AAC_RATES[index] if index < len(_AAC_RATES) else 0
    return rate, (bits >> 35) & 15


def _whole(value: amf0.Value) -> int:
    return int(value) if isinstance(value, float) and 0 <= value < 100_000 else 0

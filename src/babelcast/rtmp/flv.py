"""What an FLV tag body says about itself: codec, codec header, key frame. Nothing is decoded.

Sources: the FLV specification 10.1, annex E.4, and Veovera's Enhanced RTMP v2. Codec names are MediaMTX's.
"""

from __future__ import annotations

from dataclasses import dataclass

_VIDEO_CODECS = {2: "H263", 7: "H264", 12: "H265"}
_AUDIO_CODECS = {0: "LPCM", 2: "MPEG-1/2 Audio", 3: "LPCM", 7: "G711", 8: "G711", 10: "MPEG-4 Audio"}
_FOURCCS = {
    b"avc1": "H264",
    b"hvc1": "H265",
    b"av01": "AV1",
    b"vp09": "VP9",
    b"vp08": "VP8",
    b"mp4a": "MPEG-4 Audio",
    b".mp3": "MPEG-1/2 Audio",
    b"Opus": "Opus",
    b"fLaC": "FLAC",
    b"ac-3": "AC3",
    b"ec-3": "EAC3",
}
_AVC, _AAC, _HEVC_LEGACY, _EX_AUDIO, _MP3_8K = 7, 10, 12, 9, 14
_KEY_FRAME, _COMMAND_FRAME = 1, 5
# Packet types of enhanced RTMP; metadata, multichannel configuration and multitrack differ between video and audio.
_SEQUENCE_START, _SEQUENCE_END, _METADATA, _MPEG2TS_START, _MOD_EX = 0, 2, 4, 5, 7
_VIDEO_MULTITRACK, _AUDIO_MULTITRACK = 6, 5


@dataclass(frozen=True, slots=True)
class Tag:
    """``header`` is whatever a late reader must have before the next frame; ``slot`` tells headers apart that
    don't replace each other (tracks of a multitrack tag, colour information). ``config_at`` is where the
    decoder configuration begins in a sequence header, else None."""

    codec: str | None
    header: bool = False
    key: bool = False
    slot: int = 0
    config_at: int | None = None


_UNKNOWN = Tag(codec=None)


def inspect_video(payload: bytes) -> Tag:
    if len(payload) < 2:
        return _UNKNOWN
    first = payload[0]
    frame_type = (first >> 4) & 7
    if first & 0x80:
        return _enhanced(payload, _VIDEO_MULTITRACK, key=frame_type == _KEY_FRAME)
    codec_id = first & 15
    codec = _VIDEO_CODECS.get(codec_id)
    if frame_type == _COMMAND_FRAME:
        return Tag(codec)
    if codec_id in (_AVC, _HEVC_LEGACY):
        if payload[1] == 0:
            return Tag(codec, header=True, config_at=5)
        return Tag(codec, key=frame_type == _KEY_FRAME and payload[1] == 1)
    return Tag(codec, key=frame_type == _KEY_FRAME)


def inspect_audio(payload: bytes) -> Tag:
    if len(payload) < 2:
        return _UNKNOWN
    sound_format = payload[0] >> 4
    if sound_format == _EX_AUDIO:
        return _enhanced(payload, _AUDIO_MULTITRACK, key=False)
    if sound_format == _AAC and payload[1] == 0:
        return Tag(_AUDIO_CODECS[_AAC], header=True, config_at=2)
    if sound_format == _MP3_8K:
        return Tag(_AUDIO_CODECS[2])
    return Tag(_AUDIO_CODECS.get(sound_format))


def _enhanced(payload: bytes, multitrack: int, *, key: bool) -> Tag:
    packet_type, at = payload[0] & 15, 1
    while packet_type == _MOD_EX:  # modifiers (nanosecond offsets) stand before the packet
        size = payload[at] + 1 if at < len(payload) else 0
        at += 1
        if size == 256:
            size = int.from_bytes(payload[at : at + 2], "big") + 1
            at += 2
        at += size
        if at >= len(payload):
            return _UNKNOWN
        packet_type = payload[at] & 15
        at += 1
    slot = 0
    if packet_type == multitrack and at < len(payload):
        track_type, packet_type = payload[at] >> 4, payload[at] & 15
        at += 1
        # one slot for each track of "one track" tags; tags with many tracks replace each other as a whole
        slot = 1 + payload[at + 4] if track_type == 0 and at + 4 < len(payload) else 257
        config_at = at + 5
    else:
        config_at = at + 4
    codec = _FOURCCS.get(payload[at : at + 4])
    if packet_type in (_SEQUENCE_START, _METADATA) or (
        multitrack == _VIDEO_MULTITRACK and packet_type == _MPEG2TS_START
    ):
        if packet_type == _METADATA:
            slot += 1000
        return Tag(codec, header=True, slot=slot, config_at=config_at if packet_type == _SEQUENCE_START else None)
    return Tag(codec, key=key and packet_type != _SEQUENCE_END, slot=slot)

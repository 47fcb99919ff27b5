"""RTMP messages as what RTP carries: pictures in Annex B, AAC frames. Pure; nothing is decoded.

Sources: the FLV specification 10.1, annex E.4.3; ISO/IEC 14496-15, 5.3.3.1; ITU-T H.264, annex B and 7.4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

_START_CODE = b"\0\0\0\1"
_IDR, _SPS, _PPS, _DELIMITER, _FILLER = 5, 7, 8, 9, 12
_UNDECIDED_PICTURES = 4
"""With B-frames the third picture is shown before the second; one more for encoders that begin with two P."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An access unit. ``data`` is Annex B; a key picture begins with its parameter sets. ``pts_ms`` is when it is
    shown, in the source's milliseconds; ``shift_ms`` how much later that is than its turn to be decoded."""

    data: bytes
    pts_ms: int
    key: bool
    shift_ms: int = 0


class PictureReader:
    """Bodies of AVC video tags → pictures. Keeps the parameter sets of the latest sequence header."""

    def __init__(self) -> None:
        self._parameter_sets = b""
        self._length_size = 4

    def configure(self, record: bytes) -> None:
        """Take an AVCDecoderConfigurationRecord. A parameter set that is cut short is left out."""
        if len(record) < 7:
            return
        self._length_size = (record[4] & 3) + 1
        sets: list[bytes] = []
        count, at = record[5] & 31, 6
        for _ in range(2):  # sequence, then picture parameter sets
            for _ in range(count):
                size = int.from_bytes(record[at : at + 2], "big")
                each = record[at + 2 : at + 2 + size]
                at += 2 + size
                if size and len(each) == size:
                    sets.append(each)
            count, at = (record[at] if at < len(record) else 0), at + 1
        self._parameter_sets = b"".join(_START_CODE + each for each in sets)

    def read(self, body: bytes, timestamp_ms: int) -> Picture | None:
        """The picture of a coded tag (frame type, packet type 1, composition time, NAL units with their lengths);
        None where there is none in it, or no parameter sets have come yet."""
        if len(body) < 9 or body[1] != 1 or not self._parameter_sets:
            return None
        shift = int.from_bytes(body[2:5], "big", signed=True)
        units: list[bytes] = []
        kinds: set[int] = set()
        at = 5
        while at + self._length_size < len(body):
            size = int.from_bytes(body[at : at + self._length_size], "big")
            at += self._length_size
            unit = body[at : at + size]
            at += size
            if len(unit) < size or not unit:
                break  # cut short: what came before it may still be shown
            kind = unit[0] & 31
            if kind not in (_DELIMITER, _FILLER):
                units += (_START_CODE, unit)
                kinds.add(kind)
        if not units:
            return None
        key = _IDR in kinds or (body[0] >> 4) & 7 == 1
        data = b"".join(units)
        if key and not {_SPS, _PPS} <= kinds:
            data = self._parameter_sets + data
        return Picture(data, timestamp_ms + shift, key, shift)


class Reordering:
    """Finds out whether pictures are decoded in another order than they are shown (B-frames): a browser's WebRTC
    freezes on those. ``found`` is None while it can't be told."""

    def __init__(self) -> None:
        self.found: bool | None = None
        self._latest: int | None = None
        self._pictures = 0

    def add(self, picture: Picture) -> bool | None:
        if picture.key or self._latest is None:
            self._latest = picture.pts_ms
        elif picture.pts_ms < self._latest:
            self.found = True
        self._latest = max(self._latest, picture.pts_ms)
        self._pictures += 1
        if self.found is None and (picture.shift_ms == 0 or self._pictures >= _UNDECIDED_PICTURES):
            self.found = False
        return self.found


class SampleClock:
    """Times for frames of a constant number of samples. FLV's clock is in milliseconds, and a receiver conceals the
    part of a millisecond that two frames seem to be apart: so samples are counted, from the first timestamp on and
    again from where the two are more than ``slack`` samples apart."""

    def __init__(self, rate: int = 48_000, slack: int = 2_400) -> None:
        self._rate = rate
        self._slack = slack
        self._next: int | None = None

    def stamp(self, timestamp: int, samples: int) -> int:
        """The time, in samples, of a frame of ``samples`` that the source says is at ``timestamp`` (in samples)."""
        if self._next is None or abs(timestamp - self._next) > self._slack:
            self._next = timestamp
        stamped = self._next
        self._next += samples
        return stamped

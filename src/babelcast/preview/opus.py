"""AAC → Opus, once for all viewers of a path. With PyAV, which aiortc needs anyway."""

from __future__ import annotations

import logging
from fractions import Fraction

import av

from babelcast.preview.fanout import Sound
from babelcast.preview.media import SampleClock

log = logging.getLogger(__name__)

RATE = 48_000
_FRAME = 960
_BIT_RATE = 96_000


class OpusEncoder:
    """Takes raw AAC frames, gives Opus packets of 20 ms, stereo."""

    def __init__(self, specific_config: bytes) -> None:
        """``specific_config``: the AudioSpecificConfig of the sequence header. Raises ValueError for one that the
        decoder does not take."""
        self._decoder = av.CodecContext.create("aac", "r")
        self._decoder.extradata = specific_config
        try:
            self._decoder.open()
        except av.FFmpegError as error:
            raise ValueError(f"the AAC decoder does not take the stream's configuration: {error}") from error
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=RATE, frame_size=_FRAME)
        self._encoder = av.CodecContext.create("libopus", "w")
        self._encoder.sample_rate = RATE
        self._encoder.layout = "stereo"
        self._encoder.format = "s16"
        self._encoder.bit_rate = _BIT_RATE
        self._encoder.time_base = Fraction(1, RATE)
        self._encoder.options = {"application": "audio", "frame_duration": "20"}
        self._clock = SampleClock(RATE)
        self.errors = 0

    def encode(self, frame: bytes, timestamp_ms: int) -> list[Sound]:
        """Packets that are ready with this AAC frame. A broken frame gives none and is counted."""
        if not frame:  # to the decoder that would be the end
            return []
        packet = av.Packet(frame)
        packet.pts = packet.dts = timestamp_ms
        packet.time_base = Fraction(1, 1000)
        sounds: list[Sound] = []
        try:
            for decoded in self._decoder.decode(packet):
                for block in self._resampler.resample(decoded):
                    sounds += self._encode(block, timestamp_ms)
        except av.FFmpegError as error:
            self.errors += 1
            if self.errors == 1:
                log.warning("a frame of sound can't be decoded: %s", error)
        return sounds

    def _encode(self, block: av.AudioFrame, timestamp_ms: int) -> list[Sound]:
        base = block.time_base or Fraction(1, RATE)
        pts = timestamp_ms * RATE // 1000 if block.pts is None else int(block.pts * base * RATE)
        block.pts = self._clock.stamp(pts, block.samples)
        block.time_base = Fraction(1, RATE)
        return [Sound(bytes(each), each.pts or 0) for each in self._encoder.encode(block)]

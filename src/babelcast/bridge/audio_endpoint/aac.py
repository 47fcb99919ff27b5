"""An AAC encoder that never ends: float blocks in, ADTS frames of 1024 samples out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from babelcast.errors import MissingDependencyError
from babelcast.units import CHANNELS, RATE, Pcm

FRAME_SAMPLES = 1_024
_RATE_INDEX = 3  # 48 kHz, ISO 14496-3 table 1.18
_LOW_COMPLEXITY = 1


def adts_header(size: int) -> bytes:
    """For a raw AAC-LC frame of ``size`` bytes, 48 kHz stereo, without CRC (ISO 13818-7, 6.2)."""
    length = size + 7
    return bytes(
        (
            0xFF,
            0xF1,
            _LOW_COMPLEXITY << 6 | _RATE_INDEX << 2 | CHANNELS >> 2,
            (CHANNELS & 3) << 6 | length >> 11,
            length >> 3 & 0xFF,
            (length & 7) << 5 | 0x1F,
            0xFC,
        )
    )


class AacEncoder:
    """Raises MissingDependencyError where PyAV is not installed."""

    def __init__(self, bitrate: int) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingDependencyError(
                "PyAV is not installed", hint="make setup-run, or: pip install 'babelcast[bridge]'"
            ) from error
        self._new_frame = av.AudioFrame.from_ndarray
        codec = av.CodecContext.create("aac", "w")
        assert isinstance(codec, av.AudioCodecContext)
        codec.sample_rate, codec.bit_rate = RATE, bitrate
        codec.layout, codec.format = "stereo", "fltp"
        codec.time_base = Fraction(1, RATE)
        # without what makes clicks in speech and anti-phase in wide sound (gst/publish.py says more)
        codec.options = {"aac_tns": "0", "aac_is": "0"}
        self._codec = codec
        self._rest = np.zeros((0, CHANNELS), np.float32)
        self._count = 0

    def encode(self, samples: Pcm) -> bytes:
        """``samples``: shape (n, 2). What has become whole frames, with their headers."""
        self._rest = np.concatenate((self._rest, samples))
        out = bytearray()
        while len(self._rest) >= FRAME_SAMPLES:
            planes = np.ascontiguousarray(self._rest[:FRAME_SAMPLES].T)
            self._rest = self._rest[FRAME_SAMPLES:]
            frame = self._new_frame(planes, format="fltp", layout="stereo")
            frame.sample_rate = RATE
            frame.pts = self._count * FRAME_SAMPLES
            frame.time_base = Fraction(1, RATE)
            self._count += 1
            for packet in self._codec.encode(frame):
                raw = bytes(packet)
                out += adts_header(len(raw)) + raw
        return bytes(out)

"""The quantities that travel through Babelcast. Frozen, times in integer nanoseconds; imports nothing internal.

The *source timeline* counts nanoseconds from the start of a stream's first source (GStreamer running time,
re-based over reconnects). Audio on it is also counted in samples at :data:`RATE`; the two convert by
:func:`ns_to_samples` and :func:`samples_to_ns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

RATE = 48_000
"""Sample rate of every programme signal inside the worker, in Hz."""
CHANNELS = 2
"""Channels of every programme signal inside the worker."""
SPEECH_RATE = 16_000
"""Sample rate in Hz of the mono signal that speech backends are fed."""

Pcm: TypeAlias = npt.NDArray[np.float32]
"""Float samples in [-1, 1]: shape (n, channels) for a programme, (n,) for one voice."""
S16: TypeAlias = npt.NDArray[np.int16]
"""Whole samples, full scale 32,768: shape (n, channels)."""


def ns_to_samples(ns: int, rate: int = RATE) -> int:
    """Sample index nearest to ``ns`` (rounded half up; negative times allowed)."""
    return (ns * rate + NS_PER_S // 2) // NS_PER_S


def samples_to_ns(samples: int, rate: int = RATE) -> int:
    """Time in ns of sample index ``samples`` (rounded down)."""
    return samples * NS_PER_S // rate


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One picture, as it came. ``data`` is never changed on its way through.

    ``caps`` names the stream format (GStreamer caps string with ``codec_data``); it changes when the source
    changes its profile or resolution, always at a key frame.
    """

    pts_ns: int
    dts_ns: int
    key: bool
    data: bytes
    caps: str


@dataclass(frozen=True, slots=True)
class SpeechFrame:
    """About 100 ms of the signal that a speech backend hears.

    Frames of one session are gapless and in order. ``pcm`` is S16LE mono at ``rate`` Hz.
    """

    start_ns: int
    pcm: bytes
    rate: int = SPEECH_RATE

    @property
    def duration_ns(self) -> int:
        return len(self.pcm) // 2 * NS_PER_S // self.rate

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class Fragment:
    """1–2 s of the source: the unit of bookkeeping, of the REST contract and of fallback decisions.

    ``sequence_number`` is the ``batchNumber`` of logs: it counts from 0 without gaps within a stream. The
    first ``overlap_ns`` repeat the end of the fragment before it. ``pcm`` is interleaved S16LE.
    """

    fragment_id: str
    stream_id: str
    sequence_number: int
    start_ns: int
    duration_ns: int
    overlap_ns: int
    pcm: bytes
    rate: int
    channels: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class DubSegment:
    """Speech in the target language, with its *lineage*: the source span that it speaks.

    ``samples`` is mono float32, shape (n,), at ``rate`` Hz. ``sequence`` counts from 0 within a session and
    is the order of speaking.
    """

    segment_id: str
    sequence: int
    source_start_ns: int
    source_end_ns: int
    samples: Pcm
    rate: int
    transcript: str = ""
    translation: str = ""
    voice: str = ""

    @property
    def duration_ns(self) -> int:
        return len(self.samples) * NS_PER_S // self.rate

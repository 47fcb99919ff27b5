"""Puts PCM on the sample grid: by counting samples, and led to the timestamps where the two come apart. Pure.

Timestamps of real sources are rounded (FLV: to a millisecond, ±32 samples with the packet's own rounding), and one
of them may be plain wrong, so a single one moves nothing. But a source whose sound card runs at another speed than
its clock, a lost packet, or RTSP's clock report (a step of up to 40 ms, a second after the start) are real, and
sound must go where the pictures are:

===================  =============================================  ==========================================
off by               for                                            correction
===================  =============================================  ==========================================
2.5 ms and more      the median of nine blocks                      resampled, 833 ppm at most
12 ms and more       three blocks in a row that agree within 3 ms   a splice of up to 20 ms in every block
80 ms and more       a single block                                 a jump: faded out and in, or crossfaded
===================  =============================================  ==========================================
"""

from __future__ import annotations

from collections import deque

import numpy as np

from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.audio.retime import crossfade, most_by_resampling, resample, splice
from babelcast.units import CHANNELS, RATE, Pcm, ns_to_samples, samples_to_ns

_WINDOW = 9
_TOLERANCE = RATE // 400
_RECENT = 3
_AGREEMENT = RATE * 3 // 1_000
_SPLICE_FROM = RATE * 12 // 1_000
_HARD_LIMIT = RATE * 80 // 1_000
_FADE = RATE // 50
_BYTES = 2 * CHANNELS


class AudioPlacement:
    """State: the position that is expected next, the latest errors of the timestamps against it, and what of a
    correction is still to be done."""

    def __init__(self) -> None:
        self._expected: int | None = None
        self._errors: deque[int] = deque(maxlen=_WINDOW)
        self._owed = 0
        self._to_drop = 0
        self._tail: Pcm | None = None
        self.corrections = 0
        """How often the count was led, or jumped, to the timestamps."""
        self.jumps = 0

    @property
    def error_ns(self) -> int:
        """Median error of the placement against the source's own timestamps: how far sound is off its pictures."""
        return samples_to_ns(_median(self._errors)) if self._errors else 0

    @property
    def end(self) -> int | None:
        """Position after the last block; None before the first one of a connection."""
        return self._expected

    def restart(self) -> None:
        """A new connection: the next block lies where its timestamp says."""
        self._expected = None
        self._errors.clear()
        self._owed = self._to_drop = 0
        self._tail = None

    def move(self, samples: int) -> None:
        """Have all that comes lie so much later; where that is too far off the timestamps, it is led back."""
        if samples and self._expected is not None:
            self._expected += samples
            self._errors = deque((error - samples for error in self._errors), maxlen=_WINDOW)

    def place(self, time_ns: int, pcm: bytes) -> tuple[int, bytes]:
        """Absolute sample position of a block that starts at source time ``time_ns``, and its samples (S16LE
        stereo): as they came, or corrected. Empty while sound is skipped."""
        stamped, samples = ns_to_samples(time_ns), len(pcm) // _BYTES
        if self._expected is None:
            self._expected = stamped
        position = self._expected
        if self._to_drop:
            pcm = self._skip(pcm)
        else:
            error = stamped - position
            self._errors.append(error)
            if error >= _HARD_LIMIT:
                self._jumped()
                position = stamped
            elif error <= -_HARD_LIMIT:
                self._jumped()
                self._to_drop, self._tail = -error, from_s16le(pcm, CHANNELS)[:_FADE]
                pcm = self._skip(pcm)
            elif samples:
                pcm = self._led(pcm, samples)
        self._expected = position + len(pcm) // _BYTES
        return position, pcm

    def _led(self, pcm: bytes, samples: int) -> bytes:
        """The block, longer or shorter by a part of what it is off, where that is called for."""
        step = self._step()
        if step:
            self._owed = 0
            block = splice(from_s16le(pcm, CHANNELS), step)
            self._errors = deque(list(self._errors)[-_RECENT:], maxlen=_WINDOW)  # what was before the step is past
            self.corrections += 1
        else:
            if not self._owed and len(self._errors) == _WINDOW and abs(_median(self._errors)) > _TOLERANCE:
                self._owed = _median(self._errors)
                self.corrections += 1
            if not self._owed:
                return pcm
            most = most_by_resampling(samples)
            change = max(-most, min(most, self._owed))
            self._owed -= change
            block = resample(from_s16le(pcm, CHANNELS), change)
        made = len(block) - samples
        self._errors = deque((error - made for error in self._errors), maxlen=_WINDOW)
        return to_s16le(block)

    def _step(self) -> int:
        """By how much the timestamps have stepped away, if so they have."""
        recent = list(self._errors)[-_RECENT:]
        agreed = len(recent) == _RECENT and max(recent) - min(recent) <= _AGREEMENT
        return _median(recent) if agreed and abs(_median(recent)) >= _SPLICE_FROM else 0

    def _jumped(self) -> None:
        self._errors.clear()
        self._owed = 0
        self.corrections += 1
        self.jumps += 1

    def _skip(self, pcm: bytes) -> bytes:
        """What is left of the block after the samples that must go; from what was there before, it is crossfaded."""
        assert self._tail is not None
        block = from_s16le(pcm, CHANNELS)
        if len(block) < self._to_drop + _FADE:
            # never past the point from which a whole crossfade is left
            self._to_drop = max(self._to_drop - len(block), 1)
            return b""
        block = np.array(block[self._to_drop :])
        fade = len(self._tail)
        block[:fade] = crossfade(self._tail, block[:fade])
        self._to_drop, self._tail = 0, None
        return to_s16le(block)


def _median(errors: deque[int] | list[int]) -> int:
    return sorted(errors)[len(errors) // 2]

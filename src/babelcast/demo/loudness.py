"""Loudness by ITU-R BS.1770-4, on whole signals: K-weighting by FFT, 400 ms blocks, absolute and relative gate.

Written apart from the worker's own signal code: what measures must not share code with what is measured.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from babelcast.units import RATE, Pcm

Powers = npt.NDArray[np.float64]

FLOOR_LUFS = -70.0
_BLOCK_S = 0.4
_HOP_S = 0.1

# Biquads of BS.1770-4, tables 1 and 2 (48 kHz): the head's shelf, then the RLB high-pass.
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGHPASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))


def _k_weighting(size: int) -> npt.NDArray[np.float64]:
    """Magnitude of the K filter at the bins of an rfft of ``size`` samples at 48 kHz."""
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones(len(z), dtype=np.complex128)
    for b, a in (_SHELF, _HIGHPASS):
        response *= (b[0] + b[1] * z + b[2] * z * z) / (a[0] + a[1] * z + a[2] * z * z)
    return np.abs(response)


def block_powers(pcm: Pcm) -> Powers:
    """K-weighted mean square of each 400 ms block, one every 100 ms, channels summed.

    ``pcm``: float32 at 48 kHz, shape (n,) or (n, channels). A mono signal counts as the same in both of two
    channels, which is how it is heard once it is mixed to the centre.
    """
    channels = pcm[:, None] if pcm.ndim == 1 else pcm
    weight = 2.0 if channels.shape[1] == 1 else 1.0
    size = 1 << max(1, (len(channels) - 1).bit_length())
    gain = _k_weighting(size)
    power = np.zeros(len(channels))
    for index in range(channels.shape[1]):
        weighted = np.fft.irfft(np.fft.rfft(channels[:, index], size) * gain, size)[: len(channels)]
        power += weight * weighted**2
    hop, block = int(_HOP_S * RATE), int(_BLOCK_S * RATE)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, max(1, len(power) - block + 1), hop)
    ends = np.minimum(starts + block, len(power))
    blocks: Powers = (sums[ends] - sums[starts]) / np.maximum(1, ends - starts)
    return blocks


def lufs(power: float) -> float:
    """Mean square → LUFS; the floor for silence."""
    return max(FLOOR_LUFS, float(-0.691 + 10 * np.log10(max(power, 1e-12))))


def integrated(blocks: Powers) -> float:
    """Gated loudness of blocks from :func:`block_powers`, in LUFS."""
    loud = blocks[blocks > 10 ** ((FLOOR_LUFS + 0.691) / 10)]
    if not len(loud):
        return FLOOR_LUFS
    relative = loud[loud > loud.mean() / 10]  # −10 LU under the ungated mean
    return lufs(float(relative.mean()))


def integrated_lufs(pcm: Pcm) -> float:
    """Integrated loudness of a whole signal at 48 kHz, in LUFS (−70 for silence)."""
    return integrated(block_powers(pcm))

"""What is measured of a separation and of a file."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from babelcast.units import RATE, Pcm


def spoken(voice: Pcm) -> npt.NDArray[np.bool_]:
    """Where it is loud, by 50 ms; ``voice`` has shape (n, 2), the result (n,)."""
    size = RATE // 20
    level = np.abs(voice).max(axis=1)
    loud = np.maximum.reduceat(level, np.arange(0, len(level), size)) > 0.01
    mask: npt.NDArray[np.bool_] = np.repeat(loud, size)[: len(voice)]
    return mask


def si_sdr(reference: Pcm, estimate: Pcm) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    r, e = reference.ravel().astype(float), estimate.ravel().astype(float)
    target = (r @ e) / (r @ r) * r
    return float(10 * np.log10((target @ target) / max((e - target) @ (e - target), 1e-20)))


def residual_speech_db(estimate: Pcm, voice: Pcm, bed: Pcm) -> float:
    """The voice's gain in the estimate, by least squares on voice and bed where somebody speaks; mean of channels."""
    mask = spoken(voice)
    gains = []
    for channel in range(2):
        parts = np.stack([voice[mask, channel], bed[mask, channel]], axis=1).astype(float)
        gains.append(abs(np.linalg.lstsq(parts, estimate[mask, channel].astype(float), rcond=None)[0][0]))
    return float(20 * np.log10(np.mean(gains) + 1e-9))


def level_change_db(estimate: Pcm, bed: Pcm, where: npt.NDArray[np.bool_]) -> float:
    return float(10 * np.log10(np.mean(estimate[where] ** 2) / np.mean(bed[where] ** 2)))


@dataclass(frozen=True)
class Loudness:
    """Of a file, by ffmpeg's ``ebur128``. Integrated loudness in LUFS, true peak in dBTP; None for silence."""

    integrated: float | None
    true_peak: float | None


def loudness(path: Path) -> Loudness:
    command = ("ffmpeg", "-nostats", "-i", str(path), "-af", "ebur128=peak=true", "-f", "null", "-")
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    summary = text[text.rindex("Summary:") :]

    def number(pattern: str) -> float | None:
        found = re.search(pattern, summary)
        return float(found.group(1)) if found else None

    integrated = number(r"I:\s+(-?[\d.]+) LUFS")
    return Loudness(None if integrated is None or integrated <= -70 else integrated, number(r"Peak:\s+(-?[\d.]+) dBFS"))


def spectrogram(path: Path, picture: Path) -> None:
    draw = "aformat=channel_layouts=mono,showspectrumpic=s=900x256:legend=0:stop=12000:drange=90:limit=0"
    command = ("ffmpeg", "-v", "error", "-y", "-i", str(path), "-lavfi", draw, str(picture))
    subprocess.run(command, check=True)

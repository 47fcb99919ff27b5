"""Real-time factors of the worker's sound: mixer, tempo, separators. Prints markdown; see bench/run.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from babelcast.audio.clicks import find_clicks
from babelcast.audio.duck import Ducking
from babelcast.audio.limit import PeakLimiter
from babelcast.audio.loudness import hop_powers
from babelcast.audio.mix import Mixer, MixSettings
from babelcast.audio.resample import SpeechDownsampler
from babelcast.audio.schedule import DubTrack
from babelcast.audio.source import SourceAudio
from babelcast.audio.stretch import stretch
from babelcast.demo.bed import make_bed
from babelcast.separate.factory import SeparationMode, make_separator
from babelcast.units import RATE, DubSegment, Pcm, samples_to_ns

SECONDS = 20
BLOCK = RATE // 20
DUCKED = MixSettings(ducking=Ducking(enabled=True))
BALANCED = MixSettings(ducking=Ducking(enabled=True), balance="auto")


def programme() -> Pcm:
    """A bed, and something centred that comes and goes like talk."""
    bed = make_bed(SECONDS, (), -37)
    rng = np.random.default_rng(1)
    t = np.arange(len(bed)) / RATE
    pulses = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30))
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 4 * t)) * (np.sin(2 * np.pi * 0.3 * t) > -0.5)
    voice = 0.05 * (pulses + 0.2 * rng.standard_normal(len(t))) * syllables
    return np.asarray(bed + voice[:, None], dtype=np.float32)


def factor(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """CPU seconds per second of sound, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / seconds


def mixing(signal: Pcm, with_dub: bool, settings: MixSettings | None = None) -> Callable[[], object]:
    def work() -> None:
        source = SourceAudio(SECONDS + 1)
        dub = DubTrack()
        if with_dub:
            for i in range(SECONDS // 4):
                voice = signal[: 3 * RATE, 0] * 0.5
                start = samples_to_ns((4 * i + 1) * RATE)
                dub.add(DubSegment(f"s{i}", i, start, start + 3_000_000_000, voice, RATE), playhead=0)
        mixer = Mixer(source, dub, settings)
        for pos in range(0, len(signal), BLOCK):
            source.write_original(pos, signal[pos : pos + BLOCK])
            source.write_background(pos, signal[pos : pos + BLOCK])
        for pos in range(0, len(signal) - RATE, BLOCK):
            mixer.render(pos, BLOCK, None if with_dub else "original")

    return work


def separating(signal: Pcm, mode: SeparationMode) -> Callable[[], object]:
    separator = make_separator(mode)

    def work() -> None:
        for pos in range(0, len(signal), BLOCK):
            separator.process(signal[pos : pos + BLOCK])

    return work


def limiting(signal: Pcm) -> Callable[[], object]:
    loud = signal * np.float32(1.5 / np.abs(signal).max())

    def work() -> None:
        limiter = PeakLimiter(2)
        for pos in range(0, len(loud), BLOCK):
            limiter.process(loud[pos : pos + BLOCK])

    return work


def downsampling(signal: Pcm) -> Callable[[], object]:
    down = SpeechDownsampler()
    return lambda: [down.process(signal[pos : pos + BLOCK]) for pos in range(0, len(signal), BLOCK)]


def main() -> None:
    signal = programme()
    mono = np.ascontiguousarray(signal[:, 0])
    rows: list[tuple[str, float]] = [
        ("mixer, dub on air (rings written and read, scheduling included)", factor(mixing(signal, True))),
        ("the same with sidechain ducking", factor(mixing(signal, True, DUCKED))),
        ("the same with ducking and `balance: auto`", factor(mixing(signal, True, BALANCED))),
        ("mixer, original passed on", factor(mixing(signal, False))),
        ("true-peak limiter, every millisecond above the ceiling", factor(limiting(signal))),
        ("K-weighted loudness of a stereo signal", factor(lambda: hop_powers(signal))),
        ("click finder (tests only)", factor(lambda: find_clicks(signal))),
        ("48 kHz stereo to 16 kHz mono", factor(downsampling(signal))),
        ("tempo 1.2 of a dubbed voice", factor(lambda: stretch(mono, 1.2))),
    ]
    modes: tuple[SeparationMode, ...] = ("off", "spectral", "centre", "auto")
    rows += [(f"separation `{mode}`", factor(separating(signal, mode))) for mode in modes]
    print(f"{SECONDS} s at 48 kHz stereo, blocks of {BLOCK} samples; CPU seconds per second of sound.\n")
    print("| what | real-time factor |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value:.4f} |")
    print(f"\nSeparation is {make_separator('auto').latency_samples / RATE:.2f} s late, which the fixed delay covers.")


if __name__ == "__main__":
    main()

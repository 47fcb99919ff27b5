"""A mock engine: tones instead of speech, no recognition and no translation. For tests and for trying the plumbing.

It answers over the same service and contracts as a real engine and is deterministic: each stretch of sound becomes a
tone as long as itself, whose frequency follows from its sequence number.
"""

from __future__ import annotations

import numpy as np

from babelcast.errors import SpeechError
from babelcast.sts.batching import BatchStats
from babelcast.sts.engine import FragmentResult, Output, SaidResult, Spoken
from babelcast.units import NS_PER_MS, Pcm, samples_to_ns
from babelcast.wire import Language, Progress, Segment, StageTimes, Start, Voice

_STEPS_HZ = (440, 494, 554, 587, 659, 740, 831, 880)
_LEVEL = 0.25
_FADE_S = 0.005
_THRESHOLD = 0.003
"""RMS (-50 dBFS) above which a block counts as sound."""
_BLOCK_S = 0.1
_MAX_S = 1.5
_PAUSE_BLOCKS = 3
RATE = 16_000
"""Of what is said from text."""
_MAX_GAP_NS = 40 * NS_PER_MS


def frequency(sequence: int) -> int:
    """Frequency in Hz of the tone for a segment or fragment."""
    return _STEPS_HZ[sequence % len(_STEPS_HZ)]


def tone(sequence: int, length: int, rate: int) -> Pcm:
    """The tone for ``sequence``: mono float32, shape (length,), faded at both ends."""
    samples = _LEVEL * np.sin(2 * np.pi * frequency(sequence) * np.arange(length) / rate)
    fade = np.linspace(0, 1, min(int(_FADE_S * rate), length // 2))
    samples[: len(fade)] *= fade
    samples[length - len(fade) :] *= fade[::-1]
    return samples.astype(np.float32)


def text(sequence: int) -> str:
    return f"[tone {frequency(sequence)} Hz]"


class ToneSession:
    """See :class:`babelcast.sts.engine.Session`."""

    def __init__(self, start: Start, session_id: str) -> None:
        self._start = start
        self._session_id = session_id
        self._rate = start.sample_rate
        self._block = int(_BLOCK_S * self._rate) * 2
        self._max_blocks = round(min(_MAX_S, start.max_segment_ms / 1000) / _BLOCK_S)
        self._sequence = start.resume.next_sequence if start.resume else 0
        self._spoken_until_ns = start.resume.answered_until_ns if start.resume else None
        self._next_ns: int | None = None
        """Source time behind everything that was heard."""
        self._rest = b""
        self._blocks = 0
        """Length of the stretch of sound in progress, with the pause at its end."""
        self._quiet = 0

    def push(self, source_ns: int, pcm: bytes) -> list[Output]:
        out: list[Output] = []
        if self._next_ns is not None and abs(source_ns - self._next_ns) > _MAX_GAP_NS:
            out += self._end()
            self._rest, self._next_ns = b"", None
        if self._next_ns is None:
            self._next_ns = source_ns
        self._rest += pcm
        self._next_ns += samples_to_ns(len(pcm) // 2, self._rate)
        while len(self._rest) >= self._block:
            block, self._rest = self._rest[: self._block], self._rest[self._block :]
            out += self._hear(block)
        if not self._blocks:
            out.append(Progress(processed_until_ns=self._heard_ns()))
        return out

    def finish(self) -> list[Output]:
        out = self._end()
        if self._next_ns is not None:
            out.append(Progress(processed_until_ns=self._next_ns))
        return out

    def close(self) -> None:
        """Nothing is held."""

    def _heard_ns(self) -> int:
        assert self._next_ns is not None
        return self._next_ns - samples_to_ns(len(self._rest) // 2, self._rate)

    def _hear(self, block: bytes) -> list[Output]:
        samples = np.frombuffer(block, "<i2").astype(np.float32) / 32768
        loud = float(np.sqrt(np.mean(samples**2))) > _THRESHOLD
        if not loud and not self._blocks:
            return []
        self._blocks += 1
        self._quiet = 0 if loud else self._quiet + 1
        if self._blocks >= self._max_blocks or self._quiet >= _PAUSE_BLOCKS:
            return self._end()
        return []

    def _end(self) -> list[Output]:
        """A tone for the stretch of sound that ended."""
        blocks, quiet = self._blocks, self._quiet
        self._blocks = self._quiet = 0
        if not blocks:
            return []
        heard = self._heard_ns()
        start = heard - samples_to_ns(blocks * self._block // 2, self._rate)
        end = heard - samples_to_ns(quiet * self._block // 2, self._rate)
        out: list[Output] = []
        if self._spoken_until_ns is None or end > self._spoken_until_ns:
            out += [
                self._spoken(language, start, end, (blocks - quiet) * self._block // 2)
                for language in self._start.targets
            ]
        return [*out, Progress(processed_until_ns=heard)]

    def _spoken(self, language: str, start_ns: int, end_ns: int, count: int) -> Spoken:
        sequence, self._sequence = self._sequence, self._sequence + 1
        message = Segment(
            segment_id=f"{self._session_id}-{sequence}",
            sequence=sequence,
            source_start_ns=start_ns,
            source_end_ns=end_ns,
            transcript=text(sequence),
            translation=text(sequence),
            voice="tone",
            sample_rate=self._rate,
            samples=count,
            language=language,
        )
        return Spoken(message, tone(sequence, count, self._rate))


class ToneEngine:
    """See :class:`babelcast.sts.engine.Engine`."""

    stages = ("tone (mock)", "tone (mock)", "tone (mock)")
    languages = (Language(source="en", target="es"), Language(source="es", target="en"))
    voices = tuple(Voice(name="tone", language=tag, gender="neutral", engine="tone (mock)") for tag in ("es", "en"))

    @property
    def batches(self) -> tuple[BatchStats, ...]:
        return ()

    def preload(self) -> None:
        """Nothing to load."""

    def resolve_voice(self, source: str, target: str, voice: str | None) -> str:
        """Any language and any voice will do."""
        return "tone"

    def open(self, start: Start, session_id: str) -> ToneSession:
        if not 8_000 <= start.sample_rate <= 96_000:
            raise SpeechError("the sample rate must be 8000 to 96000 Hz", code="unsupported_format")
        return ToneSession(start, session_id)

    def process(
        self, samples: Pcm, rate: int, source: str, target: str, voice: str | None, sequence: int
    ) -> FragmentResult:
        if not len(samples) or float(np.sqrt(np.mean(samples**2))) <= _THRESHOLD:
            return FragmentResult(np.zeros(len(samples), np.float32), "", "", StageTimes())
        return FragmentResult(tone(sequence, len(samples), rate), text(sequence), text(sequence), StageTimes())

    def say(self, text: str, language: str, voice: str | None) -> SaidResult:
        """As long as the text would take to be said, about: 15 characters a second."""
        return SaidResult(tone(len(text), max(1, round(len(text) / 15 * RATE)), RATE), RATE, "tone", StageTimes())

    def close(self) -> None:
        """Nothing is held."""

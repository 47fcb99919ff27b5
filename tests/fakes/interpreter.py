"""What a continuous interpreter does with sound, as both cloud fakes do it: it says what it heard, ``lag_s`` later.

Output is as long as time is, straight through pauses, in steps of 250 ms; a "translation" is the source's own sound, so
that a test knows by its pitch what was spoken. Transcripts come about once a second, the source's a little after its
sound; a pause ends a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

IN_RATE = 16_000
_BLOCK = IN_RATE // 10
_LOUD = 300


@dataclass(frozen=True)
class Script:
    """How one connection goes. Times in seconds after the set-up."""

    lag_s: float = 3.0
    setup: str = "ok"
    """``ok``, or ``never``."""
    refuse: tuple[int, str] | None = None
    """Close with this code instead of the set-up."""
    goaway_s: float | None = None
    goaway_left_s: float = 50.0
    close_s: float | None = None
    close: tuple[int, str] = (1011, "internal error")
    """1006: the connection is cut without a word."""
    mute: bool = False
    """All output is zeros; transcripts come."""
    hush_s: float | None = None
    """From here on no message at all."""
    step_s: float = 0.25
    """A large one makes bursts."""
    odd: bool = False
    """Chunks of odd numbers of bytes."""
    rates: tuple[int, ...] = (24_000,)
    """Output rates, each for 5 s, in turns."""
    chatter: bool = False
    """Speaks although nothing is said."""
    handles: bool = True


@dataclass
class Record:
    """What the server saw of one connection."""

    setup: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    opened_s: float = 0.0
    closed_s: float | None = None
    arrivals: list[tuple[float, bool]] = field(default_factory=list)
    """When each chunk came, and whether anything was to be heard in it."""
    sizes: set[int] = field(default_factory=set)
    handle: str | None = None


@dataclass(frozen=True)
class Step:
    pcm: bytes
    rate: int
    heard: str
    said: str


class Interpreter:
    """One session's. ``hear`` takes S16LE at 16 kHz; :meth:`steps` gives what is said, at its time."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._source = bytearray()
        self._forgotten = 0  # bytes
        self._runs: list[list[int]] = []  # first and last loud block
        self._blocks = 0
        self._left = b""
        self._said = 0
        self._said_words = 0
        self._heard_words = 0
        self._heard = 0
        self._out_left = b""
        self._began: float | None = None
        self._heard_s = 0.0

    def hear(self, pcm: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        # sound that comes late was silence meanwhile
        late = int((now - self._began - self._heard_s - 0.35) * 10) * 2 * _BLOCK
        pcm = bytes(max(0, late)) + pcm
        self._heard_s += len(pcm) / 2 / IN_RATE
        self._source += pcm
        data = self._left + pcm
        while len(data) >= 2 * _BLOCK:
            block, data = data[: 2 * _BLOCK], data[2 * _BLOCK :]
            if int(np.abs(np.frombuffer(block, "<i2").astype(np.int32)).max()) > _LOUD:
                if self._runs and self._blocks - self._runs[-1][1] <= 3:
                    self._runs[-1][1] = self._blocks
                else:
                    self._runs.append([self._blocks, self._blocks])
            self._blocks += 1
        self._left = data

    async def steps(self) -> AsyncIterator[Step]:
        loop = asyncio.get_running_loop()
        began, done = loop.time(), 0
        self._began = began
        while True:
            done += 1
            await asyncio.sleep(max(0.0, began + done * self._script.step_s - loop.time()))
            now = done * self._script.step_s
            if self._script.hush_s is not None and now >= self._script.hush_s:
                await asyncio.sleep(1e6)
            yield self.step(now)

    def step(self, now: float) -> Step:
        script = self._script
        rate = script.rates[int(now / 5) % len(script.rates)]
        start = now - script.step_s - script.lag_s
        samples = self._source_at(start, script.step_s)
        if script.mute:
            samples[:] = 0
        elif script.chatter:
            samples = 8_000 * np.sin(2 * np.pi * 300 * np.arange(len(samples)) / IN_RATE)
        count = round(script.step_s * rate)
        if rate != IN_RATE:
            samples = np.interp(np.arange(count) * IN_RATE / rate, np.arange(len(samples)), samples)
        pcm = self._out_left + samples.astype("<i2").tobytes()
        self._out_left = b""
        if script.odd:
            pcm, self._out_left = pcm[:-1], pcm[-1:]
        return Step(pcm, rate, *self._words(now))

    def _source_at(self, start_s: float, length_s: float) -> np.ndarray:
        """Samples of the source from ``start_s``; zeros where it isn't there."""
        at, count = round(start_s * IN_RATE) - self._forgotten // 2, round(length_s * IN_RATE)
        out = np.zeros(count)
        have = np.frombuffer(self._source, "<i2")
        first, last = max(at, 0), min(at + count, len(have))
        if last > first:
            out[first - at : last - at] = have[first:last]
        del have
        old = max(0, at - IN_RATE) * 2
        if old:
            del self._source[:old]
            self._forgotten += old
        return out

    def _words(self, now: float) -> tuple[str, str]:
        """A word for each second of a run, and one with a full stop at its end."""
        heard = said = ""
        while self._heard < len(self._runs):
            first, last = self._runs[self._heard]
            if now - 0.7 >= last / 10 + 0.4 and self._blocks / 10 >= last / 10 + 0.4:
                heard += f" s{self._heard}."
                self._heard += 1
                self._heard_words = 0
            elif now - 0.7 >= first / 10 + 1 + self._heard_words:
                self._heard_words += 1
                heard += " so"
            else:
                break
        lag = self._script.lag_s
        while self._said < len(self._runs):
            first, last = self._runs[self._said]
            if now - lag >= last / 10 and self._blocks / 10 >= last / 10 + 0.4:
                said += f" t{self._said}."
                self._said += 1
                self._said_words = 0
            elif now - lag >= first / 10 + 1 + self._said_words:
                self._said_words += 1
                said += " pues"
            else:
                break
        return heard, said

"""An audio endpoint, a listener that writes down what it hears, and producers."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import numpy.typing as npt

from babelcast.audio.pcm import to_s16le
from babelcast.bridge.audio_endpoint.api import serving
from babelcast.bridge.audio_endpoint.endpoint import Endpoint
from babelcast.bridge.audio_endpoint.settings import AudioSettings
from babelcast.units import RATE

PCM = "audio/pcm;rate=48000;channels=1"
STEP_S = 0.1


@dataclass
class Rig:
    endpoint: Endpoint
    url: str
    http: aiohttp.ClientSession

    async def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def bed_is(self, level: Callable[[float], bool], seconds: float = 0.3) -> None:
        """Until the bed has had such a level, in dBFS, for so long altogether: a busy machine may leave holes in it."""
        for _ in range(round(seconds / 0.02)):
            await self.until(lambda: level(self.endpoint.mixer.bed_db))
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def audio(settings: AudioSettings | None = None) -> AsyncIterator[Rig]:
    async with Endpoint.running(settings or AudioSettings()) as endpoint, serving(endpoint, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(url) as http:
            yield Rig(endpoint, url, http)


@dataclass
class Listener:
    data: bytearray = field(default_factory=bytearray)
    arrived: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """By its frames, each of which begins with a header."""
        return self.data.count(b"\xff\xf1") * 1_024 / RATE

    def heard(self) -> list[int]:
        """Of each tenth of a second: the loudest frequency in Hz, to 10 Hz; 0 where there is none."""
        return frequencies(self.samples())

    def samples(self) -> npt.NDArray[np.float64]:
        command = ["ffmpeg", "-v", "error", "-f", "aac", "-i", "pipe:0", "-f", "s16le", "pipe:1"]
        pcm = subprocess.run(command, input=bytes(self.data), capture_output=True, check=True).stdout
        return np.frombuffer(pcm, "<i2").reshape(-1, 2)[:, 0].astype(np.float64) / 32_768


def seconds_of(frequency: float, samples: npt.NDArray[np.float64], level: float = 0.25 * 0.5**0.5) -> float:
    """How long ``frequency`` is in ``samples``, by its energy: wherever it is, in however many pieces. ``level``: by
    default that of :func:`sine` when one channel has become two."""
    spectrum = np.fft.rfft(samples)
    at = np.fft.rfftfreq(len(samples), 1 / RATE)
    energy = 2 * np.sum(np.abs(spectrum[np.abs(at - frequency) < 90]) ** 2) / len(samples) / RATE
    return float(energy / (level**2 / 2))


def frequencies(samples: npt.NDArray[np.float64]) -> list[int]:
    step, found = int(RATE * STEP_S), []
    for at in range(0, len(samples) - step + 1, step):
        block = samples[at : at + step]
        peak = int(np.argmax(np.abs(np.fft.rfft(block * np.hanning(step))))) * 10
        found.append(peak if np.sqrt(np.mean(block**2)) > 0.01 else 0)
    return found


def runs(heard: list[int]) -> list[tuple[int, int]]:
    """(frequency, tenths) of what lasted two tenths or longer."""
    found: list[tuple[int, int]] = []
    for each in heard:
        if found and found[-1][0] == each:
            found[-1] = (each, found[-1][1] + 1)
        else:
            found.append((each, 1))
    return [each for each in found if each[1] >= 2]


def order(heard: list[int]) -> list[int]:
    """The frequencies in the order in which they were heard; a stall of the busy machine amid one is none of
    a test's business."""
    found = [each for each, _ in runs(heard) if each]
    return [each for at, each in enumerate(found) if at == 0 or found[at - 1] != each]


@contextlib.asynccontextmanager
async def listening(rig: Rig, params: dict[str, str] | None = None) -> AsyncIterator[Listener]:
    """From the block's beginning to its end."""
    listener = Listener()
    ready = asyncio.Event()

    async def listen() -> None:
        async with rig.http.get("/stream", params=params) as answer:
            assert answer.status == 200 and answer.content_type == "audio/aac", await answer.text()
            ready.set()
            async for chunk in answer.content.iter_any():
                listener.data += chunk
                listener.arrived.append(time.monotonic())

    task = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(5):
            await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sine(frequency: float, seconds: float, level: float = 0.25) -> bytes:
    """S16LE mono at 48 kHz."""
    at = np.arange(round(seconds * RATE))
    return to_s16le((level * np.sin(2 * np.pi * frequency * at / RATE)).astype(np.float32))


def encoded(frequency: float, seconds: float, *options: str) -> bytes:
    """The same by ffmpeg's encoder and muxer."""
    command = ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:0", *options, "pipe:1"]
    return subprocess.run(command, input=sine(frequency, seconds), capture_output=True, check=True).stdout


async def live(frequency: float, seconds: float = 60.0) -> AsyncIterator[bytes]:
    """A body in chunks of 20 ms, at the speed of life."""
    data, step = sine(frequency, 1.0), RATE // 50 * 2
    begun = time.monotonic()
    for number in range(round(seconds * 50)):
        at = number % 50 * step
        yield data[at : at + step]
        await asyncio.sleep(max(0.0, begun + (number + 1) / 50 - time.monotonic()))

"""How late, how complete and how right the offline chain dubs: a minute of connected talk in real time.

``python bench/speech.py [--bed -18] [--sessions 1]`` starts the speech service, feeds it over the WebSocket at the
speed of a broadcast and prints a markdown table. The talk is flite's, two voices in turn, pauses of 0.2 to 0.5 s;
``--bed`` puts music and crowd behind it, in dB against the speech.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import subprocess
import time
from dataclasses import dataclass

import click
import numpy as np
import numpy.typing as npt

from babelcast.speech.base import SegmentEvent, SpeechTarget
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.offline import OfflineEngine
from babelcast.sts.serve import serving
from babelcast.sts.service import Service
from babelcast.units import NS_PER_S, SPEECH_RATE, DubSegment, SpeechFrame, samples_to_ns

TALK = (
    ("slt", "Good evening and welcome to the harbor festival."),
    ("slt", "Thousands of people have come to the city today to see the old ships and to listen to the music."),
    ("rms", "The first boats arrived early in the morning, when the water was still dark and quiet."),
    ("slt", "The weather is warm."),
    ("rms", "The mayor said that the festival is good for the town, because the hotels and restaurants are full."),
    ("slt", "Many families walked along the river with their children."),
    ("rms", "They bought food, and they watched the dancers in the street."),
    (
        "slt",
        "In the afternoon a big ship from the north came into the port, "
        "and the people on the bridge waved their hands.",
    ),
    ("rms", "The captain told us that the journey took eleven days."),
    ("slt", "He said the wind was strong but the crew worked very well."),
    ("rms", "Tomorrow there will be a race with twenty small boats."),
    ("slt", "The winner will receive a silver cup and a large amount of money."),
    ("rms", "We also spoke with a teacher who brought her class to the museum."),
    ("slt", "She thinks that children learn more when they can see and touch the things."),
    ("rms", "At night the city will light a thousand lamps on the water."),
    ("slt", "Stay with us, we will be back in a few minutes with more news."),
)
FRAME = SPEECH_RATE // 10
LEVEL = 0.1
Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sentence:
    start_s: float
    end_s: float
    words: list[str]


@dataclass(frozen=True)
class Heard:
    at_s: float
    """When it was in our hands, on the source's clock."""
    segment: DubSegment


def words_of(text: str) -> list[str]:
    return text.lower().replace(",", "").replace(".", "").replace("harbour", "harbor").split()


def say(voice: str, text: str) -> Samples:
    """One sentence at :data:`LEVEL` RMS, without silence round it."""
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", f"flite=voice={voice}:text='{text}'"]
    command += ["-ar", str(SPEECH_RATE), "-ac", "1", "-f", "s16le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(raw, "<i2") / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 400]
    leveled: Samples = samples * LEVEL / np.sqrt(np.mean(samples**2))
    return leveled


def make_talk() -> tuple[Samples, list[Sentence]]:
    rng = random.Random(3)
    parts = [np.zeros(SPEECH_RATE)]
    sentences = []
    for voice, text in TALK:
        start = sum(map(len, parts))
        parts += [say(voice, text), np.zeros(int(rng.uniform(0.2, 0.5) * SPEECH_RATE))]
        sentences.append(Sentence(start / SPEECH_RATE, (start + len(parts[-2])) / SPEECH_RATE, words_of(text)))
    return np.concatenate([*parts, np.zeros(2 * SPEECH_RATE)]), sentences


def make_bed(count: int) -> Samples:
    """Decaying chords and low-passed noise, together at 1.0 RMS."""
    when = np.arange(count) / SPEECH_RATE
    chords = np.array([(220, 277, 330), (196, 247, 294), (175, 220, 262), (196, 247, 330)])[(when // 2).astype(int) % 4]
    music = sum(
        np.sin(2 * np.pi * harmonic * chords[:, note] * when) / harmonic for note in range(3) for harmonic in (1, 2, 3)
    ) * np.exp(-4 * (when % 0.5))
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=count))
    spectrum /= np.sqrt(1 + (np.fft.rfftfreq(count, 1 / SPEECH_RATE) / 500) ** 2)
    crowd = np.fft.irfft(spectrum, count) * (1 + 0.4 * np.sin(2 * np.pi * 0.3 * when))
    bed = music / music.std() + crowd / crowd.std()
    normalised: Samples = bed / bed.std()
    return normalised


def word_errors(truth: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(truth, 1):
        before, row = row, [place]
        for other_place, other in enumerate(heard, 1):
            row.append(min(before[other_place] + 1, row[-1] + 1, before[other_place - 1] + (word != other)))
    return row[-1]


async def dub(backend: StsStreamBackend, name: str, pcm: bytes) -> list[Heard]:
    """Feed ``pcm`` as it would come from a broadcast."""
    session = await backend.open(SpeechTarget(name, "en", "es"))
    began = time.monotonic()

    async def collect() -> list[Heard]:
        return [
            Heard(time.monotonic() - began, event.segment)
            async for event in session.events()
            if isinstance(event, SegmentEvent)
        ]

    collecting = asyncio.create_task(collect())
    for place in range(0, len(pcm), 2 * FRAME):
        frame = SpeechFrame(samples_to_ns(place // 2, SPEECH_RATE), pcm[place : place + 2 * FRAME])
        await asyncio.sleep(began + frame.end_ns / NS_PER_S - time.monotonic())  # a frame is there when it is over
        await session.send(frame)
    await session.finish()
    heard = await collecting
    await session.aclose()
    return heard


def lags_of(sentences: list[Sentence], heard: list[Heard]) -> list[float]:
    """Per dubbed sentence: its onset to its first dubbed sound in hand."""
    lags = []
    for sentence in sentences:
        of_it = [
            found.at_s
            for found in heard
            if found.segment.source_end_ns / NS_PER_S > sentence.start_s + 0.3
            and found.segment.source_start_ns / NS_PER_S < sentence.end_s - 0.3
        ]
        if of_it:
            lags.append(min(of_it) - sentence.start_s)
    return lags


def report(sentences: list[Sentence], sessions: list[list[Heard]], bed: str, factor: float) -> str:
    lags = [lag for heard in sessions for lag in lags_of(sentences, heard)]
    truth = [word for sentence in sentences for word in sentence.words]
    errors = sum(
        word_errors(truth, [word for found in heard for word in words_of(found.segment.transcript)])
        for heard in sessions
    )
    rows = (
        ("sentences dubbed", f"{len(lags)} of {len(sentences) * len(sessions)}"),
        ("dub lag P50", f"{np.percentile(lags, 50):.2f} s"),
        ("dub lag P95", f"{np.percentile(lags, 95):.2f} s"),
        ("dub lag worst", f"{max(lags):.2f} s"),
        ("word error rate", f"{errors / len(truth) / len(sessions):.3f}"),
        ("segments", str(sum(map(len, sessions)))),
        ("time in sessions per second of sound", f"{factor:.3f}"),
    )
    title = f"offline chain, {len(sessions)} session(s), bed {bed}"
    return "\n".join([f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def machine() -> str:
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


@click.command()
@click.option("--bed", type=float, help="Level of music and crowd against the speech, in dB. Default: none.")
@click.option("--sessions", default=1, type=click.IntRange(1, 8), help="Streams at once.")
def main(bed: float | None, sessions: int) -> None:
    """Measure the speech service."""
    samples, sentences = make_talk()
    if bed is not None:
        samples = samples + LEVEL * 10 ** (bed / 20) * make_bed(len(samples))
    pcm = (samples * 32767).clip(-32768, 32767).astype("<i2").tobytes()

    async def run() -> tuple[list[list[Heard]], float]:
        service = Service(OfflineEngine(spares=sessions))
        async with serving(service) as url:
            backend = StsStreamBackend(url)
            heard = await asyncio.gather(*(dub(backend, f"bench-{number}", pcm) for number in range(sessions)))
            await backend.aclose()
        registry = service.metrics.registry
        busy, audio = (registry.get_sample_value(f"sts_{name}_seconds_total") or 0.0 for name in ("busy", "audio"))
        return heard, busy / max(audio, 0.001)

    heard, factor = asyncio.run(run())
    click.echo(f"{machine()}; load {os.getloadavg()[0]:.1f}\n")
    click.echo(report(sentences, heard, "none" if bed is None else f"{bed:g} dB", factor))


if __name__ == "__main__":
    main()

"""Driving an interpreter's session in virtual time, and what to make of its segments."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from tests.fakes.speech import frames, silence, sine

from babelcast.speech.base import (
    ClosedEvent,
    LostEvent,
    ProgressEvent,
    SegmentEvent,
    SpeechEvent,
    SpeechSession,
    SpeechTarget,
    UsageEvent,
)
from babelcast.units import NS_PER_S, DubSegment, SpeechFrame

TARGET = SpeechTarget("show", "en", "es")


@dataclass(frozen=True)
class Sentence:
    """A tone of its own pitch."""

    start_s: float
    end_s: float
    hz: float


def programme(length_s: float, speech_s: float = 2.0, pause_s: float = 1.5) -> list[Sentence]:
    """Sentences with pauses between; the pitch says which is which among 40 neighbours."""
    found, at, number = [], 0.5, 0
    while at + speech_s + pause_s <= length_s:
        length = speech_s * (0.6 + 0.2 * (number % 5))
        found.append(Sentence(at, at + length, 200.0 + 20.0 * (number % 40)))
        at += length + pause_s
        number += 1
    return found


def sound(sentences: list[Sentence], length_s: float) -> Iterator[SpeechFrame]:
    """The programme in frames of 100 ms, made as they are asked for."""
    at, left = 0.0, list(sentences)
    while at < length_s - 1e-9:
        piece = left[0] if left else None
        if piece is not None and at >= piece.start_s - 1e-9:
            pcm, end = sine(piece.end_s - piece.start_s, piece.hz), piece.end_s
            left.pop(0)
        else:
            end = piece.start_s if piece is not None else length_s
            pcm = silence(end - at + 1e-9)
        yield from frames(pcm, round(at * NS_PER_S))
        at = end


@dataclass
class Take:
    """What a session gave."""

    events: list[SpeechEvent] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    """Loop time at which each event came, since the first frame."""

    @property
    def segments(self) -> list[DubSegment]:
        return [event.segment for event in self.events if isinstance(event, SegmentEvent)]

    @property
    def lost(self) -> list[tuple[float, float]]:
        return [
            (event.source_start_ns / NS_PER_S, event.source_end_ns / NS_PER_S)
            for event in self.events
            if isinstance(event, LostEvent)
        ]

    @property
    def progress_s(self) -> list[float]:
        return [event.processed_until_ns / NS_PER_S for event in self.events if isinstance(event, ProgressEvent)]

    @property
    def closed(self) -> ClosedEvent:
        last = self.events[-1]
        assert isinstance(last, ClosedEvent), last
        return last

    @property
    def usage(self) -> list[UsageEvent]:
        return [event for event in self.events if isinstance(event, UsageEvent)]


async def listen(session: SpeechSession, take: Take) -> Take:
    began = asyncio.get_running_loop().time()
    async for event in session.events():
        take.events.append(event)
        take.times_s.append(asyncio.get_running_loop().time() - began)
    return take


async def play(session: SpeechSession, source: Iterator[SpeechFrame]) -> None:
    """Send frames at their time, as a live source does."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for frame in source:
        await asyncio.sleep(max(0.0, began + frame.end_ns / NS_PER_S - loop.time()))
        await session.send(frame)


async def dub(session: SpeechSession, sentences: list[Sentence], length_s: float) -> Take:
    """Play a programme to its end, collect everything, close."""
    take = Take()
    listening = asyncio.create_task(listen(session, take))
    try:
        await play(session, sound(sentences, length_s))
        await session.finish()
        async with asyncio.timeout(60):
            await listening
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await session.aclose()
    return take


def pitch(segment: DubSegment) -> float:
    """Of the loudest tone, in Hz, to the nearest of :func:`programme`'s."""
    spectrum = np.abs(np.fft.rfft(segment.samples * np.hanning(len(segment.samples)), 8 * len(segment.samples)))
    hz = np.argmax(spectrum) * segment.rate / (8 * len(segment.samples))
    return 200.0 + 20.0 * round((float(hz) - 200.0) / 20.0)


def loud_s(segment: DubSegment) -> float:
    """Seconds of it in which there is sound."""
    size = segment.rate // 50
    count = len(segment.samples) // size
    power = np.mean(np.square(segment.samples[: count * size].reshape(count, size)), axis=1)
    return float(np.count_nonzero(power > 1e-4)) * 0.02


@dataclass
class Coverage:
    """How much of a sentence was spoken, in seconds, and how far its span begins from the truth."""

    sentence: Sentence
    spoken_s: float = 0.0
    off_s: float | None = None


def coverage(sentences: list[Sentence], segments: list[DubSegment]) -> list[Coverage]:
    """Each segment counts for the sentence of its pitch that is nearest to its span."""
    found = [Coverage(sentence) for sentence in sentences]
    for segment in segments:
        hz, start = pitch(segment), segment.source_start_ns / NS_PER_S
        same = [one for one in found if abs(one.sentence.hz - hz) < 1]
        assert same, f"a tone of {hz} Hz that nobody said"
        best = min(same, key=lambda one: abs(one.sentence.start_s - start))
        if best.off_s is None:
            best.off_s = start - best.sentence.start_s
        best.spoken_s += loud_s(segment)
    return found

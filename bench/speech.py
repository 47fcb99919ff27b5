"""How right and how late the speech service dubs: connected talk in real time, by chain of engines and by condition.

``python bench/speech.py [CASE …]`` starts the service for each case, feeds it over the WebSocket at the speed of a
broadcast and prints a markdown table. The talk is flite's, two voices in turn, pauses of 0.2 to 0.5 s
(bench/speech_texts.py); "over music" puts music and crowd 18 dB under it. The figures are defined in
bench/speech_figures.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import speech_figures as figures
from babelcast.errors import SpeechError
from babelcast.speech.base import ClosedEvent, SegmentEvent, SpeechBackend, SpeechTarget
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.engine import Engine
from babelcast.sts.engines import EngineSettings, build
from babelcast.sts.serve import serving
from babelcast.sts.service import Limits, Service
from babelcast.units import NS_PER_S, SPEECH_RATE, DubSegment, SpeechFrame, samples_to_ns
from machine import machine
from speech_texts import LEVEL, TALK, TEXTS, Sentence, as_pcm, make_bed, make_talk

FRAME = SPEECH_RATE // 10
MakeBackend = Callable[[str], SpeechBackend]


@dataclass(frozen=True)
class Heard:
    at_s: float
    """When it was in our hands, on the source's clock."""
    segment: DubSegment


@dataclass(frozen=True)
class Case:
    """``text``: a name in speech_texts.TEXTS, and how many of its sentences. ``understands``: whether its weights are
    trained, so that what it says can be right or wrong."""

    title: str
    text: str = "talk"
    sentences: int | None = None
    sessions: int = 1
    bed_db: float | None = None
    engine: str = "offline"
    understands: bool = True


CASES = {
    "talk": Case("a talk"),
    "demo": Case("the demo's commentary", "demo"),
    "music": Case("the talk over music and crowd", bed_db=-18),
    "four": Case("the talk, four sessions at once", sessions=4),
}


def believe_everything() -> None:
    """What random weights say is neither sure nor plausible; here it is to be spoken all the same."""
    import babelcast.sts.session

    for guard, answer in (("plausible", lambda transcript, translation: True), ("believable", bool)):
        setattr(babelcast.sts.session, guard, answer)


@contextlib.contextmanager
def engine_of(case: Case) -> Iterator[Engine]:
    """The engine of a case. The neural one is the tests' small models with random weights, in the real formats."""
    if case.engine == "offline":
        yield build(EngineSettings(spares=case.sessions))
        return
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.fakes.tiny_models import opus, tone_voice, whisper

    believe_everything()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        yield build(
            EngineSettings(
                f"faster-whisper:{whisper(root / 'faster-whisper-random')}",
                (f"ctranslate2:{opus(root / 'opus-mt-en-es')}",),
                (f"sherpa:{tone_voice(root / 'vits-piper-tone')}",),
            )
        )


async def dub(backend: SpeechBackend, name: str, pcm: bytes) -> list[Heard]:
    """Feed ``pcm`` as it would come from a broadcast."""
    session = await backend.open(SpeechTarget(name, "en", "es"))
    began = time.monotonic()

    async def collect() -> list[Heard]:
        heard = []
        async for event in session.events():
            if isinstance(event, SegmentEvent):
                heard.append(Heard(time.monotonic() - began, event.segment))
            elif isinstance(event, ClosedEvent) and event.code != "finished":
                raise SpeechError(event.reason, code=event.code)
        return heard

    collecting = asyncio.create_task(collect())
    for place in range(0, len(pcm), 2 * FRAME):
        frame = SpeechFrame(samples_to_ns(place // 2, SPEECH_RATE), pcm[place : place + 2 * FRAME])
        await asyncio.sleep(began + frame.end_ns / NS_PER_S - time.monotonic())  # a frame is there when it is over
        await session.send(frame)
    await session.finish()
    heard = await collecting
    await session.aclose()
    return heard


@dataclass(frozen=True)
class Outcome:
    """``lags``, ``ends``, ``laals``: seconds, by sentence of all sessions. ``cost``: seconds of work a second of
    sound."""

    case: Case
    sentences: int
    segments: int
    word_error_rate: float
    chrf: float
    lags: list[float]
    ends: list[float]
    laals: list[float]
    cost: float


def outcome(case: Case, sentences: list[Sentence], sessions: list[list[Heard]], cost: float) -> Outcome:
    truth = [word for sentence in sentences for word in figures.words_of(sentence.text)]
    reference = " ".join(sentence.reference for sentence in sentences)
    spans = [figures.Span(sentence.start_s, sentence.end_s) for sentence in sentences]
    errors, scores = 0, []
    lags, ends, laals = [], [], []
    for heard in sessions:
        transcript = " ".join(found.segment.transcript for found in heard).replace("harbour", "harbor")
        errors += figures.word_errors(truth, figures.words_of(transcript))
        scores.append(figures.chrf(" ".join(found.segment.translation for found in heard), reference))
        for sentence, delays in zip(
            sentences, figures.delays_of(spans, [_piece(found) for found in heard]), strict=True
        ):
            if delays:
                length_s = sentence.end_s - sentence.start_s
                lags.append(figures.start_offset(delays))
                ends.append(figures.end_offset(delays, length_s))
                laals.append(figures.laal(delays, length_s, len(sentence.reference.split())))
    count = len(sessions)
    return Outcome(
        case,
        len(sentences) * count,
        sum(map(len, sessions)),
        errors / len(truth) / count,
        sum(scores) / count,
        lags,
        ends,
        laals,
        cost,
    )


def _piece(found: Heard) -> figures.Piece:
    segment = found.segment
    span = figures.Span(segment.source_start_ns / NS_PER_S, segment.source_end_ns / NS_PER_S)
    return figures.Piece(span, found.at_s, tuple(segment.translation.split()))


async def measure(case: Case, make_backend: MakeBackend = StsStreamBackend) -> Outcome:
    samples, sentences = make_talk(TEXTS[case.text][: case.sentences])
    if case.bed_db is not None:
        samples = samples + LEVEL * 10 ** (case.bed_db / 20) * make_bed(len(samples))
    pcm = as_pcm(samples)
    with engine_of(case) as engine:
        await asyncio.to_thread(engine.preload)
        service = Service(engine, Limits(sessions=case.sessions))
        async with serving(service) as url:
            backend = make_backend(url)
            heard = await asyncio.gather(*(dub(backend, f"bench-{number}", pcm) for number in range(case.sessions)))
            await backend.aclose()
        await service.aclose()
    registry = service.metrics.registry
    busy, audio = (registry.get_sample_value(f"sts_{name}_seconds_total") or 0.0 for name in ("busy", "audio"))
    return outcome(case, sentences, list(heard), busy / max(audio, 0.001))


COLUMNS = "word error rate,chrF,dub lag P50,P95,worst,EndOffset,LAAL,dubbed,segments,work a second of sound".split(",")


def header(what: str) -> str:
    return f"| {what} | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}"


def row(title: str, found: Outcome) -> str:
    right = (f"{found.word_error_rate:.3f}", f"{found.chrf:.1f}") if found.case.understands else ("–", "–")
    cells = (
        title,
        *right,
        *(f"{np.percentile(found.lags, share):.2f} s" for share in (50, 95, 100)),
        f"{np.mean(found.ends):.2f} s",
        f"{np.mean(found.laals):.2f} s",
        f"{len(found.lags)} of {found.sentences}",
        str(found.segments),
        f"{found.cost:.3f} s",
    )
    return "| " + " | ".join(cells) + " |"


NOTES = f"""\
Dub lag is SimulEval's StartOffset: a sentence's onset to its first dubbed segment in the client's hands. EndOffset
and LAAL are means over the sentences; all three are computation-aware and defined in `bench/speech_figures.py`. chrF2
is against the references in `bench/speech_texts.py`; {len(TALK)} sentences are few, so a point of it, or 0.01 of the
error rate, means little."""


@click.command()
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)))
def main(cases: tuple[str, ...]) -> None:
    """Measure the speech service with its offline chain (pocketsphinx, apertium, espeak-ng)."""
    click.echo(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start\n")
    click.echo(header("offline chain, heard"))
    for name in cases or CASES:
        click.echo(row(CASES[name].title, asyncio.run(measure(CASES[name]))))
    click.echo("\n" + NOTES)


if __name__ == "__main__":
    main()

"""How many sessions one card holds: full-size models with random weights, real-time sessions until they are late.

``python bench/gpu_sessions.py`` on a machine with an NVIDIA GPU (about 4 minutes); ``--small`` tries the script itself
on any machine. The models are built here in the formats of the real ones, so their cost is real although what they
say is not: Whisper of the size asked for, an OPUS-MT translator that answers 24 tokens, and a voice that costs nothing
(the registry's sherpa-onnx speaks on the CPU). Each step runs some sessions at once, each a talk in real time over the
WebSocket, and the last is the first step whose lag passes the limit.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import babelcast.sts.mt.ct2
from babelcast.errors import BabelcastError
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.admission import AdmissionSettings
from babelcast.sts.batching import BatchSettings
from babelcast.sts.device import Compute
from babelcast.sts.engine import Engine
from babelcast.sts.engines import EngineSettings, build
from babelcast.sts.gpu import Gpu, Nvml
from babelcast.sts.serve import serving
from babelcast.sts.service import Limits, Service
from machine import machine
from speech import Case, Heard, believe_everything, dub, outcome
from speech_texts import TALK, Sentence, as_pcm, make_talk

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.fakes.tiny_models import opus, tone_voice, whisper

_LIMIT_S = 6.0
"""Dub lag at P95 beyond which a card has too many sessions."""
_STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_SENTENCES = 5
_ANSWER_TOKENS = 24
_STAGGER_S = 2.0
_COLUMNS = (
    *("sessions", "dub lag P50", "P95", "passes a batch", "wait for it", "work a second of sound"),
    *("GPU memory", "GPU busy", "failed"),
)
# width, layers of the encoder and again of the decoder, heads, words of the vocabulary beside the special ones
_WHISPER = {
    "random": (32, 2, 2, 0),
    "base": (512, 6, 8, 50_000),
    "small": (768, 12, 12, 50_000),
    "medium": (1024, 24, 16, 50_000),
}
_OPUS = {"random": (16, 1, 2, 0), "opus": (512, 6, 8, 58_000)}


@dataclass(frozen=True)
class Step:
    sessions: int
    lags: list[float]
    segments: int
    failed: str
    batch: float
    """Passes of the recogniser that a batch held, on average."""
    wait_ms: float
    gpu: Gpu | None
    work: float
    """Seconds in the engine a second of sound, waits for a batch among them: what admission counts."""


def build_models(folder: Path, asr: str, mt: str) -> tuple[Path, Path]:
    """Whisper's and the translator's folder; the translator answers :data:`_ANSWER_TOKENS` to everything."""
    width, layers, heads, words = _WHISPER[asr]
    heard = whisper(folder / f"faster-whisper-{asr}", width, layers, heads, words)
    width, layers, heads, words = _OPUS[mt]
    translated = opus(folder / "opus-mt-en-es", width=width, layers=layers, heads=heads, words=words)
    # random weights never come to an end
    setattr(babelcast.sts.mt.ct2, "answer_limit", lambda tokens: _ANSWER_TOKENS)  # noqa: B010 - the bench's own rule
    return heard, translated


def build_engine(folder: Path, asr: str, mt: str, device: str, kind: str, batch: int) -> Engine:
    heard, translated = build_models(folder, asr, mt)
    believe_everything()
    return build(
        EngineSettings(
            f"faster-whisper:{heard}",
            (f"ctranslate2:{translated}",),
            (f"sherpa:{tone_voice(folder / 'vits-piper-tone')}",),
            Compute("cuda" if device == "cuda" else "cpu", kind),
            batch=BatchSettings(size=batch),
            asr_batch=batch,
        )
    )


async def run_step(url: str, service: Service, pcm: bytes, sentences: list[Sentence], sessions: int) -> Step:
    asr = service.engine.batches[0]
    before = (asr.items, sum(asr.sizes), asr.waited_s)
    busy_before, audio_before = _total(service, "busy"), _total(service, "audio")
    backend = StsStreamBackend(url)
    stagger = random.Random(sessions)

    async def one(number: int) -> list[Heard]:
        await asyncio.sleep(stagger.uniform(0, _STAGGER_S))
        return await dub(backend, f"bench-{number}", pcm)

    found = await asyncio.gather(*(one(number) for number in range(sessions)), return_exceptions=True)
    await backend.aclose()
    errors = [error for error in found if isinstance(error, BaseException)]
    for error in errors:
        if not isinstance(error, BabelcastError):
            raise error
    measured = outcome(Case("talk"), sentences, [heard for heard in found if not isinstance(heard, BaseException)], 0.0)
    items, batches, waited = (
        now - then for now, then in zip((asr.items, sum(asr.sizes), asr.waited_s), before, strict=True)
    )
    return Step(
        sessions,
        measured.lags,
        measured.segments,
        f"{len(errors)}: {errors[0]}" if errors else "",
        items / max(batches, 1),
        1e3 * waited / max(items, 1),
        _gpu(),
        (_total(service, "busy") - busy_before) / max(_total(service, "audio") - audio_before, 0.001),
    )


def _total(service: Service, what: str) -> float:
    return service.metrics.registry.get_sample_value(f"sts_{what}_seconds_total") or 0.0


def _gpu() -> Gpu | None:
    try:
        return next(iter(Nvml().gpus()), None)
    except (OSError, AttributeError):
        return None


def row(step: Step) -> str:
    lags = [f"{np.percentile(step.lags, share):.2f} s" for share in (50, 95)] if step.lags else ["–", "–"]
    gpu = [f"{step.gpu.used_bytes / 1e9:.1f} GB", f"{100 * step.gpu.busy:.0f} %"] if step.gpu else ["–", "–"]
    cells = (
        str(step.sessions),
        *lags,
        f"{step.batch:.1f}",
        f"{step.wait_ms:.0f} ms",
        f"{step.work:.2f} s",
        *gpu,
        step.failed or "–",
    )
    return "| " + " | ".join(cells) + " |"


@click.command()
@click.option("--asr", default="small", show_default=True, type=click.Choice(list(_WHISPER)))
@click.option("--mt", default="opus", show_default=True, type=click.Choice(list(_OPUS)))
@click.option("--device", default="cuda", show_default=True, type=click.Choice(["cuda", "cpu"]))
@click.option("--compute-type", default="auto", show_default=True)
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1, 256))
@click.option("--most", default=128, show_default=True, type=click.IntRange(1), help="Sessions at most.")
@click.option("--small", is_flag=True, help="Tiny models on the CPU, four sessions at most: to try this script.")
def main(asr: str, mt: str, device: str, compute_type: str, batch: int, most: int, small: bool) -> None:
    """Find out how many sessions one card holds."""
    if small:
        asr, mt, device, most = "random", "random", "cpu", min(most, 4)
    samples, sentences = make_talk(TALK[:_SENTENCES])
    pcm = as_pcm(samples)

    async def run(folder: Path) -> None:
        began = time.monotonic()
        engine = build_engine(folder, asr, mt, device, compute_type, batch)
        await asyncio.to_thread(engine.preload)
        click.echo(
            f"{machine()}; Whisper {asr}, {mt}, {device}, {compute_type}; built and loaded in "
            f"{time.monotonic() - began:.0f} s; a batch holds {batch} at most\n"
        )
        click.echo(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}")
        service = Service(engine, Limits(sessions=most, capacity=1e6))
        held, capacity = 0, 0.0
        async with serving(service) as url:
            for sessions in (step for step in _STEPS if step <= most):
                step = await run_step(url, service, pcm, sentences, sessions)
                click.echo(row(step))
                if step.failed or not step.lags or np.percentile(step.lags, 95) > _LIMIT_S:
                    break
                held, capacity = sessions, sessions * step.work / AdmissionSettings(1.0).room
        await service.aclose()
        click.echo(
            f"\nHeld: {held} sessions with a dub lag of at most {_LIMIT_S:g} s at P95"
            f"{' (no more were tried)' if held == most else ''}.\n"
            f"For this machine: babelcast sts --max-sessions {held} --capacity {capacity:.1f}"
        )

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


if __name__ == "__main__":
    main()

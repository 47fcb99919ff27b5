"""What a batch saves: eight passes of Whisper and eight clauses of a translator, one by one and together.

``python bench/batching.py [--device cuda]`` prints a markdown table. The models have the size of the real ones and
random weights, built here: Whisper base over 4 s of noise, OPUS-MT with answers of 24 tokens.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from babelcast.sts.asr.whisper import WhisperEngine, WhisperSettings
from babelcast.sts.asr.whisper_model import Request
from babelcast.sts.batching import BatchSettings
from babelcast.sts.device import Compute
from babelcast.sts.mt.ct2 import Ct2Translator
from babelcast.units import SPEECH_RATE
from gpu_sessions import build_models
from machine import machine

_CLAUSES = 8
_ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """The best of a few rounds, after one that warms up."""
    spent = []
    for _ in range(_ROUNDS + 1):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent[1:])


def row(name: str, single: float, together: float) -> str:
    cells = (name, f"{1e3 * single:.0f} ms", f"{1e3 * together:.0f} ms", f"{single / together:.1f}×")
    return "| " + " | ".join(cells) + " |"


@click.command()
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--asr", default="base", show_default=True)
def main(device: str, asr: str) -> None:
    """Measure batches against single calls."""
    compute = Compute("cuda" if device == "cuda" else "cpu")
    noise = np.random.default_rng(1).normal(0, 0.1, (_CLAUSES, 4 * SPEECH_RATE)).astype(np.float32)
    click.echo(f"{machine()}; {device}, {compute.type_name()}\n")
    click.echo(f"| {_CLAUSES} at once | one by one | together | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        heard, translated = build_models(Path(folder), asr, "opus")
        whisper = WhisperEngine(str(heard), compute, WhisperSettings(batch=BatchSettings(size=1)))
        passes = whisper.passes()
        ready = [passes.prepare(Request(samples, "en", "", (), 1)) for samples in noise]
        click.echo(
            row(
                f"passes of Whisper {asr}",
                seconds(lambda: [passes.decode([one]) for one in ready]),
                seconds(lambda: passes.decode(ready)),
            )
        )
        whisper.close()
        translator = Ct2Translator(str(translated), compute)
        clauses = [
            translator.clause(f"good evening and welcome to the harbor {n}", "en", "es") for n in range(_CLAUSES)
        ]
        click.echo(
            row(
                "clauses of OPUS-MT",
                seconds(lambda: [translator.translate_batch([clause]) for clause in clauses]),
                seconds(lambda: translator.translate_batch(clauses)),
            )
        )
        translator.close()


if __name__ == "__main__":
    main()

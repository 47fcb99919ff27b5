"""The speech service's two contracts side by side, other engines, and what the service itself costs.

``python bench/speech_paths.py``: half a minute of the talk by WebSocket and by REST through the same chain, then
through the neural engines with small random weights (they say nonsense: only the path is seen), then the service's
overhead with an engine that costs nothing (bench/overhead.py).
"""

from __future__ import annotations

import asyncio
import os

import click

import overhead
from babelcast.speech.sts_http import StsHttpBackend
from machine import machine
from speech import Case, header, measure, row

_SENTENCES = 8
LIMIT_MS = 15.0
SAME = Case("talk", sentences=_SENTENCES)
RANDOM = Case("talk", sentences=_SENTENCES, engine="random", understands=False)


@click.command()
def main() -> None:
    """Measure REST against WebSocket, and the service without its engines."""
    click.echo(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start\n")
    click.echo(header(f"{_SENTENCES} sentences of the talk"))
    click.echo(row("WebSocket, pocketsphinx → apertium → espeak-ng", asyncio.run(measure(SAME))))
    click.echo(row("REST, the same chain", asyncio.run(measure(SAME, StsHttpBackend))))
    click.echo(
        row("WebSocket, faster-whisper → CTranslate2 → sherpa-onnx, random weights", asyncio.run(measure(RANDOM)))
    )
    click.echo(
        "\nREST cuts the talk into fragments that know nothing of each other and answers each when it is over; a "
        "WebSocket session speaks clauses.\nRandom weights: half a megabyte of Whisper, so the engines' cost is not "
        "that of real ones, and error rate and chrF say nothing.\nIts words have random times, so no place is good "
        "for a cut and clauses run on to the limit of 4 s: its lag is the worst that this policy allows.\n"
    )
    found = asyncio.run(overhead.measure())
    click.echo(overhead.table(found))
    click.echo(
        f"\nFrom the last byte that leaves the client to the last byte of the dub in its hands, with the tone mock, "
        f"over loopback, client and service in one process. Limit: P95 ≤ {LIMIT_MS:g} ms."
    )


if __name__ == "__main__":
    main()

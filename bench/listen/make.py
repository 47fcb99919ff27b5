"""Makes the listening page: six programmes through the worker, by every separator that can run here.

    python bench/listen/make.py [--out build/listen] [--model NETWORK.onnx] [--only crowd,mono] [--modes auto] [--keep]

Background, dub and mix are files that the worker's own offline path wrote (``babelcast dub``: ingest, separation,
speech service, placing, mixing, AAC), with the gain of the other part at 0 for background and dub. SI-SDR and
residual speech are measured on the separator's samples before any codec, against the bed that went in.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from figures import Loudness, level_change_db, loudness, residual_speech_db, si_sdr, spectrogram, spoken
from page import Row, Section, html, markdown
from programmes import Programme, programmes

from babelcast.audio.pcm import to_s16le
from babelcast.ports import free_port
from babelcast.process import Child
from babelcast.separate.base import Separated
from babelcast.separate.factory import SeparationMode, make_separator
from babelcast.spec import BackendSpec, MixSpec, TargetSpec, WorkerSpec
from babelcast.units import CHANNELS, RATE, Pcm
from babelcast.worker.main import backend_of
from babelcast.worker.offline import DubJob

ROOT = Path(__file__).resolve().parent.parent.parent
_BLOCK = RATE // 10
_GAINS = {"background": (1.0, 0.0), "dub": (0.0, 1.0), "mix": (1.0, 1.0)}


def write_wav(path: Path, sound: Pcm) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(CHANNELS)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(to_s16le(sound))


def separated(mode: SeparationMode, model: str | None, source: Pcm) -> tuple[Separated, str]:
    separator = make_separator(mode, model)
    parts = [separator.process(source[at : at + _BLOCK]) for at in range(0, len(source), _BLOCK)]
    active = separator.active
    parts.append(separator.flush())
    return Separated(np.concatenate([p.background for p in parts]), np.concatenate([p.speech for p in parts])), active


async def dubbed(source: Path, out: Path, mode: SeparationMode, model: str | None, url: str, kind: str) -> None:
    bg_gain, dub_gain = _GAINS[kind]
    spec = WorkerSpec(
        stream_id="listen",
        ingest_url=str(source),
        targets=(TargetSpec(language="es", output_url=str(out)),),
        backend=BackendSpec(kind="sts", url=url),
        separation=mode,
        separation_model=model,
        mix=MixSpec(bg_gain=bg_gain, dub_gain=dub_gain),
    )
    await DubJob(spec, backend_of(spec.backend), lambda _done, _total: None).run()


@contextlib.asynccontextmanager
async def speech_service() -> AsyncIterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "babelcast", "sts", "--port", str(port), "--engine", "offline"]
    environment = {"PYTHONUNBUFFERED": "1", "BABELCAST_PARENT": str(os.getpid())}

    async def healthy() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    async with Child("speech service", argv, ready=healthy, env=environment).running():
        yield f"http://127.0.0.1:{port}"


def shown(out: Path, sound: Path) -> tuple[str, str, Loudness]:
    picture = sound.with_suffix(".png")
    if not picture.exists() or picture.stat().st_mtime < sound.stat().st_mtime:
        spectrogram(sound, picture)
    return sound.relative_to(out).as_posix(), picture.relative_to(out).as_posix(), loudness(sound)


async def section(
    programme: Programme, modes: list[SeparationMode], model: str | None, out: Path, url: str, keep: bool
) -> Section:
    folder = out / programme.name
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.wav"
    write_wav(source, programme.source)
    result = Section(programme.title, programme.about, si_sdr(programme.bed, programme.source))
    said = spoken(programme.voice)
    for mode in modes:
        began = time.monotonic()
        files = {"source": shown(out, source)}
        for kind in _GAINS:
            path = folder / f"{mode}.{kind}.mp4"
            if not (keep and path.exists()):
                await dubbed(source, path, mode, model, url, kind)
            files[kind] = shown(out, path)
        estimate, active = await asyncio.to_thread(separated, mode, model, programme.source)
        background = estimate.background
        result.rows.append(
            Row(
                mode,
                active,
                si_sdr(programme.bed, background),
                residual_speech_db(background, programme.voice, programme.bed),
                level_change_db(background, programme.bed, said),
                level_change_db(background, programme.bed, ~said),
                files,
            )
        )
        print(f"{programme.name}, {mode}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return result


async def make(out: Path, only: list[str], modes: list[SeparationMode], model: str | None, keep: bool) -> None:
    wanted = [programme for programme in programmes() if not only or programme.name in only]
    async with speech_service() as url:
        sections = [await section(programme, modes, model, out, url, keep) for programme in wanted]
    notes = [
        f"Made by bench/listen/make.py on {time.strftime('%Y-%m-%d')}. Speech by flite, beds by arithmetic, the dub by "
        "the offline chain (pocketsphinx, apertium, espeak-ng): judge what is behind the voice, not the voice.",
        "Pictures: 0 to 12 kHz from bottom to top, the whole programme from left to right.",
    ]
    (out / "index.html").write_text(html(sections, notes), encoding="utf-8")
    (out / "figures.md").write_text(markdown(sections), encoding="utf-8")
    print(markdown(sections))
    print(f"{out / 'index.html'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "listen")
    parser.add_argument("--model", help="separation network for `neural`: a path, or the name of a pulled model")
    parser.add_argument("--only", default="", help="names of programmes, by comma")
    parser.add_argument("--modes", default="", help="separators, by comma")
    parser.add_argument("--keep", action="store_true", help="use files that are there already; figures are made anew")
    args = parser.parse_args()
    modes: list[SeparationMode] = ["auto", "centre", "spectral"]
    if args.model:
        modes.append("neural")
    if args.modes:
        modes = args.modes.split(",")
    only = [name for name in args.only.split(",") if name]
    asyncio.run(make(args.out.resolve(), only, modes, args.model, args.keep))


if __name__ == "__main__":
    main()

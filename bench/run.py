"""Run every benchmark and write ``bench/README.md`` again: ``make bench``. ``python bench/run.py relay sound`` runs
some and prints them; with ``--write`` their sections are replaced and the rest is left alone (``make bench-speech``).

Each benchmark is a script beside this one that prints markdown on stdout. Figures are ratios to a baseline that the
same run measured, so that they can be compared between machines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from machine import machine

HERE = Path(__file__).parent
BENCHMARKS = {
    "worker": "The worker against ffmpeg",
    "relay": "The embedded relay",
    "sound": "Mixing, stretching, separating",
    "neural": "Neural separation",
    "egress": "Forwarding to destinations",
    "audio_endpoint": "The audio endpoint",
    "preview": "The WebRTC preview",
    "console": "The operator's page",
    "speech": "The speech service with its offline chain",
    "speech_paths": "The speech service: REST and WebSocket, other engines, overhead",
    "batching": "The speech service: batches against single calls",
    "ray_serve": "The speech service on Ray Serve",
}
TIMEOUT_S = {
    "worker": 300,
    "relay": 90,
    "sound": 120,
    "neural": 120,
    "egress": 150,
    "audio_endpoint": 200,
    "preview": 400,
    "console": 120,
    "speech": 400,
    "speech_paths": 240,
    "batching": 120,
    "ray_serve": 300,
}
"""Seconds for each: one that fails or hangs says so in its section, and the others go on."""
PYTHON = {"ray_serve": HERE.parent / ".venv-ray/bin/python"}
"""Where a benchmark needs what only another environment has; this one where that is not there."""
HEADER = """\
# Benchmarks

Written by `make bench` on {date}, {machine}. Each section names the command that makes it again; one that was measured
at another time says so.
"""


def run(name: str) -> str:
    """The section of one benchmark; where it failed, the end of what it said instead of the rest of its figures."""
    print(f"==> {name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
    python = PYTHON.get(name, Path(sys.executable))
    command, began = [str(python) if python.exists() else sys.executable, str(HERE / f"{name}.py")], time.monotonic()
    failure = ""
    # a session of its own: at its time limit what it has started goes with it
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S[name])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            failure = f"took longer than {TIMEOUT_S[name]} s"
    if process.returncode and not failure:
        failure = f"exit status {process.returncode}"
    out = [f"## {BENCHMARKS[name]}", f"`python bench/{name}.py`", stdout.decode().strip()]
    if failure:
        sys.stderr.write(stderr.decode(errors="replace"))
        last = (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
        out.append(f"**Failed** after {time.monotonic() - began:.0f} s: {failure}. `{last[:200]}`")
    return "\n\n".join(part for part in out if part) + "\n"


def replaced(text: str, title: str, section: str) -> str:
    """``text`` with the section of that title replaced, or put at the end."""
    head, *sections = text.split("\n## ")
    kept = [old.rstrip() for old in sections]
    new = section.removeprefix("## ").rstrip()
    places = [place for place, old in enumerate(kept) if old.splitlines()[0] == title]
    if places:
        kept[places[0]] = new
    else:
        kept.append(new)
    return "\n\n## ".join([head.rstrip(), *kept]) + "\n"


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if argument != "--write"]
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    sections = [HEADER.format(date=time.strftime("%Y-%m-%d"), machine=machine())]
    sections += [run(name) for name in names or BENCHMARKS]
    text = "\n".join(sections)
    print(text)
    readme = HERE / "README.md"
    if not names:
        readme.write_text(text, encoding="utf-8")
    elif "--write" in arguments:
        text = readme.read_text(encoding="utf-8")
        for name, section in zip(names, sections[1:], strict=True):
            command, place = f"`python bench/{name}.py`", f" on {time.strftime('%Y-%m-%d')}, {machine()}"
            text = replaced(text, BENCHMARKS[name], section.replace(command, command + place, 1))
        readme.write_text(text, encoding="utf-8")
    if "**Failed**" in text:
        sys.exit("a benchmark failed: see its section")


if __name__ == "__main__":
    main(sys.argv[1:])

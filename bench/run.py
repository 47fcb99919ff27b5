"""Run every benchmark and write ``bench/README.md`` again: ``make bench``, or ``python bench/run.py relay sound``.

Each benchmark is a script beside this one that prints markdown on stdout. Figures are ratios to a baseline that the
same run measured, so that they can be compared between machines.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = {
    "worker": "The worker against ffmpeg",
    "relay": "The embedded relay",
    "egress": "Forwarding to destinations",
    "sound": "Mixing, stretching, separating",
    "speech": "The speech service with its offline chain",
}
TIMEOUT_S = 900
HEADER = """\
# Benchmarks

Written by `make bench` on {date}, {machine}. Each section names the command that makes it again.
"""


def machine() -> str:
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpu_info() if line.startswith("model name")), platform.processor()
    )
    return f"{os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, {_first_line('ffmpeg', '-version')}"


def _cpu_info() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def _first_line(*argv: str) -> str:
    try:
        text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return f"no {argv[0]}"
    return " ".join(text.splitlines()[0].split()[:3]) if text else argv[0]


def run(name: str) -> str:
    print(f"==> {name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True
    )
    return f"## {BENCHMARKS[name]}\n\n`python bench/{name}.py`\n\n{done.stdout.strip()}\n"


def main(names: list[str]) -> None:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    sections = [HEADER.format(date=time.strftime("%Y-%m-%d"), machine=machine())]
    sections += [run(name) for name in names or BENCHMARKS]
    text = "\n".join(sections)
    print(text)
    if not names:
        (HERE / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

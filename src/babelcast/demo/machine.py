"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from babelcast import __version__


def machine() -> dict[str, str]:
    """Processor, cores, memory and system; no host name."""
    return {
        "processor": _cpu(),
        "cores": str(os.cpu_count() or "?"),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    return {
        "babelcast": __version__,
        "python": platform.python_version(),
        "ffmpeg": _first_line("ffmpeg", "-version").removeprefix("ffmpeg version ").split(" ")[0],
        "espeak-ng": _first_line("espeak-ng", "--version").removeprefix("eSpeak NG text-to-speech: ").split(" ")[0],
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError):
        return "?"


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode(errors="replace").partition("\n")[0].strip()

"""The worker's cost against ``ffmpeg -c:v copy -c:a aac`` on the same stream at the same time, and eight at once.

All pull the same 1080p30 6 Mb/s stream from one relay and push to it, in real time, side by side, so that whatever
else the machine does weighs on all alike. Processor time is read from ``/proc`` over the same window. Prints markdown.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

WARM_UP_S = 12.0
DELAY_S = 6.0
EIGHT_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MODES = {
    "worker, bypass": ["--backend", "none"],
    "worker, dub, no separation": ["--backend", "tone", "--separation", "off"],
    "worker, dub, centre mask": ["--backend", "tone", "--separation", "centre"],
    "worker, dub, spectral hold": ["--backend", "tone", "--separation", "spectral"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measured window")
    parser.add_argument("--skip-eight", action="store_true")
    parser.add_argument("--skip-modes", action="store_true", help="bypass alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.flv", WARM_UP_S + args.seconds + 5)
        print(side_by_side(clip, args.seconds, list(_MODES)[:1] if args.skip_modes else list(_MODES)))
        if not args.skip_eight:
            print(eight(clip, Path(folder)))


def make_clip(path: Path, seconds: float) -> Path:
    """1080p30 at 6 Mb/s with B-frames, a second of noise-like pictures a key frame apart, and stereo sound."""
    video = "testsrc2=s=1920x1080:r=30,noise=alls=12:allf=t"
    audio = "aevalsrc=0.3*sin(2*PI*220*t)+0.1*random(0)|0.3*sin(2*PI*330*t)+0.1*random(1):s=48000"
    encode = "-c:v libx264 -preset ultrafast -bf 2 -g 60 -b:v 6M -minrate 6M -maxrate 6M -bufsize 6M -c:a aac"
    # encoding noise takes longer than the rest of the benchmark: ten seconds, repeated
    part = path.with_name("part.flv")
    inputs = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", audio]
    ffmpeg(*inputs, "-t", "10", *encode.split(), str(part))
    ffmpeg("-stream_loop", "-1", "-i", str(part), "-t", str(seconds), "-c", "copy", str(path))
    return path


def ffmpeg(*options: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options], check=True)


def side_by_side(clip: Path, seconds: float, modes: list[str]) -> str:
    with ExitStack() as stack:
        url = stack.enter_context(relay())
        tone_url = stack.enter_context(tone_service()) if len(modes) > 1 else ""
        stack.enter_context(publisher(clip, f"{url}/live/b/in"))
        time.sleep(1.0)
        copy = ["ffmpeg", "-v", "error", "-i", f"{url}/live/b/in", "-c:v", "copy", "-c:a", "aac", "-b:a", "160k"]
        processes = {"ffmpeg, copy + aac": stack.enter_context(running(*copy, "-f", "flv", f"{url}/live/b/out/ffmpeg"))}
        for i, mode in enumerate(modes):
            output = f"{url}/live/b/out/m{i}"
            processes[mode] = stack.enter_context(worker(f"{url}/live/b/in", output, *_MODES[mode], sts_url=tone_url))
        time.sleep(WARM_UP_S - 1)
        before = {name: cpu_s(process.pid) for name, process in processes.items()}
        time.sleep(seconds)
        used = {name: cpu_s(process.pid) - before[name] for name, process in processes.items()}
        memory = {name: peak_mb(process.pid) for name, process in processes.items()}
    base = used["ffmpeg, copy + aac"]
    lines = [
        f"1080p30, 6 Mb/s, delay {DELAY_S:.0f} s, {seconds:.0f} s, all at the same time",
        "",
        "| | CPU s per 60 s | of a core | against ffmpeg | memory (peak) |",
        "|---|---|---|---|---|",
    ]
    for name, spent in used.items():
        figures = f"{spent * 60 / seconds:.2f} | {spent / seconds:.1%} | {spent / base:.2f}× | {memory[name]:.0f} MB"
        lines.append(f"| {name} | {figures} |")
    return "\n".join(lines) + "\n"


def eight(clip: Path, folder: Path) -> str:
    """Eight bypass streams: every access unit of each recording must be the source's, without a hole."""
    with ExitStack() as stack:
        url = stack.enter_context(relay())
        readers = []
        for i in range(8):
            stack.enter_context(worker(f"{url}/live/b/in", f"{url}/live/b/out/e{i}", "--backend", "none"))
        time.sleep(6.0)
        with publisher(clip, f"{url}/live/b/in"):
            time.sleep(DELAY_S + 5.0)
            for i in range(8):
                record = ["ffmpeg", "-v", "error", "-i", f"{url}/live/b/out/e{i}", "-map", "0:v", "-c", "copy"]
                readers.append(stack.enter_context(running(*record, str(folder / f"e{i}.flv"))))
            time.sleep(EIGHT_S)
            for reader in readers:
                reader.terminate()
                reader.wait(10)
    source = access_units(clip)
    lines = ["| of eight bypass streams at once | pictures | lost |", "|---|---|---|"]
    for i in range(8):
        published = access_units(folder / f"e{i}.flv")
        lines.append(f"| {i + 1} | {len(published)} | {lost(source, published)} |")
    return "\n".join(lines) + "\n"


def lost(source: list[str], published: list[str]) -> int:
    """Pictures missing between the first and the last that were published (the clip repeats itself after 10 s)."""
    period = source[: source.index(source[0], 1)] if source[0] in source[1:] else source
    place = period.index(published[0])
    missing = 0
    for unit in published:
        skipped = 0
        while period[(place + skipped) % len(period)] != unit and skipped < len(period):
            skipped += 1
        missing += skipped
        place = (place + skipped + 1) % len(period)
    return missing


def access_units(path: Path) -> list[str]:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.rsplit(",", 1)[-1].strip() for line in listing.splitlines() if line and not line.startswith("#")]


@contextmanager
def running(*command: str, quiet: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    sink = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def relay() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "babelcast", "relay", "--rtmp-port", str(port), "--api-port", "0"]
    with running(*command):
        wait_for_port(port)
        yield f"rtmp://127.0.0.1:{port}"


@contextmanager
def tone_service() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "babelcast", "sts", "--engine", "tone", "--port", str(port)]
    with running(*command, "--max-sessions", "16"):
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def publisher(clip: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    with running("ffmpeg", "-v", "error", "-re", "-i", str(clip), "-c", "copy", "-f", "flv", url) as process:
        yield process


@contextmanager
def worker(ingest: str, output: str, *options: str, sts_url: str = "") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "babelcast", "worker", "--stream-id", "b", "--ingest", ingest, "--output", output]
    command += ["--delay", str(DELAY_S), *options, *(["--sts-url", sts_url] if sts_url else [])]
    with running(*command) as process:
        yield process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()

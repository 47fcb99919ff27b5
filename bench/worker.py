"""The worker's cost against ``ffmpeg -c:v copy -c:a aac`` on the same stream at the same time, and many at once.

All pull the same stream from one relay and push to it, in real time, side by side, so that whatever else the machine
does weighs on all alike. Processor time is read from ``/proc`` over the same window. Prints markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

WARM_UP_S = 12.0
DELAY_S = 6.0
MANY_S = 40.0
CLIP_LOOP_S = 10
_TICKS = os.sysconf("SC_CLK_TCK")
_BASE = "ffmpeg, copy + aac"
_MODES = {
    "worker, bypass": ["--backend", "none"],
    "worker, dub, no separation": ["--backend", "tone", "--separation", "off"],
    "worker, dub, centre mask": ["--backend", "tone", "--separation", "centre"],
    "worker, dub, spectral hold": ["--backend", "tone", "--separation", "spectral"],
}
_THREADS = {
    "audio:src": "AAC encoder",
    "src:src": "FLV demuxer, AAC decoder",
    "mux:src": "FLV muxer",
    "video:src": "pictures into the muxer",
    "task": "RTMP sockets",
}
_TALK = "the second half begins with a corner from the left and the keeper comes out to punch it clear of the box"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=50.0, help="length of the measured window")
    parser.add_argument("--skip-many", action="store_true")
    parser.add_argument("--skip-modes", action="store_true", help="bypass alone")
    parser.add_argument("--dubbing", type=int, default=16, help="how many workers dub at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        full = make_clip(here / "clip.flv", WARM_UP_S + args.seconds + 5, "1920x1080", "6M")
        print(side_by_side(full, args.seconds, list(_MODES)[:1] if args.skip_modes else list(_MODES)), flush=True)
        if args.skip_many:
            return
        small = make_clip(here / "small.flv", 3 * DELAY_S + MANY_S + args.dubbing + 20, "1280x720", "1500k")
        print(_MANY_HEAD, flush=True)
        print(many(full, here, 8, "bypass, 1080p30 at 6 Mb/s", ["--backend", "none"], seconds=20), flush=True)
        spectral = _MODES["worker, dub, spectral hold"]
        print(
            many(small, here, args.dubbing, "dub, spectral, 720p30 at 1.5 Mb/s", spectral, seconds=MANY_S), flush=True
        )
        print(_MANY_FOOT)


def make_clip(path: Path, seconds: float, size: str, rate: str) -> Path:
    """30 pictures a second with B-frames, noise-like, a key frame every two seconds; a voice over a bed in stereo."""
    video = f"testsrc2=s={size}:r=30,noise=alls=12:allf=t"
    encode = f"-c:v libx264 -preset ultrafast -bf 2 -g 60 -b:v {rate} -minrate {rate} -maxrate {rate} -bufsize {rate}"
    # Encoding noise takes longer than the rest of the benchmark: ten seconds, repeated. The sound is encoded in one
    # go: AAC frames don't fit into ten seconds, and at each join the worker would have to lead the sound back.
    part = path.with_name(f"{path.stem}-part.mp4")
    ffmpeg("-f", "lavfi", "-i", video, "-t", str(CLIP_LOOP_S), *encode.split(), str(part))
    bed = "aevalsrc=0.03*sin(2*PI*220*t)+0.01*random(0)|0.03*sin(2*PI*330*t)+0.01*random(1):s=48000"
    loop = f"apad=whole_dur={CLIP_LOOP_S},aloop=-1:size={48_000 * CLIP_LOOP_S}"
    voice = f"[2]aresample=48000,aformat=channel_layouts=stereo,{loop}[voice];[1][voice]amix=normalize=0[a]"
    inputs = ["-stream_loop", "-1", "-i", str(part)]
    inputs += [option for source in (bed, f"flite=text='{_TALK}'") for option in ("-f", "lavfi", "-i", source)]
    mapped = ["-filter_complex", voice, "-map", "0:v", "-c:v", "copy", "-map", "[a]", "-c:a", "aac"]
    ffmpeg(*inputs, *mapped, "-t", str(seconds), str(path))
    return path


def ffmpeg(*options: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options], check=True)


# --- side by side ---


def side_by_side(clip: Path, seconds: float, modes: list[str]) -> str:
    with ExitStack() as stack:
        url = stack.enter_context(relay())
        tone_url = stack.enter_context(tone_service()) if len(modes) > 1 else ""
        stack.enter_context(publisher(clip, f"{url}/live/b/in"))
        time.sleep(1.0)
        copy = ["ffmpeg", "-v", "error", "-i", f"{url}/live/b/in", "-c:v", "copy", "-c:a", "aac", "-b:a", "160k"]
        processes = {_BASE: stack.enter_context(running(*copy, "-f", "flv", f"{url}/live/b/out/ffmpeg"))}
        for i, mode in enumerate(modes):
            output = f"{url}/live/b/out/m{i}"
            processes[mode] = stack.enter_context(worker(f"{url}/live/b/in", output, *_MODES[mode], sts_url=tone_url))
        time.sleep(WARM_UP_S - 1)
        before = {name: (cpu_s(process.pid), by_thread(process.pid)) for name, process in processes.items()}
        time.sleep(seconds)
        used, threads = {}, {}
        for name, process in processes.items():
            used[name] = cpu_s(process.pid) - before[name][0]
            threads[name] = {
                row: seconds - before[name][1].get(row, 0.0) for row, seconds in by_thread(process.pid).items()
            }
        memory = {name: peak_mb(process.pid) for name, process in processes.items()}
    dead = [name for name, process in processes.items() if process.returncode not in (0, -15, 255)]
    lines = [
        f"1080p30, 6 Mb/s, delay {DELAY_S:.0f} s, {seconds:.0f} s, all at the same time",
        "",
        "| | CPU s per 60 s | of a core | against ffmpeg | memory (peak) |",
        "|---|---|---|---|---|",
    ]
    for name, spent in used.items():
        figures = (
            f"{spent * 60 / seconds:.2f} | {spent / seconds:.1%} | {spent / used[_BASE]:.2f}× | {memory[name]:.0f} MB"
        )
        lines.append(f"| {name} | {'DIED' if name in dead else figures} |")
    lines += ["", *_profile(threads, seconds, [_BASE, modes[0], modes[-1]])]
    return "\n".join(lines) + "\n"


def _profile(threads: dict[str, dict[str, float]], seconds: float, names: list[str]) -> list[str]:
    """Where the processor time goes: CPU s per 60 s by thread."""
    names = list(dict.fromkeys(names))
    rows = sorted({row for name in names for row in threads[name]}, key=lambda row: -threads[names[-1]].get(row, 0.0))
    lines = [f"| by thread, CPU s per 60 s | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        figures = [threads[name].get(row, 0.0) * 60 / seconds for name in names]
        if max(figures) >= 0.02:
            lines.append(f"| {row} | {' | '.join(f'{figure:.2f}' if figure > 0.005 else '' for figure in figures)} |")
    return lines


# --- many at once ---

_MANY_HEAD = """\
| at once | pictures each | lost | sound gaps | dubbed / dropped | fallback | cores: workers | benchmark | machine |
|---|---|---|---|---|---|---|---|---|"""
_MANY_FOOT = """
One publisher and one relay feed all of them, one speech service answers, and a recorder takes each output: all that is
in "benchmark". Where "machine" says much more, something else was running too. A sound gap is more than 30 ms
between two AAC frames. Fallback is the longest of any stream's.
"""


def many(clip: Path, folder: Path, count: int, label: str, options: list[str], *, seconds: float) -> str:
    """One row: every access unit of each recording must be the source's, without a hole, and the sound unbroken."""
    with ExitStack() as stack:
        url = stack.enter_context(relay())
        tone_url = stack.enter_context(tone_service()) if "tone" in options else ""
        ports, workers, readers = [], [], []
        for i in range(count):
            ports.append(free_port())
            extra = [*options, "--status-port", str(ports[-1])]
            workers.append(
                stack.enter_context(worker(f"{url}/live/b/in", f"{url}/live/b/out/e{i}", *extra, sts_url=tone_url))
            )
        for port in ports:
            wait_for_port(port)
        with publisher(clip, f"{url}/live/b/in"):
            time.sleep(DELAY_S + 4.0)
            for i in range(count):
                record = ["ffmpeg", "-v", "error", "-i", f"{url}/live/b/out/e{i}", "-c", "copy", "-y"]
                readers.append(stack.enter_context(running(*record, str(folder / f"e{i}.flv"))))
            time.sleep(4.0)
            before = [sum(cpu_s(process.pid) for process in workers), children_cpu_s(), machine_cpu_s()]
            first = [target for port in ports for target in status(port)["targets"]]
            time.sleep(seconds)
            after = [sum(cpu_s(process.pid) for process in workers), children_cpu_s(), machine_cpu_s()]
            last = [target for port in ports for target in status(port)["targets"]]
            for reader in readers:
                reader.terminate()
                reader.wait(10)
    source = access_units(clip)
    published = [access_units(folder / f"e{i}.flv") for i in range(count)]
    missing = sum(lost(source, units) for units in published)
    gaps = sum(sound_gaps(folder / f"e{i}.flv") for i in range(count))
    told = ("segments", "dropped_segments", "fallback_seconds")
    dubbed, dropped, fallback = (
        [end[key] - start[key] for start, end in zip(first, last, strict=True)] for key in told
    )
    dub = f"{sum(dubbed)} / {sum(dropped)} | {max(fallback):.1f} s" if tone_url else " | "
    fewest = min(len(units) for units in published)
    cores = [(end - start) / seconds for start, end in zip(before, after, strict=True)]
    share = f"{cores[0]:.2f} | {cores[1]:.2f} | {cores[2]:.2f} of {os.cpu_count()}"
    return f"| {count} × {label} | {fewest} | {missing} | {gaps} | {dub} | {share} |"


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


def sound_gaps(path: Path) -> int:
    command = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]
    listing = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    times = [float(line.strip(",")) for line in listing.split()]
    return sum(after - before > 0.030 for before, after in itertools.pairwise(times)) if times else 1


def access_units(path: Path) -> list[str]:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.rsplit(",", 1)[-1].strip() for line in listing.splitlines() if line and not line.startswith("#")]


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


# --- processes ---


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
    with running(*command, "--max-sessions", "64"):
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
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


# --- /proc ---


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def children_cpu_s() -> float:
    """Processor time so far of all that this benchmark has started and that runs."""
    children = [task.read_text().split() for task in Path("/proc/self/task").glob("*/children")]
    return sum(cpu_s(int(pid)) for found in children for pid in found)


def machine_cpu_s() -> float:
    """Processor time of everything on the machine so far."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / _TICKS


def by_thread(pid: int) -> dict[str, float]:
    """CPU seconds so far of a process's living threads, by what they do."""
    spent: defaultdict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # it has ended
            continue
        if name.startswith("python"):
            name = "Python, event loop" if task.name == str(pid) else "Python, separation"
        spent[_THREADS.get(name.rstrip("0123456789"), _THREADS.get(name, name))] += seconds
    return spent


def peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()

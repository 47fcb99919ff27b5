"""What every process of the program holds, over time, and whether it grows."""

from __future__ import annotations

import contextlib
import itertools
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``at_s`` seconds from the start."""

    at_s: float
    rss_mib: float
    fds: int
    threads: int


@dataclass
class Life:
    """One process. ``role``: the command that it is (``worker``), or the program's name."""

    role: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.samples[-1].at_s - self.samples[0].at_s


@dataclass(frozen=True, slots=True)
class Growth:
    """From the first quarter to the last of what comes after the warm-up, by their medians. ``slope_mib_h``: median
    of the slopes of pairs of samples (Theil and Sen), which a single step does not move."""

    role: str
    pid: int
    minutes: float
    rss_start_mib: float
    rss_end_mib: float
    rss_peak_mib: float
    slope_mib_h: float
    fds_start: float
    fds_end: float
    threads_start: float
    threads_end: float

    @property
    def complaints(self) -> list[str]:
        """Empty when nothing grows. Memory may grow by 8 MiB or 8 %, whichever is more: caches and arenas settle."""
        found = []
        allowed = max(8.0, 0.08 * self.rss_start_mib)
        if self.rss_end_mib - self.rss_start_mib > allowed and self.slope_mib_h > 0:
            found.append(f"memory grew from {self.rss_start_mib:.1f} to {self.rss_end_mib:.1f} MiB")
        if self.fds_end - self.fds_start > 4:
            found.append(f"file descriptors grew from {self.fds_start:g} to {self.fds_end:g}")
        if self.threads_end - self.threads_start > 2:
            found.append(f"threads grew from {self.threads_start:g} to {self.threads_end:g}")
        return found


def growth(life: Life, warm_up_s: float, least_s: float = 0.0) -> Growth | None:
    """None for a process that lived too short after its own warm-up to say anything: less than ``least_s``, or fewer
    than 8 samples."""
    began = life.samples[0].at_s
    kept = [sample for sample in life.samples if sample.at_s - began >= warm_up_s]
    if len(kept) < 8 or kept[-1].at_s - kept[0].at_s < least_s:
        return None
    quarter = len(kept) // 4
    first, last = kept[:quarter], kept[-quarter:]

    def medians(name: str) -> tuple[float, float]:
        before, after = ([float(getattr(sample, name)) for sample in part] for part in (first, last))
        return statistics.median(before), statistics.median(after)

    rss, fds, threads = medians("rss_mib"), medians("fds"), medians("threads")
    return Growth(
        role=life.role,
        pid=life.pid,
        minutes=round(life.seconds / 60, 1),
        rss_start_mib=rss[0],
        rss_end_mib=rss[1],
        rss_peak_mib=max(sample.rss_mib for sample in life.samples),
        slope_mib_h=slope(kept),
        fds_start=fds[0],
        fds_end=fds[1],
        threads_start=threads[0],
        threads_end=threads[1],
    )


def slope(samples: Sequence[Sample]) -> float:
    """MiB an hour, by Theil and Sen; of at most 200 samples, evenly chosen."""
    chosen = samples[:: max(1, len(samples) // 200)]
    pairs = [(b.rss_mib - a.rss_mib) / (b.at_s - a.at_s) for a, b in itertools.combinations(chosen, 2)]
    return 3_600 * statistics.median(pairs)


def role_of(command: str) -> str:
    """``python -m babelcast worker …`` is ``worker``."""
    found = re.search(r"-m babelcast ([\w-]+)", command)
    return found[1] if found else Path(command.split(" ")[0]).name


def take_samples(processes: dict[int, str], at_s: float, lives: dict[int, Life]) -> None:
    """Add one of each process (PID → command line) to ``lives``."""
    for pid, command in processes.items():
        folder = Path("/proc") / str(pid)
        with contextlib.suppress(OSError, KeyError, ValueError):
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            sample = Sample(
                at_s,
                int(status["VmRSS"].split()[0]) / 1_024,
                sum(1 for _ in (folder / "fd").iterdir()),
                int(status["Threads"]),
            )
            role = role_of(command)
            if pid not in lives or lives[pid].role != role:  # a spare worker that has become one begins a new life
                lives[pid] = Life(role, pid)
            lives[pid].samples.append(sample)


def table(found: Sequence[Growth]) -> str:
    head = f"{'process':<16}{'min':>6}{'RSS start':>11}{'end':>8}{'peak':>8}{'MiB/h':>8}{'fds':>10}{'threads':>10}"
    rows = [head + "  verdict"]
    for one in found:
        rows.append(
            f"{one.role:<16}{one.minutes:>6.0f}{one.rss_start_mib:>11.1f}{one.rss_end_mib:>8.1f}"
            f"{one.rss_peak_mib:>8.1f}{one.slope_mib_h:>8.1f}{f'{one.fds_start:g}→{one.fds_end:g}':>10}"
            f"{f'{one.threads_start:g}→{one.threads_end:g}':>10}  {'; '.join(one.complaints) or 'steady'}"
        )
    return "\n".join(rows)

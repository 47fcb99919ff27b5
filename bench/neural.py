"""What a full-size separation network costs, with random weights. Prints markdown; see bench/run.py.

A segment is computed once per chunk, and how long a chunk may be follows from the fixed delay, so the real-time factor
does too. Trained weights cost the same; how good they sound can't be seen here.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mdx_network
from babelcast.errors import ConfigError
from babelcast.separate.base import KEEPS_UP
from babelcast.separate.mdx import MdxNetwork
from babelcast.separate.neural import NeuralSeparator, chunk_for

NETWORKS = {
    "g32, 2048 bins (as `uvr-mdx-9482`)": (32, 2_048, 4_096),
    "g48, 3072 bins (as `Voc_FT`)": (48, 3_072, 7_680),
}
DELAYS = (6.0, 9.0, 12.0, 20.0)


def measure(growth: int, dim_f: int, n_fft: int) -> None:
    """Prints what one segment costs and what a stream at each delay would."""
    with tempfile.TemporaryDirectory() as folder:
        path = mdx_network.write(Path(folder) / "network.onnx", growth=growth, dim_f=dim_f, n_fft=n_fft)
        megabytes = path.stat().st_size / 1e6
        network = MdxNetwork(path)
        f = network.format
        sound = (0.1 * np.random.default_rng(1).standard_normal((f.segment, 2))).astype(np.float32)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            network.speech(sound, f.segment // 2, f.segment - n_fft)
            best = min(best, time.perf_counter() - start)
        rows = []
        for delay in DELAYS:
            try:
                chunk = chunk_for(f, delay)
            except ConfigError:
                continue
            latency = NeuralSeparator(network, chunk).latency_samples / 48_000
            rows.append((delay, chunk / f.rate, latency, best / (chunk / f.rate)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"megabytes": megabytes, "segment": best, "peak": peak, "rows": rows}))


def main() -> None:
    print("One thread. Factors above 0.8 don't keep real time: `auto` goes down a step.\n")
    print("| network | a segment of 5.9 s | peak memory | delay | chunk | held back | real-time factor |")
    print("|---|---|---|---|---|---|---|")
    for name, sizes in NETWORKS.items():
        argv = [sys.executable, __file__, *(str(size) for size in sizes)]
        got = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
        head = f"{name}, {got['megabytes']:.0f} MB | {got['segment']:.2f} s | {got['peak']:.0f} MB"
        for delay, chunk, latency, factor in got["rows"]:
            mark = "" if factor <= KEEPS_UP else " (too slow)"
            print(f"| {head} | {delay:g} s | {chunk:.1f} s | {latency:.1f} s | {factor:.2f}{mark} |")
            head = " | | "


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*(int(arg) for arg in sys.argv[1:]))
    else:
        main()

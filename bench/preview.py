"""The WebRTC preview in a real browser: first picture, glass to glass, CPU of its process, page weight.

    python bench/preview.py [--tries 5] [--seconds 8]

The published picture carries the time at which it was drawn as a barcode; the page's picture is read back from a canvas
as the browser presents it, on the same clock. Viewers of the CPU table are aiortc peers in a process of their own.
Needs Chromium and ffmpeg; MediaMTX where it is there. Prints markdown. Hold the machine to yourself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiortc import RTCPeerConnection, RTCSessionDescription
from fastapi import FastAPI
from playwright.async_api import Browser, Page, async_playwright

from babelcast.orchestrator import problems
from babelcast.orchestrator.http_server import serving
from babelcast.preview.process import PreviewProcess
from babelcast.preview.routes import Found, preview_router
from babelcast.preview.settings import PreviewSettings
from relay import cpu_seconds, resident_mb, server

WIDTH, HEIGHT, FPS, BITS, CELL = 1280, 720, 25, 40, 32
PATH = "live/bench/in"
SOURCES = {
    "no B-frames": ["-tune", "zerolatency", "-bf", "0"],
    "2 B-frames (re-encoded)": ["-bf", "2", "-rc-lookahead", "0"],
}
NOTE = """
*Cold* is the first look at a path, from the start of the navigation: the preview's process is there, as it is soon
after the first stream came on air, and MediaMTX hands over nothing before the next key picture. *Warm*: the path is
played already, for somebody else or by `keep_ready`.
Glass to glass is from drawing a picture to its presentation on the page, the encoder's delay included."""
_NOTE_FIRST = """
new MutationObserver((_, self) => {
  const video = document.getElementById("video");
  if (!video) return;
  self.disconnect();
  video.requestVideoFrameCallback((now) => { window.firstPicture = now; });
}).observe(document, { childList: true, subtree: true });
"""
_READ_CLOCK = """
([seconds, bits, cell]) => new Promise((done) => {
  const video = document.getElementById("video"), found = [], until = performance.now() + seconds * 1000;
  const canvas = new OffscreenCanvas(bits * cell, cell);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const look = () => {
    const now = Date.now(), scale = video.videoWidth / 1280;
    context.drawImage(video, 0, 0, bits * cell * scale, cell * scale, 0, 0, bits * cell, cell);
    const { data } = context.getImageData(0, 0, bits * cell, cell);
    let stamp = 0;
    for (let bit = 0; bit < bits; bit++) {
      stamp = stamp * 2 + (data[4 * (cell / 2 * bits * cell + bit * cell + cell / 2)] > 128 ? 1 : 0);
    }
    found.push((now % 2 ** bits) - stamp);
    if (performance.now() < until) video.requestVideoFrameCallback(look); else done(found);
  };
  video.requestVideoFrameCallback(look);
})
"""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The one path there is."""

    url: str

    async def find(self, path: str) -> Found | None:
        return Found(self.url)


def drawn(noise: np.ndarray[Any, Any]) -> bytes:
    """A grey picture with the wall clock's milliseconds as a row of black and white cells."""
    picture = noise.copy()
    stamp = int(time.time() * 1000)
    row = np.array([255 * (stamp >> (BITS - 1 - bit) & 1) for bit in range(BITS)], np.uint8)
    picture[:CELL, : BITS * CELL] = np.repeat(row, CELL)
    return picture.tobytes()


@contextlib.asynccontextmanager
async def publishing(url: str, coding: list[str]) -> AsyncIterator[None]:
    size = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS)]
    argv = ["ffmpeg", "-v", "error", *size, "-use_wallclock_as_timestamps", "1", "-i", "pipe:0"]
    argv += ["-re", "-f", "lavfi", "-i", "sine=440:sample_rate=48000", "-c:v", "libx264", "-preset", "ultrafast"]
    argv += [*coding, "-pix_fmt", "yuv420p", "-g", str(2 * FPS), "-b:v", "2500k", "-maxrate", "2500k"]
    argv += ["-bufsize", "1250k", "-c:a", "aac", "-flush_packets", "1", "-f", "flv", url]
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE)
    drawing = asyncio.create_task(draw(process))
    try:
        await asyncio.sleep(4.0)
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)
        process.kill()
        await process.wait()


async def draw(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    rng = np.random.default_rng(0)
    noises = [rng.integers(90, 120, (HEIGHT // 8, WIDTH // 8), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(5)]
    began = time.monotonic()
    for count in range(1_000_000):
        await asyncio.sleep(max(0.0, began + count / FPS - time.monotonic()))
        process.stdin.write(drawn(noises[count % len(noises)]))
        await process.stdin.drain()


@contextlib.asynccontextmanager
async def site(url: str, folder: Path) -> AsyncIterator[tuple[str, PreviewProcess]]:
    settings = PreviewSettings(host="127.0.0.1")
    async with aiohttp.ClientSession() as http, PreviewProcess(folder, settings).running() as process:
        app = FastAPI()
        problems.install(app, None)
        app.include_router(preview_router(process, Fixed(url), http, settings))
        async with serving(app, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}", process


async def first_picture(browser: Browser, base: str) -> float:
    """Seconds from the start of the navigation to the first picture presented."""
    page = await opened(browser, base)
    async with asyncio.timeout(20):
        while not (found := await page.evaluate("window.firstPicture ?? 0")):
            await asyncio.sleep(0.05)
    await page.close()
    return float(found) / 1000


async def opened(browser: Browser, base: str) -> Page:
    page = await browser.new_page(viewport={"width": 640, "height": 360})
    await page.add_init_script(_NOTE_FIRST)
    await page.goto(f"{base}/preview/{PATH}")
    return page


async def pictures(kind: str, coding: list[str], tries: int, seconds: float, folder: Path, browser: Browser) -> str:
    """A row: first picture with nothing running, with the path played already, and glass to glass."""
    folder.mkdir()
    async with server(kind, folder) as (_, url), publishing(url, coding):
        cold, rng = [], random.Random(0)
        for number in range(tries):
            async with site(url, folder / f"cold{number}") as (base, process):
                process.warm()
                while process.pid is None:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(2.0 * rng.random())  # anywhere in the group of pictures
                cold.append(await first_picture(browser, base))
        async with site(url, folder / "warm") as (base, _):
            await first_picture(browser, base)
            warm = [await first_picture(browser, base) for _ in range(tries)]
            page = await opened(browser, base)
            await page.wait_for_selector('html[data-state="live"]')
            await asyncio.sleep(2.0)
            late = [each / 1000 for each in await page.evaluate(_READ_CLOCK, [seconds, BITS, CELL])]
            await page.close()
    late = sorted(each for each in late if 0 < each < 20)
    p95 = late[int(len(late) * 0.95)]
    first = [f"{statistics.median(each):.2f} (most {max(each):.2f})" for each in (cold, warm)]
    glass = [f"{each:.2f}" for each in (statistics.median(late), p95, late[-1])]
    return f"| {' | '.join([*first, *glass])} | {len(late) / seconds:.0f} |"


async def watch(base: str, count: int) -> None:
    """Viewers that receive and throw away, until killed."""
    peers = [RTCPeerConnection() for _ in range(count)]
    async with aiohttp.ClientSession() as http:
        for peer in peers:
            for kind in ("video", "audio"):
                peer.addTransceiver(kind, direction="recvonly")
            await peer.setLocalDescription(await peer.createOffer())
            headers = {"Content-Type": "application/sdp"}
            url = f"{base}/api/v1/preview/{PATH}/whep"
            async with http.post(url, data=peer.localDescription.sdp, headers=headers) as answer:
                assert answer.status == 201, await answer.text()
                await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
    await asyncio.Event().wait()


async def cpu(process: PreviewProcess, seconds: float) -> tuple[float, float]:
    """Per cent of a core, and the encoder's beside it."""
    assert process.pid is not None
    pids = [process.pid, *children(process.pid)]
    before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    spent = [100 * (cpu_seconds(pid) - then) / took for pid, then in zip(pids, before, strict=True)]
    return spent[0], sum(spent[1:])


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def viewers(name: str, counts: tuple[int, ...], seconds: float, folder: Path) -> None:
    """Print rows: viewers, CPU of the process, of its encoder, memory."""
    async with contextlib.AsyncExitStack() as stack:
        _, url = await stack.enter_async_context(server("relay", folder))
        await stack.enter_async_context(publishing(url, SOURCES[name]))
        base, process = await stack.enter_async_context(site(url, folder))
        for count in counts:
            async with watching(base, count) if count else contextlib.nullcontext():
                if count:
                    await connected(process, count)
                else:
                    await process.watch(PATH, "rtmp://127.0.0.1:1/none")  # starts it; that source does not answer
                await asyncio.sleep(2.0)
                own, encoder = await cpu(process, seconds)
                assert process.pid is not None
                memory = resident_mb(process.pid)
            print(f"| {name} | {count} | {own:.1f} % | {encoder:.1f} % | {memory:.0f} MB |", flush=True)


@contextlib.asynccontextmanager
async def watching(base: str, count: int) -> AsyncIterator[None]:
    argv = [sys.executable, __file__, "--watch", base, "--count", str(count)]
    child = await asyncio.create_subprocess_exec(*argv)
    try:
        yield
    finally:
        child.terminate()
        await child.wait()


async def connected(process: PreviewProcess, count: int) -> None:
    async with asyncio.timeout(20):
        while (status := await process.status()).viewers < count or all(c.state != "live" for c in status.channels):
            await asyncio.sleep(0.1)


async def weight(browser: Browser, folder: Path) -> str:
    async with site("rtmp://127.0.0.1:1/none", folder / "page") as (base, _):
        page, sizes = await browser.new_page(), []
        page.on("response", lambda answer: sizes.append(answer) if "/preview/" in answer.url else None)
        await page.goto(f"{base}/preview/{PATH}", wait_until="load")
        found = [len(await each.body()) for each in sizes if "/api/" not in each.url]
        await page.close()
    return f"The page: {sum(found)} bytes in {len(found)} files, without compression."


async def main(tries: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        async with async_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
            browser = await playwright.chromium.launch(executable_path=chromium, args=flags)
            columns = (
                "source",
                "server",
                "first picture, cold",
                "warm",
                "glass to glass",
                "P95",
                "worst",
                "shown/s",
            )
            print(f"Seconds; {WIDTH}×{HEIGHT} at {FPS}/s, 2.5 Mb/s, key pictures every 2 s.\n")
            print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            for kind in ("relay", *(["mediamtx"] if shutil.which("mediamtx") else [])):
                for name, coding in SOURCES.items():
                    row = await pictures(kind, coding, tries, seconds, folder / f"{kind}{name[0]}", browser)
                    print(f"| {name} | {kind} {row}", flush=True)
            print(f"\n{await weight(browser, folder)}\n", flush=True)
            await browser.close()
        print("| source | viewers | CPU of a core | of its encoder | memory |\n|---|---|---|---|---|")
        for name, counts in (("no B-frames", (0, 1, 2, 5, 10)), ("2 B-frames (re-encoded)", (1, 5))):
            await viewers(name, counts, seconds, folder / f"cpu{name[0]}")
        print(NOTE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch, options.count))
    else:
        asyncio.run(main(options.tries, options.seconds))

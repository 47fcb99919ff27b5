"""The operator's page: its weight, how soon it is usable, and what three operators cost the server.

``babelcast up`` with one stream on air (tone backend). Time to usable: from navigation to the state of the stream and
its levels on the page, in headless Chromium on the same machine, median of five, with an empty cache and with a warm
one.
CPU: of the orchestrator and of the worker, with nobody and with three clients of the feed; the clients are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
from playwright.async_api import Browser, BrowserContext
from tests.e2e.browser import chromium
from tests.e2e.programs import Up, config_text, ffmpeg, publishing, until, up

from babelcast.console.assets import load_assets
from relay import cpu_seconds

CLIENTS = 3
RUNS = 5


def make_clip(path: Path) -> Path:
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25")
    sound = ("-f", "lavfi", "-i", "sine=frequency=300:sample_rate=48000")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-b:v", "1M", "-c:a", "aac", "-ac", "2")
    ffmpeg(*pictures, *sound, "-t", "20", *codecs, path)
    return path


def weight() -> tuple[int, int, int]:
    """(files, bytes, bytes over the network) of the whole page."""
    assets = load_assets()
    parts = [assets.index, *assets.files.values()]
    return len(parts), sum(len(part.body) for part in parts), sum(len(part.gzipped) for part in parts)


USABLE = """() => new Promise((resolve) => {
  const look = () => {
    const level = document.querySelector(".meter-value")?.textContent ?? "";
    const title = document.querySelector(".headline-title")?.textContent ?? "";
    if (/\\d/.test(level) && title.includes("on air")) resolve(performance.now());
    else requestAnimationFrame(look);
  };
  look();
})"""


async def usable(context: BrowserContext, url: str) -> float:
    """Milliseconds from navigation to the stream's state and a level on the page."""
    page = await context.new_page()
    await page.goto(url, wait_until="commit")
    took: float = await page.evaluate(USABLE)
    await page.close()
    return took


async def usable_times(browser: Browser, url: str) -> tuple[float, float]:
    """Medians: with an empty cache, with a warm one."""
    cold, warm = [], []
    for _ in range(RUNS):
        context = await browser.new_context(viewport={"width": 1440, "height": 900})
        cold.append(await usable(context, url))
        warm.append(await usable(context, url))
        await context.close()
    return statistics.median(cold), statistics.median(warm)


@contextlib.asynccontextmanager
async def clients(url: str, count: int, received: list[int]) -> AsyncIterator[None]:
    async def read() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
            async with http.get(f"{url}/api/v1/console/feed?stream=show") as answer:
                async for part in answer.content.iter_any():
                    received[0] += len(part)

    tasks = [asyncio.create_task(read()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def cost(running: Up, count: int, seconds: float) -> tuple[float, float, float]:
    """Per cent of a core of orchestrator and worker, and kbit/s to each client."""
    orchestrator = running.program.process.pid
    worker = running.program.processes("babelcast worker")[0]
    received = [0]
    async with clients(running.api, count, received):
        await asyncio.sleep(2.0)
        before, at, seen = (cpu_seconds(orchestrator), cpu_seconds(worker)), time.monotonic(), received[0]
        await asyncio.sleep(seconds)
        took = time.monotonic() - at
        spent = cpu_seconds(orchestrator) - before[0], cpu_seconds(worker) - before[1]
        kbps = (received[0] - seen) * 8 / 1_000 / took / max(1, count)
    return 100 * spent[0] / took, 100 * spent[1] / took, kbps


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    files, plain, gzipped = weight()
    print(f"Page: {files} files, {plain / 1_000:.0f} kB, {gzipped / 1_000:.1f} kB over the network (gzip).\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = await asyncio.to_thread(make_clip, folder / "clip.mp4")
        text = config_text(folder, settings="delay: 2.0, backend: tone, separation: 'off'")
        async with up(folder, text) as running, publishing(clip, running.publish_url):

            async def on_air() -> bool:
                status = (await running.stream())["status"]
                return bool(status and status["targets"][0]["published_seconds"] > 3)

            await until(on_air, "the programme")
            async with chromium() as browser:
                cold, warm = await usable_times(browser, f"{running.api}/#show")
            print(f"Usable after {cold:.0f} ms with an empty cache, {warm:.0f} ms with a warm one.\n")
            print("| clients | orchestrator, of a core | worker, of a core | to each client |\n|---|---|---|---|")
            for count in (0, CLIENTS):
                ours, workers, kbps = await cost(running, count, options.seconds)
                print(f"| {count} | {ours:.1f} % | {workers:.1f} % | {kbps:.0f} kbit/s |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

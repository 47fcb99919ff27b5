"""What the speech service adds to its engines: the tone mock costs nothing, so all that is left is the service.

``python bench/overhead.py`` prints a markdown table of REST and WebSocket side by side; :func:`rows` gives the same to
a larger report. Overhead of a fragment is the time from its last byte leaving the client to the last byte of its dub in
the client's hands, both on this machine, over loopback.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable

import aiohttp
import numpy as np

from babelcast.sts.serve import serving
from babelcast.sts.service import Service
from babelcast.sts.tone import ToneEngine
from babelcast.units import samples_to_ns
from babelcast.wire import DUB_FRAME, LAST_FRAME, PROCESS_PATH, SOURCE_FRAME, STREAM_PATH

RATE = 16_000
FRAGMENT_S = 1.5
"""Also what the mock cuts a running sound into, so that both contracts are asked for the same."""
FRAME = RATE // 10
FRAGMENTS = 200
PAUSE_S = 0.02


def sound(seconds: float) -> bytes:
    when = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * 32767 * np.sin(2 * np.pi * 300 * when)).astype("<i2").tobytes()


async def by_rest(url: str, fragments: int) -> list[float]:
    """Seconds per fragment, one after the other on one connection."""
    body = json.dumps(
        {
            "fragment_id": "f",
            "stream_id": "bench",
            "sequence_number": 0,
            "duration_ms": round(FRAGMENT_S * 1000),
            "sample_rate": RATE,
            "channels": 1,
            "audio": base64.b64encode(sound(FRAGMENT_S)).decode(),
            "source_language": "en",
            "target_language": "es",
        }
    )
    spent = []
    async with aiohttp.ClientSession() as http:
        for _ in range(fragments):
            began = time.perf_counter()
            async with http.post(url + PROCESS_PATH, data=body) as answer:
                assert answer.status == 200
                await answer.read()
            spent.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE_S)
    return spent


async def by_websocket(url: str, fragments: int, pause_s: float = PAUSE_S / 10) -> list[float]:
    """Seconds per segment, from the frame that completes it to its last sample here. ``pause_s`` between frames, which
    are 0.1 s long."""
    pcm = sound(FRAGMENT_S)
    start = {"type": "start", "stream_id": "bench", "source_language": "en", "target_language": "es"}
    spent, place = [], 0
    async with aiohttp.ClientSession() as http, http.ws_connect(url + STREAM_PATH, compress=0) as socket:
        await socket.send_str(json.dumps(start))
        for _ in range(fragments):
            for offset in range(0, len(pcm), 2 * FRAME):
                part = pcm[offset : offset + 2 * FRAME]
                await asyncio.sleep(pause_s)
                began = time.perf_counter()
                await socket.send_bytes(SOURCE_FRAME.pack(samples_to_ns(place, RATE)) + part)
                place += len(part) // 2
            spent.append(await _last_frame(socket) - began)
    return spent


async def _last_frame(socket: aiohttp.ClientWebSocketResponse) -> float:
    """When the last frame of a segment has come."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY and DUB_FRAME.unpack_from(message.data)[2] & LAST_FRAME:
            return time.perf_counter()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message


async def measure(fragments: int = FRAGMENTS) -> dict[str, list[float]]:
    """Seconds of overhead per fragment, by contract and number of clients at once."""
    ways: dict[str, Callable[[str, int], Awaitable[list[float]]]] = {"REST": by_rest, "WebSocket": by_websocket}
    found = {}
    async with serving(Service(ToneEngine())) as url:
        for name, way in ways.items():
            await way(url, 10)  # connections, caches
            found[f"{name}, one client"] = await way(url, fragments)
            several = await asyncio.gather(*(way(url, fragments // 2) for _ in range(4)))
            found[f"{name}, four clients"] = [spent for each in several for spent in each]
    return found


def rows(found: dict[str, list[float]]) -> list[tuple[str, str, str, str]]:
    """(contract, P50, P95, worst) in ms."""

    def ms(spent: list[float], share: float) -> str:
        return f"{1e3 * np.percentile(spent, share):.1f} ms"

    return [(name, ms(spent, 50), ms(spent, 95), ms(spent, 100)) for name, spent in found.items()]


def table(found: dict[str, list[float]]) -> str:
    title = f"| service overhead, fragment of {FRAGMENT_S} s | P50 | P95 | worst |\n|---|---|---|---|"
    return "\n".join([title, *("| " + " | ".join(row) + " |" for row in rows(found))])


if __name__ == "__main__":
    print(table(asyncio.run(measure())))

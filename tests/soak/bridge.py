"""``make soak-bridge``: the media bridge and its audio endpoint for half an hour, while things go wrong at random.

A real SRT publisher, a live producer of sound, two RTMP destinations, a speech service (its tone mock) for ``/say``.
As :mod:`tests.soak.run` otherwise: the same report, and it fails when anything grows, when something is not got over
within a minute, or when the primary destination notices what is none of its business.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.bridge.audio_endpoint.rig import live
from tests.bridge.rig import BACKUP_KEY, KEY, PASSPHRASE, SMALL, free_udp_port
from tests.e2e.programs import Program, babelcast, free_port, marked, program
from tests.fakes.rtmp_destination import FakeDestination
from tests.soak.course import Course, endure, lasting, refuses, stops_reading
from tests.soak.encoder import Watch

_TOKEN = "s0ak-t0ken"
_FPS = SMALL["FPS"]


class Source:
    """ffmpeg that calls the bridge by SRT, started again when it has ended, but not while it is ``away``."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.away = False
        self.process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        words = f"-v error -nostdin -re -f lavfi -i testsrc2=s=320x180:r={_FPS} -c:v libx264 -preset ultrafast"
        words += f" -pix_fmt yuv420p -g {_FPS} -f mpegts"
        while True:
            if not self.away:
                self.process = process = await asyncio.create_subprocess_exec(
                    "ffmpeg", *words.split(), self._address, stderr=asyncio.subprocess.DEVNULL
                )
                try:
                    await process.wait()
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
            await asyncio.sleep(0.2)

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


class Producer:
    """Pushes a tone into the endpoint for as long as it is not ``away``; while ``stalled`` nothing of it comes."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url
        self.away = self.stalled = False
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            if not self.away:
                self._task = asyncio.create_task(self._push())
                await asyncio.gather(self._task, return_exceptions=True)
            await asyncio.sleep(0.3)

    def cut(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _push(self) -> None:
        headers = {"Content-Type": "audio/pcm;rate=48000;channels=1", "Authorization": f"Bearer {_TOKEN}"}
        async with self._http.post(f"{self._url}/ingest", data=self._body(), headers=headers) as answer:
            await answer.read()

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            async for chunk in live(440, 3_600):
                yield chunk
                if self.stalled:
                    break
            while self.stalled:
                await asyncio.sleep(0.1)


@dataclass
class Soak(Course):
    """``environ`` of the endpoint's program; it is started anew where a fault killed it."""

    bridge: Program
    api: str
    audio_port: int
    http: aiohttp.ClientSession
    source: Source
    producer: Producer
    primary: FakeDestination
    backup: FakeDestination
    env_file: Path
    speech_url: str
    endpoint: Program | None = None
    endpoint_away: bool = False

    @property
    def audio(self) -> str:
        return f"http://127.0.0.1:{self.audio_port}"

    async def ask(self, method: str, url: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        async with self.http.request(method, url, json=body, headers=headers, timeout=_TIMEOUT) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def good(self) -> bool:
        """The source on air and recorded, both destinations live, and the producer heard."""
        try:
            status = await self.ask("GET", f"{self.api}/api/streaming/status")
            audio = await self.ask("GET", f"{self.audio}/status")
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        live_now = {each["name"] for each in status["destinations"] if each["state"] == "live"}
        heard = status["sound"]["state"] == "live" and audio["bed"]["state"] == "live"
        heard = heard and status["recording"]["state"] == "recording"
        return bool(status["state"] == "live" and live_now == {"primary", "backup"} and heard)

    def processes(self) -> dict[int, str]:
        for each in (self.bridge, self.endpoint):
            if each is not None:
                each.lines[:-200] = []
        self.backup.sessions[:] = [each for each in self.backup.sessions if not each.closed]
        for session in self.backup.sessions:
            del session.messages[:-1], session.arrived[:-1]
        return {**marked(self.bridge.mark), **(marked(self.endpoint.mark) if self.endpoint else {})}

    async def endpoint_forever(self) -> None:
        argv = ["audio", "--port", str(self.audio_port), "--speech-url", self.speech_url]
        while True:
            if not self.endpoint_away:
                async with program(*babelcast(*argv), env={"AUDIO_TOKEN": _TOKEN}) as running:
                    self.endpoint = running
                    await running.process.wait()
            await asyncio.sleep(0.2)


_TIMEOUT = aiohttp.ClientTimeout(total=20)


async def source_dies(soak: Soak) -> str:
    seconds = soak.rng.uniform(1, 8)
    soak.source.away = True
    soak.source.signal(signal.SIGKILL)
    await asyncio.sleep(seconds)
    soak.source.away = False
    return f"{seconds:.1f} s"


async def source_stalls(soak: Soak) -> str:
    seconds = soak.rng.uniform(1, 8)
    soak.source.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    soak.source.signal(signal.SIGCONT)
    return f"{seconds:.1f} s"


async def encoder_killed(soak: Soak) -> str:
    pids = [pid for pid, words in marked(soak.bridge.mark).items() if words.startswith("ffmpeg") and "libx264" in words]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return f"{len(pids)} by SIGKILL"


async def backup_dies(soak: Soak) -> str:
    return await refuses(soak, soak.backup, soak.rng.choice(["refuse", "mute"]), 10)


async def backup_stalls(soak: Soak) -> str:
    return await stops_reading(soak, soak.backup)


async def primary_dies(soak: Soak) -> str:
    return await refuses(soak, soak.primary, "refuse", 8)


async def producer_dies(soak: Soak) -> str:
    seconds = soak.rng.uniform(1, 6)
    soak.producer.away = True
    soak.producer.cut()
    await asyncio.sleep(seconds)
    soak.producer.away = False
    return f"{seconds:.1f} s"


async def producer_stalls(soak: Soak) -> str:
    seconds = soak.rng.uniform(1, 6)
    soak.producer.stalled = True
    await asyncio.sleep(seconds)
    soak.producer.stalled = False
    return f"{seconds:.1f} s"


async def endpoint_killed(soak: Soak) -> str:
    seconds = soak.rng.uniform(0, 4)
    soak.endpoint_away = True
    if soak.endpoint is not None:
        soak.endpoint.process.kill()
    await asyncio.sleep(seconds)
    soak.endpoint_away = False
    return f"SIGKILL, back after {seconds:.1f} s"


async def listeners_come_and_go(soak: Soak) -> str:
    async def listen(seconds: float) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with soak.http.get(f"{soak.audio}/stream", timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
                async for _ in answer.content.iter_any():
                    pass

    await asyncio.gather(*(listen(soak.rng.uniform(0.5, 8)) for _ in range(30)))
    return "30"


async def rubbish_is_pushed(soak: Soak) -> str:
    statuses = []
    for content_type in ("audio/mpeg", "audio/ogg", "text/plain"):
        headers = {"Content-Type": content_type, "Authorization": f"Bearer {_TOKEN}"}
        async with soak.http.post(f"{soak.audio}/ingest", data=soak.rng.randbytes(30_000), headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses == [422, 422, 415], statuses
    return f"{statuses}"


async def operator_speaks_and_mixes(soak: Soak) -> str:
    said = await soak.ask(
        "POST", f"{soak.audio}/say", {"text": "Good evening and welcome to the game", "language": "en"}
    )
    await soak.ask("PATCH", f"{soak.audio}/mix", {"bed_gain": soak.rng.choice([0.3, 0.7, 1.0])})
    await asyncio.sleep(float(said["duration_s"]))
    return f"{said['duration_s']:.1f} s"


async def settings_change(soak: Soak) -> str:
    text = soak.env_file.read_text()
    soak.env_file.write_text(text + "FPS=many\n")
    soak.bridge.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(1)
    soak.env_file.write_text(text)
    await soak.ask("PATCH", f"{soak.api}/api/streaming/config", {"SLATE_TEXT": f"Soon {soak.rng.randint(1, 9)}"})
    return "a bad line, then another slate"


Fault = Callable[[Soak], Awaitable[str]]
FAULTS: tuple[Fault, ...] = (
    source_dies,
    source_stalls,
    encoder_killed,
    backup_dies,
    backup_stalls,
    primary_dies,
    producer_dies,
    producer_stalls,
    endpoint_killed,
    listeners_come_and_go,
    rubbish_is_pushed,
    operator_speaks_and_mixes,
    settings_change,
)
_NOT_ITS_BUSINESS = {
    *("backup_dies", "backup_stalls", "producer_dies", "producer_stalls", "endpoint_killed"),
    *("listeners_come_and_go", "rubbish_is_pushed", "operator_speaks_and_mixes"),
}


def complaints(soak: Soak) -> list[str]:
    found = lasting(soak)
    for one in soak.happened:
        worst = max(one.picture_gap_s, one.sound_gap_s)
        if worst > (2.0 if one.kind in _NOT_ITS_BUSINESS else 15.0):
            found.append(f"the primary noticed: {one}")
    if soak.bridge.process.returncode is not None:
        found.append(f"the bridge ended with {soak.bridge.process.returncode}")
    return found


async def soaked(args: argparse.Namespace, folder: Path) -> list[str]:
    """What is wrong at the end."""
    args.out.mkdir(parents=True, exist_ok=True)
    srt = f"srt://127.0.0.1:{free_udp_port()}?passphrase={PASSPHRASE}"
    audio_port, speech_port = free_port(), free_port()
    primary, backup = FakeDestination(), FakeDestination()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(primary.listening())
        await stack.enter_async_context(backup.listening())
        settings = SMALL | {
            "SRT_URL": f"{srt}&mode=listener",
            "AUDIO_SOURCE": f"http://127.0.0.1:{audio_port}/stream",
            "PRIMARY_RTMP_URL": primary.url,
            "PRIMARY_STREAM_KEY": KEY,
            "BACKUP_RTMP_URL": backup.url,
            "BACKUP_STREAM_KEY": BACKUP_KEY,
            "RECORD": str(folder / "recordings"),
            "RECORD_MINUTES": "0.5",
            "RECORD_KEEP_GB": "0.01",
        }
        env_file = folder / "media.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        argv = ["bridge", "--env-file", str(env_file), "--port", "0", "--rtmp-port", "0"]
        bridge = await stack.enter_async_context(program(*babelcast(*argv), env={"BABELCAST_API_TOKEN": _TOKEN}))
        line = await bridge.says(r"ready: API (http://\S+)/docs")
        sts = await stack.enter_async_context(
            program(*babelcast("sts", "--engine", "tone", "--port", str(speech_port)))
        )
        await sts.says("sts ready")
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)))
        source, producer = Source(srt), Producer(http, f"http://127.0.0.1:{audio_port}")
        soak = Soak(
            random.Random(args.seed), Watch(primary), bridge, line[1], audio_port, http, source, producer,
            primary, backup, env_file, f"http://127.0.0.1:{speech_port}",
        )  # fmt: skip
        tasks = [asyncio.create_task(each) for each in (source.run(), producer.run(), soak.endpoint_forever())]

        async def judge() -> list[str]:
            return complaints(soak)

        try:
            return await endure(soak, args, FAULTS, (endpoint_killed,), judge)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            (args.out / "bridge.log").write_text(bridge.text)

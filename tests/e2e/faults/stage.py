"""A stream on air through lines that can break: encoder → (bad network) → all of Babelcast → destination, with the
speech service behind another bad network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.faults.measure import Gaps, gaps
from tests.e2e.programs import Up, config_text, ffmpeg, until, up
from tests.fakes.bad_speech_service import BadSpeechService
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.rtmp_destination import FakeDestination
from tests.soak.encoder import Encoder

DELAY_S = 2.0
KEY = "kEy-0123456789-faults"
_LEVELS = {"warning", "error", "critical"}


@dataclass(frozen=True)
class Outcome:
    """One line of docs/reference/faults.md. ``recovered_s``: from the end of the fault until dub and destination are
    there again."""

    name: str
    what: str
    lasted_s: float
    recovered_s: float
    gaps: Gaps
    said: str


@dataclass
class Stage:
    running: Up
    platform: FakeDestination
    source: FaultProxy
    encoder: Encoder
    server: str = "relay"
    speech: FaultProxy | None = None
    service: BadSpeechService | None = None
    heard: list[str] = field(default_factory=list)
    """Every sentence that API and log have said since the fault began."""

    async def good(self) -> bool:
        """Dub on air with a new segment, destination live, and the worker says nothing is wrong."""
        try:
            view = await self.running.stream()
        except (OSError, TimeoutError):
            return False
        target = view["status"]["targets"][0] if view["status"] else None
        return bool(
            target
            and target["fallback"] is None
            and target["segments"] > 0
            and target["last_error"] is None
            and view["destinations"][0]["state"] == "live"
        )

    def kill(self, command: str, signum: int = signal.SIGKILL) -> list[int]:
        """The PIDs that got it."""
        pids = self.running.program.processes(command if command == "mediamtx" else f"babelcast {command}")
        assert pids, command
        for pid in pids:
            os.kill(pid, signum)
        return pids

    def mend(self) -> None:
        """Whatever a fault that was not got over has left."""
        self.platform.behaviour = "accept"
        self.source.heal()
        if self.speech and self.service:
            self.speech.heal()
            self.service.behaviour = "well"
        for pid in self.running.program.processes("babelcast sts"):
            os.kill(pid, signal.SIGCONT)

    def says(self, pattern: str) -> bool:
        return any(re.search(pattern, sentence) for sentence in self.heard)

    async def controls(self, **changes: Any) -> None:
        url = f"{self.running.api}/api/v1/streams/show/controls"
        async with self.running.http.patch(url, json=changes) as answer:
            assert answer.status in (200, 202), await answer.text()

    async def dumps(self, method: str, **spec: Any) -> dict[str, Any]:
        url = f"{self.running.api}/api/v1/streams/show/dumps"
        async with self.running.http.request(method, url, json=spec or None) as answer:
            assert answer.status == 200, await answer.text()
            status: dict[str, Any] = await answer.json()
            return status

    async def _good_again(self, not_before: float, within_s: float, name: str) -> float:
        """When all was well, and still was at ``not_before`` and for a second: what broke is on air the delay later, if
        it is, and what is said of it may be a moment behind."""
        loop = asyncio.get_running_loop()
        deadline, since = loop.time() + within_s, None
        while True:
            now = loop.time()
            since = (since or now) if await self.good() else None
            if since is not None and now >= max(not_before, since + 1.0):
                return since
            assert now < deadline, f"not well again within {within_s:g} s of: {name}; heard: {self.heard}"
            await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Collect what is said meanwhile."""
        self.heard.clear()
        task = asyncio.create_task(self._listen(len(self.running.program.lines)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, line: int) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, AssertionError):
                for sentence in _sentences(await self.running.stream()):
                    self._note(sentence)
            lines = self.running.program.lines
            for text in lines[line:]:
                self._note(_message(text))
            line = len(lines)
            await asyncio.sleep(0.1)

    def _note(self, sentence: str | None) -> None:
        if sentence and sentence not in self.heard:
            self.heard.append(sentence)

    async def through(
        self,
        name: str,
        what: str,
        breaks: Callable[[Stage], Awaitable[str | None]],
        says: str | None,
        *,
        after_s: float = DELAY_S + 1.5,
        within_s: float = 40.0,
    ) -> Outcome:
        """Break it, mend it (both are ``breaks``), wait until all is well for a while, and measure. ``says``: what must
        be heard of it."""
        loop = asyncio.get_running_loop()
        await until(self.good, f"all well before: {name}", 40)
        async with self.listening():
            began = loop.time()
            seen = await breaks(self)
            mended = loop.time()
            good_from = await self._good_again(began + after_s, within_s, name)
            recovered_s = max(0.0, good_from - mended)
            if says is not None:
                await until(lambda: self.says(says), f"{says!r} is said of: {name}; heard: {self.heard}", 5)
                seen = next(sentence for sentence in self.heard if re.search(says, sentence))
        found = gaps(self.platform.sessions, began - 0.1, loop.time())
        outcome = Outcome(
            name, what, mended - began, recovered_s, found, _without_numbers(seen or next(iter(self.heard), "nothing"))
        )
        print(f"{outcome}; heard: {self.heard}")
        return outcome


def _sentences(view: dict[str, Any]) -> list[str]:
    status = view["status"] or {"warnings": [], "targets": []}
    targets = [target["last_error"] for target in status["targets"]]
    targets += [f"fallback {t['fallback']} ({t['fallback_cause']})" for t in status["targets"] if t["fallback"]]
    return [
        each
        for each in (
            view["last_error"],
            *targets,
            *status["warnings"],
            *view["warnings"],
            *(d["last_error"] for d in view["destinations"]),
            *(f"destination {d['state']}" for d in view["destinations"] if d["state"] != "live"),
        )
        if each
    ]


def _message(line: str) -> str | None:
    """Of a log line that is a warning or worse; a child's word is in its parent's line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line if re.search(r"warning|error", line, re.IGNORECASE) else None
    return str(entry["message"]) if entry.get("level") in _LEVELS else None


def _without_numbers(sentence: str) -> str:
    sentence = re.sub(r"(: sts ready.*|: \{.*|(?<=restarting): .*)", "", sentence)  # a child's last words
    sentence = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", sentence)
    return re.sub(r"\s+", " ", sentence)[:200]


def make_programme(folder: Path, seconds: float = 30.0) -> Path:
    """Speech over a bed, as FLV; faded at both ends, and without the encoder's noise shaping, so that it does not click
    of itself."""
    text = "Good evening everyone. The team is very happy to be here. We are going to win the game tonight. "
    fade = f"afade=t=in:d=0.3,afade=t=out:st={seconds - 0.4}:d=0.35"
    sound = f"flite=voice=slt:text='{text * 6}',aresample=48000,apad,atrim=0:{seconds},volume=0.7,{fade}"
    path = folder / "programme.flv"
    options = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-f", "lavfi", "-i", sound, "-t", str(seconds)]
    options += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-b:v", "300k"]
    ffmpeg(*options, "-c:a", "aac", "-aac_tns", "0", "-ac", "2", path)
    return path


@contextlib.asynccontextmanager
async def on_air(folder: Path, *, own_speech: bool = False, server: str = "relay") -> AsyncIterator[Stage]:
    """``own_speech``: the program's own speech service (tones); else one that misbehaves on request."""
    clip = make_programme(folder)
    async with contextlib.AsyncExitStack() as stack:
        platform = await stack.enter_async_context(FakeDestination().listening())
        service = speech = None
        more = ""
        if not own_speech:
            service = await stack.enter_async_context(BadSpeechService().listening())
            speech = await stack.enter_async_context(FaultProxy(int(service.url.rpartition(":")[2])).listening())
            more = f'speech: {{url: "http://127.0.0.1:{speech.port}"}}'
        destination = f'destinations: [{{name: platform, url: "{platform.url}", key: "{KEY}"}}]'
        backend = "tone" if own_speech else "sts"
        settings = f"delay: {DELAY_S}, backend: {backend}, breaker: {{open_s: 2.0}}"
        text = config_text(folder, server=server, settings=settings, stream=destination, more=more)
        running = await stack.enter_async_context(up(folder, text))
        source = await stack.enter_async_context(FaultProxy(int(running.rtmp.rpartition(":")[2])).listening())
        encoder = Encoder(clip, f"rtmp://127.0.0.1:{source.port}/live/show/in")
        publishing = asyncio.create_task(encoder.run())
        try:
            found = Stage(running, platform, source, encoder, server, speech, service)
            try:
                await until(found.good, "the dub is on air", 60)
            except AssertionError as error:
                raise AssertionError(f"{error}: {await running.stream()}; {running.program.lines[-20:]}") from None
            yield found
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

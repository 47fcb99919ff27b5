"""A server that speaks Gemini Live's protocol over TLS on loopback, by script. The real SDK talks to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.fakes.certificates import loopback_tls
from tests.fakes.interpreter import Interpreter, Record, Script

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


@dataclass
class GeminiServer:
    """``script`` gives the n-th connection's. Keys other than ``key`` are refused as the service does."""

    script: Callable[[int], Script]
    url: str = ""
    key: str = "key"
    connections: list[Record] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What a client did that the protocol does not allow."""
    open_handles: set[str] = field(default_factory=set)
    _stop: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Cut every connection and listen no more."""
        self._stop()

    @property
    def open(self) -> int:
        return sum(record.closed_s is None for record in self.connections)

    async def handle(self, socket: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        number = len(self.connections)
        script = self.script(number)
        assert socket.request is not None
        record = Record(headers=dict(socket.request.headers), path=socket.request.path, opened_s=loop.time())
        self.connections.append(record)
        try:
            if record.path != PATH:
                return await socket.close(1008, "no such method")
            if record.headers.get("x-goog-api-key") != self.key:
                return await socket.close(1007, "API key not valid. Please pass a valid API key.")
            with contextlib.suppress(ConnectionClosed):
                await self._session(socket, script, record, f"handle-{number}")
        finally:
            record.closed_s = loop.time()

    async def _session(self, socket: ServerConnection, script: Script, record: Record, handle: str) -> None:
        record.setup = json.loads(await socket.recv())["setup"]
        generation: Any = record.setup["generationConfig"]
        resumption: Any = record.setup.get("sessionResumption") or {}
        record.handle = resumption.get("handle")
        if record.handle in self.open_handles:
            return await socket.close(1011, "The session is in use")
        if script.refuse is not None:
            return await socket.close(*script.refuse)
        if script.setup == "never":
            return await socket.wait_closed()
        await socket.send(json.dumps({"setupComplete": {}}).encode())
        # without a target language the real service is mute too
        translation = generation.get("translationConfig") or {}
        interpreter = Interpreter(script if translation.get("targetLanguageCode") else Script(mute=True))
        self.open_handles.add(handle)
        tasks = [
            asyncio.create_task(self._hear(socket, interpreter, record)),
            asyncio.create_task(self._speak(socket, interpreter)),
            asyncio.create_task(self._behave(socket, script, handle)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open_handles.discard(handle)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, socket: ServerConnection, interpreter: Interpreter, record: Record) -> None:
        loop = asyncio.get_running_loop()
        async for text in socket:
            if isinstance(text, bytes):
                self.faults.append("a binary frame")
            message = json.loads(text)
            audio = message.get("realtime_input", message.get("realtimeInput", {})).get("audio")
            if not audio:
                self.faults.append(f"unknown message {sorted(message)}")
                continue
            if (mime := audio.get("mimeType", audio.get("mime_type"))) != "audio/pcm;rate=16000":
                self.faults.append(f"mime type {mime}")
            pcm = base64.urlsafe_b64decode(audio["data"])
            record.arrivals.append((loop.time(), any(pcm)))
            record.sizes.add(len(pcm))
            interpreter.hear(pcm)

    async def _speak(self, socket: ServerConnection, interpreter: Interpreter) -> None:
        async for step in interpreter.steps():
            data = base64.b64encode(step.pcm).decode()
            part = {"inlineData": {"mimeType": f"audio/pcm;rate={step.rate}", "data": data}}
            await self._say(socket, {"serverContent": {"modelTurn": {"parts": [part]}}})
            if step.heard:
                await self._say(socket, {"serverContent": {"inputTranscription": {"text": step.heard}}})
            if step.said:
                await self._say(socket, {"serverContent": {"outputTranscription": {"text": step.said}}})

    async def _behave(self, socket: ServerConnection, script: Script, handle: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if script.handles:
            await self._say(socket, {"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}})
        await self._say(socket, {"usageMetadata": {"totalTokenCount": 1}})
        if script.goaway_s is not None:
            await asyncio.sleep(script.goaway_s)
            await self._say(socket, {"goAway": {"timeLeft": f"{script.goaway_left_s:g}s"}})
            await asyncio.sleep(script.goaway_left_s)
            return await socket.close(1011, "deadline expired")
        await asyncio.sleep(began + (1e6 if script.close_s is None else script.close_s) - loop.time())
        code, reason = script.close
        if code == 1006:
            socket.transport.abort()
        else:
            await socket.close(code, reason)

    async def _say(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        await socket.send(json.dumps(message).encode())


@contextlib.asynccontextmanager
async def gemini_server(script: Callable[[int], Script] | Script | None = None) -> AsyncIterator[GeminiServer]:
    scripted = script if callable(script) else lambda _: script or Script()
    server = GeminiServer(scripted)
    listening = await serve(
        server.handle, "127.0.0.1", 0, ssl=loopback_tls()[0], ping_interval=None, compression=None, close_timeout=1
    )
    server.url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    def stop() -> None:
        listening.close(close_connections=False)
        for socket in listening.connections:
            socket.transport.abort()

    server._stop = stop
    try:
        yield server
    finally:
        stop()
        await listening.wait_closed()

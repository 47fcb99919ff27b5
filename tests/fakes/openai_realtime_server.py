"""A server that speaks OpenAI's Realtime translation protocol on loopback, by script."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.fakes.interpreter import Interpreter, Record, Script

PATH = "/v1/realtime/translations"
LANGUAGES = {"en", "es", "de", "fr", "ja"}


@dataclass
class OpenAiServer:
    """``script`` gives the n-th connection's."""

    script: Callable[[int], Script]
    url: str = ""
    key: str = "key"
    connections: list[Record] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    expires_in_s: float = 3_600.0
    _stop: Callable[[], None] = lambda: None

    def stop(self) -> None:
        self._stop()

    @property
    def open(self) -> int:
        return sum(record.closed_s is None for record in self.connections)

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return socket.respond(HTTPStatus.UNAUTHORIZED, "Incorrect API key provided\n")
        parts = urlsplit(request.path)
        if parts.path != PATH:
            return socket.respond(HTTPStatus.NOT_FOUND, "no such path\n")
        if parse_qs(parts.query).get("model") != ["gpt-realtime-translate"]:
            return socket.respond(HTTPStatus.BAD_REQUEST, "no such model\n")
        return None

    async def handle(self, socket: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        script = self.script(len(self.connections))
        assert socket.request is not None
        record = Record(headers=dict(socket.request.headers), path=socket.request.path, opened_s=loop.time())
        self.connections.append(record)
        try:
            with contextlib.suppress(ConnectionClosed):
                await self._session(socket, script, record)
        finally:
            record.closed_s = loop.time()

    async def _session(self, socket: ServerConnection, script: Script, record: Record) -> None:
        if script.setup == "never":
            return await socket.wait_closed()
        if script.refuse is not None:
            return await socket.close(*script.refuse)
        session: dict[str, Any] = {"id": "sess_1", "type": "translation", "model": "gpt-realtime-translate"}
        expires = int(time.time() + self.expires_in_s)
        await self._say(socket, "session.created", session={**session, "expires_at": expires, "audio": {}})
        update = json.loads(await socket.recv())
        record.setup = update["session"]
        audio: Any = record.setup["audio"]
        if update["type"] != "session.update" or audio["output"]["language"] not in LANGUAGES:
            error = {"type": "invalid_request_error", "code": "invalid_value", "param": "session.audio.output.language"}
            await self._say(socket, "error", error={**error, "message": "Unsupported language"})
            return await socket.wait_closed()
        await self._say(socket, "session.updated", session={**session, "expires_at": expires, "audio": audio})
        interpreter = Interpreter(script)
        speak = asyncio.create_task(self._speak(socket, interpreter))
        tasks = [
            asyncio.create_task(self._hear(socket, interpreter, record, script)),
            speak,
            asyncio.create_task(self._behave(socket, script)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, socket: ServerConnection, interpreter: Interpreter, record: Record, script: Script) -> None:
        loop = asyncio.get_running_loop()
        left = b""
        async for text in socket:
            event = json.loads(text)
            if event["type"] == "session.close":
                await asyncio.sleep(script.lag_s + 0.3)
                await self._say(socket, "session.closed")
                return await socket.close(1000)
            if event["type"] != "session.input_audio_buffer.append":
                self.faults.append(event["type"])
                continue
            pcm = base64.b64decode(event["audio"], validate=True)
            record.arrivals.append((loop.time(), any(pcm)))
            record.sizes.add(len(pcm))
            samples = np.frombuffer(left + pcm, "<i2")
            whole = len(samples) // 3 * 3
            left = samples[whole:].tobytes()
            # 24 kHz to the 16 kHz that the interpreter hears; aliasing does not matter for tones
            at = np.arange(whole // 3 * 2) * 1.5
            heard = np.interp(at, np.arange(whole), samples[:whole]) if whole else np.zeros(0)
            interpreter.hear(heard.astype("<i2").tobytes())

    async def _speak(self, socket: ServerConnection, interpreter: Interpreter) -> None:
        elapsed = 0.0
        async for step in interpreter.steps():
            elapsed += len(step.pcm) / 2 / step.rate
            stamp = {"elapsed_ms": int(elapsed * 5) * 200}
            sound = {"delta": base64.b64encode(step.pcm).decode(), "sample_rate": step.rate, "channels": 1}
            await self._say(socket, "session.output_audio.delta", **sound, format="pcm16", **stamp)
            if step.heard:
                await self._say(socket, "session.input_transcript.delta", delta=step.heard, **stamp)
            if step.said:
                await self._say(socket, "session.output_transcript.delta", delta=step.said, **stamp)

    async def _behave(self, socket: ServerConnection, script: Script) -> None:
        await self._say(socket, "error", error={"type": "invalid_request_error", "code": "harmless", "message": "x"})
        await asyncio.sleep(1e6 if script.close_s is None else script.close_s)
        code, reason = script.close
        if code == 1006:
            socket.transport.abort()
        elif code < 1000:
            error = {"type": "server_error", "code": "session_expired", "message": reason}
            await self._say(socket, "error", error=error)
            await asyncio.sleep(1e6)
        else:
            await socket.close(code, reason)

    async def _say(self, socket: ServerConnection, kind: str, **fields: Any) -> None:
        await socket.send(json.dumps({"type": kind, "event_id": "event_1", **fields}))


@contextlib.asynccontextmanager
async def openai_server(script: Callable[[int], Script] | Script | None = None) -> AsyncIterator[OpenAiServer]:
    scripted = script if callable(script) else lambda _: script or Script()
    server = OpenAiServer(scripted)
    listening = await serve(
        server.handle, "127.0.0.1", 0, process_request=server.admit, ping_interval=None, compression=None
    )
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

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

"""A speech service that misbehaves on request, behind the real WebSocket contract."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from aiohttp import WSMsgType, web

from babelcast import wire
from babelcast.units import NS_PER_S, SPEECH_RATE, samples_to_ns

Behaviour = Literal["well", "slow", "garbage", "too much", "refuse"]
"""``slow``: every answer 6 s late. ``too much``: 6 s of sound for each second. ``refuse``: overloaded."""

TONE_HZ = 1_000
_SLOW_S = 6.0
_TOO_MUCH_S = 6.0


@dataclass
class BadSpeechService:
    """Answers each second of the source with a tone of half a second. ``behaviour`` holds from the next second on."""

    behaviour: Behaviour = "well"
    url: str = ""
    sessions: int = 0
    _sockets: set[web.WebSocketResponse] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[BadSpeechService]:
        app = web.Application()
        app.add_routes([web.get(wire.STREAM_PATH, self._serve)])
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            yield self
        finally:
            for socket in tuple(self._sockets):
                await socket.close()
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        self._sockets.add(socket)
        late: asyncio.Queue[tuple[float, list[str | bytes]]] = asyncio.Queue()
        answering = asyncio.create_task(_answer(socket, late))
        try:
            await socket.receive()  # the start
            if self.behaviour == "refuse":
                error = wire.ErrorMessage(code="overloaded", message="too many sessions", retryable=True)
                await socket.send_str(error.model_dump_json())
                return socket
            self.sessions += 1
            await socket.send_str(_json(wire.Ready(session_id="x", voice="x", asr="x", mt="x", tts="x")))
            await self._session(socket, late)
        finally:
            self._sockets.discard(socket)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        return socket

    async def _session(
        self, socket: web.WebSocketResponse, late: asyncio.Queue[tuple[float, list[str | bytes]]]
    ) -> None:
        next_ns: int | None = None
        sequence = 0
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                return
            (start_ns,) = wire.SOURCE_FRAME.unpack_from(message.data)
            end_ns = start_ns + samples_to_ns((len(message.data) - wire.SOURCE_FRAME.size) // 2, SPEECH_RATE)
            next_ns = start_ns if next_ns is None else next_ns
            while next_ns + NS_PER_S <= end_ns:
                pause_s = _SLOW_S if self.behaviour == "slow" else 0.0
                await late.put((asyncio.get_running_loop().time() + pause_s, self._answers(next_ns, sequence)))
                sequence += 1
                next_ns += NS_PER_S

    def _answers(self, start_ns: int, sequence: int) -> list[str | bytes]:
        if self.behaviour == "garbage":
            return ["{}", b"\x00" * 50]
        samples = round(SPEECH_RATE * (_TOO_MUCH_S if self.behaviour == "too much" else 0.5))
        time = np.arange(samples) / SPEECH_RATE
        pcm = (8_000 * np.sin(2 * np.pi * TONE_HZ * time)).astype("<i2").tobytes()
        end_ns = start_ns + NS_PER_S
        segment = wire.Segment(
            segment_id=f"s{sequence}-{start_ns}",
            sequence=sequence,
            source_start_ns=start_ns,
            source_end_ns=end_ns,
            transcript="one",
            translation="uno",
            voice="x",
            sample_rate=SPEECH_RATE,
            samples=samples,
        )
        frames: list[str | bytes] = [_json(segment)]
        step = SPEECH_RATE // 10
        for place in range(0, samples, step):
            flags = wire.LAST_FRAME if place + step >= samples else 0
            frames.append(wire.DUB_FRAME.pack(sequence, place, flags) + pcm[2 * place : 2 * (place + step)])
        return [*frames, _json(wire.Progress(processed_until_ns=end_ns))]


async def _answer(socket: web.WebSocketResponse, late: asyncio.Queue[tuple[float, list[str | bytes]]]) -> None:
    while True:
        due, answers = await late.get()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        for answer in answers:
            await (socket.send_str(answer) if isinstance(answer, str) else socket.send_bytes(answer))


def _json(message: wire.ServerMessage) -> str:
    return message.model_dump_json()

"""OpenAI's Realtime translation as a speech backend: a WebSocket and JSON, no SDK.

The session translates what it is sent, silence included, in engine frames of 200 ms, so sound goes in chunks of that.
``session.close`` makes it flush, and ``session.closed`` says that all was said. The protocol is that of the published
reference for ``/v1/realtime/translations``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import numpy as np
import soxr

from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.clock import Clock
from babelcast.errors import ConfigError, SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.speech.base import SpeechTarget
from babelcast.speech.cost import OPENAI_TRANSLATE, Price
from babelcast.speech.interpreter.connection import Ended, GoAway, Heard, Message, Said, Sound
from babelcast.speech.interpreter.session import InterpreterBackend
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.units import SPEECH_RATE

log = logging.getLogger(__name__)

DEFAULT_URL = "https://api.openai.com"
DEFAULT_MODEL = "gpt-realtime-translate"
DEFAULT_TRANSCRIPTION_MODEL = "gpt-realtime-whisper"
RATE = 24_000
_PATH = "/v1/realtime/translations"
_CLOSE_S = 0.5
_MAX_MESSAGE = 8 << 20
_GOAWAY_S = 60.0
_FATAL = {
    "invalid_api_key": "unauthorized",
    "model_not_found": "bad_request",
    "invalid_model": "bad_request",
    "insufficient_quota": "unauthorized",
    "unsupported_language": "unsupported_language",
}
"""Codes of ``error`` events that another try does not mend. The reference calls most other errors recoverable."""
_ENDS = {"session_expired", "server_error", "internal_error", "rate_limit_exceeded", "engine_overloaded"}
"""Codes or types after which this session is given up and another may work."""


def status_error(status: int, reason: str) -> SpeechError:
    """The error for an HTTP status of the handshake."""
    said = f"OpenAI Realtime: {reason or 'refused'} ({status})"
    if status in (401, 403):
        return SpeechError(said, code="unauthorized", hint="set openai.api_key, or OPENAI_API_KEY in the environment")
    if status == 429:
        return SpeechUnavailableError(said, code="overloaded")
    if 400 <= status < 500:
        return SpeechError(said, code="bad_request", hint="check openai.model")
    return SpeechUnavailableError(said, code="engine_failed")


def close_error(code: int | None, reason: str) -> SpeechError:
    """The error for a close code."""
    said = f"OpenAI Realtime: {reason or 'the connection was lost'} ({code or 1006})"
    if code in (1003, 1007, 1008):
        return SpeechError(said, code="unauthorized" if "key" in reason.lower() else "bad_request")
    return SpeechUnavailableError(said, code="engine_failed" if code == 1011 else "internal")


def event_error(error: dict[str, Any]) -> SpeechError | None:
    """The error for an ``error`` event; None for one after which the session goes on."""
    code, kind = str(error.get("code") or ""), str(error.get("type") or "")
    said = f"OpenAI Realtime: {error.get('message') or code or kind}"
    if "language" in str(error.get("param") or ""):
        return UnsupportedLanguageError(said, code="unsupported_language")
    if code in _FATAL:
        final = _FATAL[code]
        return (UnsupportedLanguageError if final == "unsupported_language" else SpeechError)(said, code=final)
    if code in _ENDS or kind in _ENDS:
        busy = code in ("rate_limit_exceeded", "engine_overloaded")
        return SpeechUnavailableError(said, code="overloaded" if busy else "engine_failed")
    return None


@dataclass(frozen=True, slots=True)
class OpenAiSettings:
    """``base_url`` and ``tls`` are for tests and for gateways with the same protocol."""

    api_key: str
    model: str = DEFAULT_MODEL
    transcription_model: str = DEFAULT_TRANSCRIPTION_MODEL
    base_url: str = DEFAULT_URL
    tls: ssl.SSLContext | None = None
    price: Price = OPENAI_TRANSLATE


class OpenAiConnection:
    """See :class:`babelcast.speech.interpreter.connection.Connection`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._resampler = soxr.ResampleStream(SPEECH_RATE, RATE, 1, dtype="float32", quality="HQ")
        self._leaving: asyncio.Task[None] | None = None
        self._goaway: GoAway | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def send(self, event: dict[str, Any]) -> None:
        try:
            await self._socket.send_str(json.dumps(event))
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise close_error(self._socket.close_code, str(error)) from error

    async def send_audio(self, pcm: bytes) -> None:
        samples = self._resampler.resample_chunk(from_s16le(pcm, channels=1))
        audio = base64.b64encode(to_s16le(np.asarray(samples, np.float32))).decode()
        await self.send({"type": "session.input_audio_buffer.append", "audio": audio})

    async def receive(self) -> list[Message]:
        found = messages_of(await self.receive_event())
        if self._goaway is not None:
            found.append(self._goaway)
            self._goaway = None
        return found

    async def receive_event(self) -> dict[str, Any]:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise close_error(self._socket.close_code, str(message.extra or ""))
        try:
            event = json.loads(message.data)
        except ValueError as error:
            raise SpeechUnavailableError("OpenAI Realtime sent what is no JSON", code="internal") from error
        if not isinstance(event, dict):
            raise SpeechUnavailableError("OpenAI Realtime sent what is no event", code="internal")
        return event

    def expires_at(self, unix_s: float) -> None:
        """Go away a minute before the session's end, by its own word."""
        left_s = unix_s - time.time() - _GOAWAY_S
        self._expiry = asyncio.get_running_loop().call_later(max(left_s, 0.0), self._expire)

    def _expire(self) -> None:
        self._goaway = GoAway(_GOAWAY_S)

    async def finish(self) -> bool:
        await self.send({"type": "session.close"})
        return True

    async def aclose(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name="openai leave")
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close()
        except Exception as error:
            log.debug("OpenAI Realtime connection left: %s", error)


def messages_of(event: dict[str, Any]) -> list[Message]:
    """What an event says to us. Raises SpeechError for an error that ends the session."""
    match event.get("type"):
        case "session.output_audio.delta":
            if event.get("format", "pcm16") != "pcm16" or event.get("channels", 1) != 1:
                raise SpeechError("OpenAI Realtime sends a format that we did not ask for", code="unsupported_format")
            try:
                pcm = base64.b64decode(event.get("delta") or "", validate=True)
            except ValueError as error:
                raise SpeechUnavailableError("OpenAI Realtime sent broken sound", code="internal") from error
            return [Sound(pcm, int(event.get("sample_rate") or RATE))]
        case "session.input_transcript.delta":
            return [Heard(str(event.get("delta") or ""))]
        case "session.output_transcript.delta":
            return [Said(str(event.get("delta") or ""))]
        case "session.closed":
            return [Ended()]
        case "error":
            final = event_error(event.get("error") or {})
            if final is not None:
                raise final
            log.warning("OpenAI Realtime: %s", (event.get("error") or {}).get("code"))
    return []


class OpenAiConnector:
    """See :class:`babelcast.speech.interpreter.connection.Connector`."""

    name = "openai-realtime"
    chunk_ms = 200

    def __init__(self, settings: OpenAiSettings) -> None:
        if not settings.api_key:
            raise ConfigError(
                "openai-realtime needs an API key",
                key="openai.api_key",
                hint="write ${OPENAI_API_KEY} there, or set OPENAI_API_KEY in the worker's environment",
            )
        if urlsplit(settings.base_url).scheme not in ("http", "https"):
            raise ConfigError("the address must begin with http:// or https://", key="openai.url")
        self._settings = settings
        self._http: aiohttp.ClientSession | None = None

    @property
    def price(self) -> Price:
        return self._settings.price

    async def connect(self, target: SpeechTarget, handle: str | None = None) -> OpenAiConnection:
        """``handle`` is not used: the protocol has no resumption."""
        async with AsyncExitStack() as stack:
            connection = OpenAiConnection(await self._socket())
            stack.push_async_callback(connection.aclose)
            await self._set_up(connection, target)
            stack.pop_all()
            return connection

    async def _socket(self) -> aiohttp.ClientWebSocketResponse:
        settings = self._settings
        if self._http is None:
            # trust_env: a proxy of the environment is used as everywhere else
            self._http = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {settings.api_key}"}, trust_env=settings.base_url == DEFAULT_URL
            )
        url = f"{settings.base_url.rstrip('/')}{_PATH}?{urlencode({'model': settings.model})}"
        try:
            return await self._http.ws_connect(
                url, ssl=settings.tls if settings.tls is not None else True, max_msg_size=_MAX_MESSAGE, compress=0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise status_error(error.status, error.message) from error
        except (aiohttp.ClientError, OSError) as error:
            raise SpeechUnavailableError(f"OpenAI Realtime can't be reached: {error}", code="internal") from error

    async def _set_up(self, connection: OpenAiConnection, target: SpeechTarget) -> None:
        audio = {
            "input": {"transcription": {"model": self._settings.transcription_model}, "noise_reduction": None},
            # the reference's languages have no regions
            "output": {"language": target.target_language.split("-")[0]},
        }
        await connection.send({"type": "session.update", "session": {"audio": audio}})
        while True:
            event = await connection.receive_event()
            match event.get("type"):
                case "session.created":
                    expires = (event.get("session") or {}).get("expires_at")
                    if isinstance(expires, int | float):
                        connection.expires_at(expires)
                case "session.updated":
                    return
                case "error":
                    # nothing is recoverable before the set-up: it would speak the wrong language
                    found = event.get("error") or {}
                    raise event_error(found) or SpeechError(
                        f"OpenAI Realtime: {found.get('message') or found.get('code')}", code="bad_request"
                    )

    async def aclose(self) -> None:
        if self._http:
            await self._http.close()
            self._http = None


def make_openai(
    settings: OpenAiSettings, *, interpreter: InterpreterSettings | None = None, clock: Clock | None = None
) -> InterpreterBackend:
    return InterpreterBackend(OpenAiConnector(settings), settings=interpreter, clock=clock)

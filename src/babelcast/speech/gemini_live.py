"""Gemini Live's translation as a speech backend, by the official SDK.

What the SDK does that must be known (seen by running 3.4.0 against a local server): it takes API version ``v1``
unless told; a proxy of the environment catches even loopback; leaving waits for unread messages unless the receive
queue has no bound (so this client never stops reading); ``connect`` waits for ever for ``setupComplete``;
``receive`` ends at a turn's end; what fails on receiving is an ``APIError`` with the close code, what fails on
sending is the WebSocket library's own error. Its pings are off: the service answers them after up to half a minute,
and :class:`babelcast.speech.interpreter.leg.Leg` watches the messages instead.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from babelcast.clock import Clock
from babelcast.errors import (
    ConfigError,
    MissingDependencyError,
    SpeechError,
    SpeechUnavailableError,
    UnsupportedLanguageError,
)
from babelcast.speech.base import SpeechTarget
from babelcast.speech.cost import GEMINI_LIVE, Price
from babelcast.speech.interpreter.connection import GoAway, Handle, Heard, Message, Said, Sound
from babelcast.speech.interpreter.session import InterpreterBackend
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.units import SPEECH_RATE

if TYPE_CHECKING:
    from google.genai import types
    from google.genai.live import AsyncSession

log = logging.getLogger(__name__)

DEFAULT_MODEL = "gemini-3.5-live-translate-preview"
DEFAULT_OUTPUT_RATE = 24_000
_API_VERSION = "v1beta"
_CLOSE_S = 0.4
_LEAVE_S = 0.8
_RATE = re.compile(r"rate=(\d+)")
_SECONDS = re.compile(r"([\d.]+)s?")


def close_error(code: int, reason: str, *, resuming: bool = False) -> SpeechError:
    """The error for a close code of the service, or an HTTP status of the handshake."""
    said = f"Gemini Live: {reason.strip() or 'no reason given'} ({code})"
    lower = reason.lower()
    if code == 1007 and resuming:
        return SpeechUnavailableError(f"{said}; the session can't be resumed", code="internal")
    if code in (1007, 1008, 400) and "language" in lower:
        return UnsupportedLanguageError(said, code="unsupported_language")
    if code in (401, 403) or (code in (1007, 1008, 400) and ("api key" in lower or "permission" in lower)):
        return SpeechError(said, code="unauthorized", hint="set gemini.api_key, or GEMINI_API_KEY in the environment")
    if code == 1008:
        return SpeechError(said, code="bad_request", hint="the model or a feature is refused: check gemini.model")
    if code in (1007, 400, 404):
        return SpeechError(said, code="bad_request")
    if code == 429 or "quota" in lower or "capacity" in lower or "exhausted" in lower:
        return SpeechUnavailableError(said, code="overloaded")
    if code == 1011 or (code >= 500 and code < 600):
        return SpeechUnavailableError(said, code="deadline" if "deadline" in lower else "engine_failed")
    return SpeechUnavailableError(said, code="internal")


def translated(error: BaseException, *, resuming: bool = False) -> SpeechError:
    """Any error of the SDK, the WebSocket library or the network as ours."""
    from google.genai import errors
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    if isinstance(error, SpeechError):
        return error
    if isinstance(error, errors.APIError):
        return close_error(int(error.code or 0), str(error.message or error.details or ""), resuming=resuming)
    if isinstance(error, ConnectionClosed):
        frame = error.rcvd
        return close_error(frame.code if frame else 1006, frame.reason if frame else "", resuming=resuming)
    if isinstance(error, InvalidStatus):
        return close_error(error.response.status_code, error.response.reason_phrase, resuming=resuming)
    kind = type(error).__name__
    return SpeechUnavailableError(f"Gemini Live can't be reached: {error or kind}", code="internal")


@dataclass(frozen=True, slots=True)
class GeminiSettings:
    """``base_url`` and ``tls`` are for tests: a server of our own with a certificate of our own."""

    api_key: str
    model: str = DEFAULT_MODEL
    echo: bool = True
    """Speech that is in the target language already is spoken as well; otherwise it would be missing on air."""
    base_url: str | None = None
    tls: ssl.SSLContext | None = None
    price: Price = GEMINI_LIVE


class GeminiConnection:
    """See :class:`babelcast.speech.interpreter.connection.Connection`."""

    def __init__(self, session: AsyncSession, stack: AsyncExitStack) -> None:
        from google.genai.types import Blob

        self._session = session
        self._stack = stack
        self._blob = Blob
        self._mime = f"audio/pcm;rate={SPEECH_RATE}"
        self._turn: AsyncIterator[types.LiveServerMessage] | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def send_audio(self, pcm: bytes) -> None:
        try:
            await self._session.send_realtime_input(audio=self._blob(data=pcm, mime_type=self._mime))
        except Exception as error:
            raise translated(error) from error

    async def receive(self) -> list[Message]:
        try:
            while True:
                if self._turn is None:
                    self._turn = self._session.receive()
                message = await anext(self._turn, None)
                if message is not None:
                    return messages_of(message)
                self._turn = None  # a turn's end; interpreters have none, but the connection lives on
        except Exception as error:
            raise translated(error) from error

    async def finish(self) -> bool:
        return False

    async def aclose(self) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name="gemini leave")
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._stack.aclose()
        except Exception as error:
            log.debug("Gemini Live connection left: %s", error)


def messages_of(message: types.LiveServerMessage) -> list[Message]:
    """What one message of the service says to us. Pictures, tools and turns are not for us."""
    found: list[Message] = []
    content = message.server_content
    if content is not None:
        if content.input_transcription and content.input_transcription.text:
            found.append(Heard(content.input_transcription.text))
        if content.output_transcription and content.output_transcription.text:
            found.append(Said(content.output_transcription.text))
        for part in (content.model_turn.parts or []) if content.model_turn else []:
            blob = part.inline_data
            if blob and blob.data and (blob.mime_type or "").startswith("audio/pcm"):
                rate = _RATE.search(blob.mime_type or "")
                found.append(Sound(blob.data, int(rate.group(1)) if rate else DEFAULT_OUTPUT_RATE))
    if message.go_away is not None:
        left = _SECONDS.fullmatch(message.go_away.time_left or "")
        found.append(GoAway(float(left.group(1)) if left else 0.0))
    update = message.session_resumption_update
    if update is not None:
        found.append(Handle(update.new_handle if update.resumable else None))
    return found


class GeminiConnector:
    """See :class:`babelcast.speech.interpreter.connection.Connector`. Raises MissingDependencyError without the SDK."""

    name = "gemini-live"
    chunk_ms = 100

    def __init__(self, settings: GeminiSettings) -> None:
        if not settings.api_key:
            raise ConfigError(
                "gemini-live needs an API key",
                key="gemini.api_key",
                hint="write ${GEMINI_API_KEY} there, or set GEMINI_API_KEY in the worker's environment",
            )
        self._settings = settings
        self._client = self._make_client()

    @property
    def price(self) -> Price:
        return self._settings.price

    def _make_client(self) -> Any:
        try:
            from google import genai
            from google.genai import types
        except ImportError as error:
            raise MissingDependencyError(
                "gemini-live needs the package google-genai", hint="pip install 'babelcast[gemini]'"
            ) from error
        # at the level debug it logs every header, and the key is one
        logging.getLogger("websockets.client").setLevel(logging.INFO)
        args: dict[str, Any] = {"ping_interval": None, "close_timeout": _CLOSE_S, "max_queue": None}
        if self._settings.tls is not None:
            args["ssl"] = self._settings.tls
        url = self._settings.base_url
        if url is not None:
            args["proxy"] = None  # a server that the config names is reached as it says
        options = types.HttpOptions(
            base_url=url.rstrip("/") if url else None, api_version=_API_VERSION, async_client_args=args
        )
        return genai.Client(api_key=self._settings.api_key, vertexai=False, http_options=options)

    def _config(self, target: SpeechTarget, handle: str | None) -> types.LiveConnectConfig:
        from google.genai import types

        return types.LiveConnectConfig(
            response_modalities=[types.Modality.AUDIO],
            translation_config=types.TranslationConfig(
                target_language_code=target.target_language, echo_target_language=self._settings.echo
            ),
            input_audio_transcription=types.AudioTranscriptionConfig(),
            output_audio_transcription=types.AudioTranscriptionConfig(),
            session_resumption=types.SessionResumptionConfig(handle=handle),
            context_window_compression=types.ContextWindowCompressionConfig(sliding_window=types.SlidingWindow()),
        )

    async def connect(self, target: SpeechTarget, handle: str | None = None) -> GeminiConnection:
        stack = AsyncExitStack()
        try:
            session = await stack.enter_async_context(
                self._client.aio.live.connect(model=self._settings.model, config=self._config(target, handle))
            )
        except Exception as error:
            raise translated(error, resuming=handle is not None) from error
        if session.setup_complete is None:
            await stack.aclose()
            raise SpeechUnavailableError("Gemini Live did not confirm the set-up", code="internal")
        return GeminiConnection(session, stack)

    async def aclose(self) -> None:
        await self._client.aio.aclose()


def make_gemini(
    settings: GeminiSettings, *, interpreter: InterpreterSettings | None = None, clock: Clock | None = None
) -> InterpreterBackend:
    return InterpreterBackend(GeminiConnector(settings), settings=interpreter, clock=clock)

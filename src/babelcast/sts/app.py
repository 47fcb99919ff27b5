"""The speech service's HTTP routes."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from babelcast import __version__
from babelcast.errors import BabelcastError, SpeechError
from babelcast.sts.problems import Problem, on_error, on_http_error, problem, responses
from babelcast.sts.service import Service
from babelcast.sts.stream import Stream, to_s16
from babelcast.units import Pcm
from babelcast.wire import (
    LANGUAGES_PATH,
    PROCESS_PATH,
    STREAM_PATH,
    VOICES_PATH,
    Language,
    ProcessRequest,
    ProcessResponse,
    Voice,
)

_DURATION_TOLERANCE_MS = 2.0

_EXAMPLE_IDS = {"fragment_id": "my-show-7", "stream_id": "my-show", "sequence_number": 7}
_EXAMPLE_FORMAT = {"duration_ms": 2, "sample_rate": 16_000, "channels": 1}
_REQUEST_EXAMPLE = {
    **_EXAMPLE_IDS,
    **_EXAMPLE_FORMAT,
    "audio": base64.b64encode(bytes(64)).decode(),
    "source_language": "en",
    "target_language": "es",
    "voice": "female",
}
_RESPONSE_EXAMPLE = {
    **_EXAMPLE_IDS,
    **_EXAMPLE_FORMAT,
    "audio": base64.b64encode(bytes(64)).decode(),
    "transcript": "good evening",
    "translation": "Buenas tardes,",
    "stages": {"vad_ms": 60.1, "asr_ms": 140.2, "mt_ms": 2.1, "tts_ms": 11.0, "fit_ms": 0.9, "total_ms": 214.3},
}


class Health(BaseModel):
    status: str
    version: str
    sessions: int
    max_sessions: int


def create_app(service: Service) -> FastAPI:
    """The application. It owns ``service``: loads its engine at the start, closes it at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.run(service.engine.preload)
            yield
        finally:
            await service.aclose()

    app = FastAPI(
        title="Babelcast speech service",
        version=__version__,
        description="Speech in one language in, speech in another out. The WebSocket is "
        f"`{STREAM_PATH}`; its messages are in docs/reference/sts-api.md.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        exception_handlers={BabelcastError: on_error, HTTPException: on_http_error},
    )
    _add_service_routes(app, service)
    _add_speech_routes(app, service)
    return app


def _add_service_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> Health:
        """Ready to take sessions."""
        return Health(
            status="ok",
            version=__version__,
            sessions=len(service.streams),
            max_sessions=service.limits.sessions,
        )

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(resources.files("babelcast.sts").joinpath("docs.html").read_text())


def _add_speech_routes(app: FastAPI, service: Service) -> None:
    async def authorized(request: Request) -> None:
        if not allowed(service, request.headers.get("authorization")):
            raise SpeechError("a bearer token is needed", code="unauthorized")

    guard = [Depends(authorized)]

    @app.get(LANGUAGES_PATH, dependencies=guard, responses=responses("unauthorized"))
    async def languages() -> list[Language]:
        """Pairs that can be dubbed."""
        return list(service.engine.languages)

    @app.get(VOICES_PATH, dependencies=guard, responses=responses("unauthorized"))
    async def voices(language: str | None = None) -> list[Voice]:
        """Voices, of one language or all."""
        found = service.engine.voices
        return [voice for voice in found if language is None or _speaks(voice, language)]

    @app.post(
        PROCESS_PATH,
        dependencies=guard,
        response_model=ProcessResponse,
        responses={
            200: {"content": {"application/json": {"example": _RESPONSE_EXAMPLE}}},
            413: {"model": Problem, "description": "Too large"},
            **responses(
                "bad_request", "unsupported_language", "overloaded", "unauthorized", "engine_failed", "deadline"
            ),
        },
        openapi_extra=_body_schema(),
    )
    async def process(request: Request) -> Response:
        """Dub one fragment. Stateless; the answer's audio is exactly as long as the fragment."""
        try:
            response = await _process(request, service)
        except BabelcastError as error:
            response = await on_error(request, error)
        service.metrics.requests.labels(str(response.status_code)).inc()
        return response

    @app.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        if not allowed(service, socket.headers.get("authorization")):
            await socket.send_denial_response(problem("unauthorized", "a bearer token is needed", retryable=False))
            return
        await socket.accept()
        await Stream(socket, service).run()


def allowed(service: Service, authorization: str | None) -> bool:
    if service.token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), service.token.encode())


async def _process(request: Request, service: Service) -> Response:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > service.limits.body_bytes:
            return problem("bad_request", "the body is too large", retryable=False, status=413)
    try:
        fragment = ProcessRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SpeechError(f"{place or 'body'}: {first['msg']}", code="bad_request") from error
    samples = fragment_samples(fragment)
    result = await service.turn(
        service.engine.process,
        samples,
        fragment.sample_rate,
        fragment.source_language,
        fragment.target_language,
        fragment.voice,
        fragment.sequence_number,
    )
    service.metrics.observe(result.stages)
    interleaved = np.repeat(result.samples, fragment.channels)
    answer = ProcessResponse(
        **fragment.model_dump(
            include={"fragment_id", "stream_id", "sequence_number", "duration_ms", "sample_rate", "channels"}
        ),
        audio=base64.b64encode(to_s16(interleaved)).decode(),
        transcript=result.transcript,
        translation=result.translation,
        stages=result.stages,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def fragment_samples(fragment: ProcessRequest) -> Pcm:
    """The fragment's sound as mono float32. Raises SpeechError where it is not what the fragment says."""
    try:
        pcm = base64.b64decode(fragment.audio, validate=True)
    except binascii.Error as error:
        raise SpeechError("audio is not base64", code="bad_request") from error
    if len(pcm) % (2 * fragment.channels):
        raise SpeechError("audio is not whole S16LE frames", code="bad_request")
    frames = len(pcm) // (2 * fragment.channels)
    if abs(frames * 1000 / fragment.sample_rate - fragment.duration_ms) > _DURATION_TOLERANCE_MS:
        raise SpeechError("audio is not as long as duration_ms", code="bad_request")
    samples = np.frombuffer(pcm, "<i2").reshape(frames, fragment.channels).astype(np.float32) / np.float32(32768)
    mono: Pcm = samples.mean(axis=1, dtype=np.float32)
    return mono


def _speaks(voice: Voice, language: str) -> bool:
    """``es`` finds every Spanish; ``es-419`` that one."""
    return voice.language == language.lower() or voice.language.split("-")[0] == language.lower()


def _body_schema() -> dict[str, Any]:
    content = {"schema": ProcessRequest.model_json_schema(), "example": _REQUEST_EXAMPLE}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}

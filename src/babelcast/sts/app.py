"""The speech service's HTTP routes."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from importlib import resources
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from babelcast import __version__
from babelcast.errors import BabelcastError, SpeechError, SpeechUnavailableError
from babelcast.sts.auth import Client, bearer
from babelcast.sts.engine import FragmentResult
from babelcast.sts.mt.base import primary
from babelcast.sts.problems import (
    described,
    of_error,
    on_bug,
    on_error,
    on_http_error,
    on_invalid,
    problem,
    responses,
)
from babelcast.sts.service import Service
from babelcast.sts.stream import Stream, to_s16
from babelcast.units import Pcm
from babelcast.wire import (
    LANGUAGES_PATH,
    PROCESS_PATH,
    SPEAK_PATH,
    STREAM_PATH,
    VOICES_PATH,
    Language,
    ProcessRequest,
    ProcessResponse,
    SpeakRequest,
    SpeakResponse,
    Voice,
)

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_DURATION_TOLERANCE_MS = 2.0
_LARGE = 1 << 20
"""Bytes from which on a body is parsed, or an answer made, in a thread."""

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
_SPEAK_EXAMPLE = {"text": "Bienvenidos al partido.", "language": "es", "voice": "female"}
_RESPONSE_EXAMPLE = {
    **_EXAMPLE_IDS,
    **_EXAMPLE_FORMAT,
    "audio": base64.b64encode(bytes(64)).decode(),
    "transcript": "good evening",
    "translation": "Buenas tardes,",
    "stages": {"vad_ms": 60.1, "asr_ms": 140.2, "mt_ms": 2.1, "tts_ms": 11.0, "fit_ms": 0.9, "total_ms": 214.3},
}


_BAD_PARAMETER: dict[int | str, dict[str, Any]] = {422: described("bad_request", 422, "Bad parameter")}
_WORK_PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: described("bad_request", 413, "Too large"),
    **responses(
        "bad_request",
        "unsupported_language",
        "rate_limited",
        "overloaded",
        "unauthorized",
        "engine_failed",
        "deadline",
    ),
}


class Health(BaseModel):
    status: str
    version: str
    sessions: int
    max_sessions: int


def create_app(
    service: Service,
    *,
    status_routes: Callable[[FastAPI], None] | None = None,
    beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> FastAPI:
    """The application. It owns ``service``: loads its engine at the start, closes it at the end.

    ``status_routes`` adds health and metrics, where there is more than this process to say; ``beside`` is entered once
    the engine is loaded.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.run(service.engine.preload)
            async with beside():
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
        exception_handlers={
            BabelcastError: on_error,
            HTTPException: on_http_error,
            RequestValidationError: on_invalid,
            Exception: on_bug,
        },
    )
    if status_routes:
        status_routes(app)
    else:
        _add_status_routes(app, service)
    _add_docs_route(app)
    _add_speech_routes(app, service)
    return app


def _add_status_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", responses={503: {"model": Health, "description": "Going away, or an engine hangs"}})
    async def healthz() -> Response:
        """Ready to take sessions; 503 once it goes away, or when an engine hangs."""
        health = _health(service)
        return JSONResponse(health.model_dump(), 200 if health.status == "ok" else 503)

    @app.post("/admin/drain", status_code=202, responses={**responses("unauthorized"), **_BAD_PARAMETER})
    async def drain(request: Request, deadline_s: Annotated[float, Query(gt=0, le=3_600)] = 25.0) -> Health:
        """Take no new sessions, ask those that there are to go, and end the process when all are gone, or at the
        deadline."""
        if not _may_drain(request, service):
            raise SpeechError("the admin token is needed", code="unauthorized")
        if not service.draining.is_set():
            service.drain_soon(deadline_s)
        return _health(service)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _health(service: Service) -> Health:
    return Health(
        status="draining" if service.draining.is_set() else "hung" if service.hangs else "ok",
        version=__version__,
        sessions=len(service.streams),
        max_sessions=service.limits.sessions,
    )


def _add_docs_route(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(resources.files("babelcast.sts").joinpath("docs.html").read_text())


def _may_drain(request: Request, service: Service) -> bool:
    """With an admin token who has it; without one, whoever is on this machine and not behind a proxy here."""
    if service.admin_token is not None:
        given = bearer(request.headers.get("authorization")) or ""
        return hmac.compare_digest(given.encode(), service.admin_token.encode())
    local = request.client is not None and request.client.host in {"127.0.0.1", "::1"}
    return local and "x-forwarded-for" not in request.headers and "forwarded" not in request.headers


def _add_speech_routes(app: FastAPI, service: Service) -> None:
    async def authorized(request: Request) -> None:
        request.state.client = client_of(service, request.headers.get("authorization"))

    guard = [Depends(authorized)]

    @app.get(LANGUAGES_PATH, dependencies=guard, responses=responses("unauthorized"))
    async def languages() -> list[Language]:
        """Pairs that can be dubbed."""
        return list(service.engine.languages)

    @app.get(VOICES_PATH, dependencies=guard, responses={**responses("unauthorized"), **_BAD_PARAMETER})
    async def voices(language: str | None = None) -> list[Voice]:
        """Voices, of one language or all."""
        found = service.engine.voices
        return [voice for voice in found if language is None or _speaks(voice, language)]

    @app.post(
        PROCESS_PATH,
        dependencies=guard,
        response_model=ProcessResponse,
        responses={200: {"content": {"application/json": {"example": _RESPONSE_EXAMPLE}}}, **_WORK_PROBLEMS},
        openapi_extra=_body_schema(ProcessRequest, _REQUEST_EXAMPLE),
    )
    async def process(request: Request) -> Response:
        """Dub one fragment. Stateless; the answer's audio is exactly as long as the fragment."""
        return await _answered(request, service, _process)

    @app.post(
        SPEAK_PATH,
        dependencies=guard,
        response_model=SpeakResponse,
        responses=_WORK_PROBLEMS,
        openapi_extra=_body_schema(SpeakRequest, _SPEAK_EXAMPLE),
    )
    async def speak(request: Request) -> Response:
        """Say a text as it is, without translation. Stateless; counts as one request."""
        return await _answered(request, service, _speak)

    @app.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        try:
            client = client_of(service, socket.headers.get("authorization"))
            service.check_open()
            if service.handshakes >= service.limits.handshakes:
                raise service.refuse("too many sockets have not begun their session", 1.0)
            client.check_session()
            client.check_start()
        except SpeechError as error:
            await socket.send_denial_response(of_error(error))
            return
        await socket.accept()
        await Stream(socket, service, client).run()


def client_of(service: Service, authorization: str | None) -> Client:
    """Raises SpeechError (``unauthorized``)."""
    client = service.clients.find(authorization)
    if client is None:
        raise SpeechError("a bearer token is needed", code="unauthorized")
    return client


async def _answered(
    request: Request, service: Service, work: Callable[[bytes, Service, Client], Awaitable[str]]
) -> Response:
    """What ``work`` makes of the request's body (JSON), within the limits of whose token it is."""
    client: Client = request.state.client
    response: Response
    try:
        client.check_start()
        with client.request():
            body = await _body(request, service)
            if body is None:
                response = problem("bad_request", "the body is too large", retryable=False, status=413)
            else:
                response = Response(await work(body, service, client), media_type="application/json")
    except BabelcastError as error:
        if isinstance(error, SpeechError) and error.code == "rate_limited":
            service.metrics.limited.labels(client.name).inc()
        response = of_error(error)
    service.metrics.requests.labels(str(response.status_code)).inc()
    return response


async def _speak(body: bytes, service: Service, client: Client) -> str:
    wanted = _parsed(SpeakRequest, body)
    said = await service.turn(service.engine.say, wanted.text, wanted.language, wanted.voice)
    seconds = len(said.samples) / said.rate
    service.metrics.observe(said.stages)
    service.metrics.spoken.labels(client.name, primary(wanted.language)).inc(seconds)
    answer = partial(
        SpeakResponse,
        language=wanted.language,
        voice=said.voice,
        sample_rate=said.rate,
        duration_ms=round(seconds * 1e3, 1),
        stages=said.stages,
    )
    return await _off_loop(said.samples.nbytes, lambda: answer(audio=_base64(said.samples)).model_dump_json())


async def _process(body: bytes, service: Service, client: Client) -> str:
    fragment, samples = await _off_loop(len(body), _fragment, body)
    service.engine.resolve_voice(fragment.source_language, fragment.target_language, fragment.voice)
    client.check_audio(fragment.duration_ms / 1e3)
    result = await service.turn(
        service.engine.process,
        samples,
        fragment.sample_rate,
        fragment.source_language,
        fragment.target_language,
        fragment.voice,
        fragment.sequence_number,
    )
    metrics = service.metrics
    metrics.observe(result.stages)
    metrics.audio.inc(fragment.duration_ms / 1e3)
    metrics.busy.inc(result.stages.total_ms / 1e3)
    metrics.heard.labels(client.name).inc(fragment.duration_ms / 1e3)
    if result.translation:
        metrics.spoken.labels(client.name, primary(fragment.target_language)).inc(fragment.duration_ms / 1e3)
    return await _off_loop(len(body), _answer, fragment, result)


async def _body(request: Request, service: Service) -> bytes | None:
    """The request's body; None where it is too large. Raises SpeechError where it does not come."""
    body = bytearray()
    try:
        async with asyncio.timeout(service.limits.body_s):
            async for part in request.stream():
                body += part
                if len(body) > service.limits.body_bytes:
                    return None
    except TimeoutError as error:
        raise SpeechUnavailableError("the request's body did not come in time", code="deadline") from error
    except ClientDisconnect as error:
        raise SpeechError("the client left", code="bad_request") from error
    return bytes(body)


async def _off_loop(size: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What takes longer than a few ms for a large body must not hold up the other sessions."""
    if size < _LARGE:
        return call(*args, **kwargs)
    return await asyncio.to_thread(call, *args, **kwargs)


def _fragment(body: bytes) -> tuple[ProcessRequest, Pcm]:
    fragment = _parsed(ProcessRequest, body)
    return fragment, fragment_samples(fragment)


def _parsed(kind: type[M], body: bytes) -> M:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SpeechError(f"{place or 'body'}: {first['msg']}", code="bad_request") from error


def _answer(fragment: ProcessRequest, result: FragmentResult) -> str:
    interleaved = np.repeat(result.samples, fragment.channels)
    answer = ProcessResponse(
        **fragment.model_dump(
            include={"fragment_id", "stream_id", "sequence_number", "duration_ms", "sample_rate", "channels"}
        ),
        audio=_base64(interleaved),
        transcript=result.transcript,
        translation=result.translation,
        stages=result.stages,
    )
    return answer.model_dump_json()


def _base64(samples: Pcm) -> str:
    return base64.b64encode(to_s16(samples)).decode()


def fragment_samples(fragment: ProcessRequest) -> Pcm:
    """The fragment's sound as mono float32. Raises SpeechError where it is not what the fragment says."""
    try:
        pcm = base64.b64decode(fragment.audio, validate=True)
    except ValueError as error:  # binascii.Error, and what is not ASCII
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
    return language.lower() in {voice.language, primary(voice.language)}


def _body_schema(kind: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": kind.model_json_schema(), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}

"""HTTP: aiohttp, because it hands a request's body on while it comes."""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import StreamReader, web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import from_json

from babelcast import problems
from babelcast.bridge.audio_endpoint.description import Cleared, Ok, Received, Said, openapi
from babelcast.bridge.audio_endpoint.endpoint import Endpoint
from babelcast.bridge.audio_endpoint.formats import ACCEPT_POST, ACCEPTED, UnsupportedFormat, format_of
from babelcast.bridge.audio_endpoint.listeners import Full, Stuck
from babelcast.bridge.audio_endpoint.metrics import AudioMetrics
from babelcast.bridge.audio_endpoint.producer import Replaced, Silent, Undecodable
from babelcast.bridge.audio_endpoint.settings import Mix
from babelcast.bridge.audio_endpoint.speech import Hushed
from babelcast.docs_page import docs_page
from babelcast.errors import BabelcastError, ConfigError, SpeechError, SpeechUnavailableError, why
from babelcast.hosts import names_this_machine, same_origin
from babelcast.wire import SpeakRequest

log = logging.getLogger(__name__)

_SEND_BUFFER = 64 << 10
"""Of a listener's socket in the kernel, which would take minutes of AAC before anybody sees that it is stuck."""
_LINGER_S = 1.0
_GRACE_S = 1.0
_JSON = 64 << 10
_OPEN_PATHS = {"/healthz", "/docs", "/openapi.json"}
_STATUS = {
    "bad_request": 422,
    "unsupported_language": 422,
    "unauthorized": 502,
    "overloaded": 503,
    "rate_limited": 429,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **members: object) -> web.Response:
    """See :func:`babelcast.problems.document`."""
    document = problems.document(status, detail, **members)
    return web.json_response(document, status=status, headers=headers, content_type=problems.MEDIA_TYPE)


def create_app(endpoint: Endpoint) -> web.Application:
    settings = endpoint.settings

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = _refusal(request, settings.token, settings.stream_token)
        if refused is not None:
            return refused
        try:
            return await handler(request)
        except web.HTTPException as error:
            allowed = error.headers.get("Allow")
            return problem(error.status, error.reason, {"Allow": allowed} if allowed else None)
        except BabelcastError as error:
            return _problem_of(error)
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            return problem(500, "something went wrong here; the log has it")

    app = web.Application(middlewares=[guard], client_max_size=_JSON)
    routes = _Routes(endpoint)
    app.router.add_get("/", routes.index)
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_post("/ingest", routes.ingest)
    app.router.add_put("/ingest", routes.ingest)
    app.router.add_get("/stream", routes.stream, allow_head=False)
    app.router.add_post("/say", routes.say)
    app.router.add_delete("/say", routes.hush)
    app.router.add_get("/mix", routes.mix)
    app.router.add_patch("/mix", routes.change_mix)
    app.router.add_get("/status", routes.status)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_get("/openapi.json", routes.openapi)
    app.router.add_get("/docs", routes.docs)
    return app


class _Routes:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._metrics = AudioMetrics(endpoint.status)

    async def index(self, request: web.Request) -> web.Response:
        lines = ["Babelcast audio endpoint", ""]
        for resource in request.app.router.resources():
            methods = sorted({route.method for route in resource if route.method != "HEAD"})
            lines.append(f"{', '.join(methods):14}{resource.canonical}")
        return web.Response(text="\n".join([*lines, "", "/ingest takes:", *ACCEPTED, ""]))

    async def healthz(self, request: web.Request) -> web.Response:
        return _answer(Ok())

    async def ingest(self, request: web.Request) -> web.Response:
        try:
            form = format_of(request.headers.get("Content-Type"))
        except UnsupportedFormat as error:
            return problem(415, str(error), {"Accept-Post": ACCEPT_POST}, accepted=list(ACCEPTED))
        live, content = request.content_length is None, request.content
        try:
            body = _bytes(content.read_nowait(), content)
            count = await self._endpoint.ingest(form, body, live=live, whole=content.is_eof)
        except ConnectionResetError:
            return problem(400, "the producer vanished")
        return _answer(Received(received_bytes=count, content_type=form.name))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "audio/aac", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        transport = request.transport
        sock = transport.get_extra_info("socket") if transport else None
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        with self._endpoint.listeners.place():
            try:
                with contextlib.suppress(ConnectionResetError):
                    await response.prepare(request)
                    await self._endpoint.listeners.follow(response.write)
            except Stuck as error:
                log.warning("a listener is dropped: %s", error)
                if transport is not None:
                    transport.abort()
        return response

    async def say(self, request: web.Request) -> web.Response:
        try:
            wanted = SpeakRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return _invalid(error)
        starts_s, length_s = await self._endpoint.speaker.say(wanted)
        return _answer(Said(starts_in_s=round(starts_s, 3), duration_s=round(length_s, 3)), 202)

    async def hush(self, request: web.Request) -> web.Response:
        return _answer(Cleared(cleared=self._endpoint.speaker.hush()))

    async def mix(self, request: web.Request) -> web.Response:
        return _answer(self._endpoint.mixer.mix)

    async def change_mix(self, request: web.Request) -> web.Response:
        """JSON merge patch (RFC 7396), but that null is the default."""
        try:
            changes = from_json(await request.read())  # not json: what is nested too deep is a ValueError here
            if not isinstance(changes, dict):
                raise ValueError
        except ValueError:
            return problem(422, "the body must be a JSON object with some of the controls")
        before = self._endpoint.mixer.mix.model_dump()
        try:
            mix = Mix.model_validate(_merged(before, changes))
        except ValidationError as error:
            return _invalid(error)
        self._endpoint.mixer.mix = mix
        log.info("mix changed: %s", ", ".join(sorted(changes)))
        return _answer(mix)

    async def status(self, request: web.Request) -> web.Response:
        return _answer(self._endpoint.status())

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(openapi(self._endpoint.settings))

    async def docs(self, request: web.Request) -> web.Response:
        return web.Response(text=docs_page(openapi(self._endpoint.settings)), content_type="text/html")


def _answer(document: BaseModel, status: int = 200) -> web.Response:
    return web.json_response(text=document.model_dump_json(), status=status)


def _merged(before: dict[str, object], changes: dict[str, object]) -> dict[str, object]:
    found = dict(before)
    for name, value in changes.items():
        inner = found.get(name)
        if value is None:
            found.pop(name, None)
        elif isinstance(inner, dict) and isinstance(value, dict):
            found[name] = _merged(inner, value)
        else:
            found[name] = value
    return found


async def _bytes(first: bytes, rest: StreamReader) -> AsyncIterator[bytes]:
    """``first`` is what had come with the request: it is gone when the sender is before anybody reads on."""
    if first:
        yield first
    if not rest.at_eof():
        async for chunk in rest.iter_any():
            yield chunk


def _invalid(error: ValidationError) -> web.Response:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem(422, f"{place}: {first['msg']}" if place else first["msg"])


def _problem_of(error: BabelcastError) -> web.Response:
    if isinstance(error, Undecodable):
        return problem(422, str(error))
    if isinstance(error, Replaced | Hushed):
        return problem(409, str(error))
    if isinstance(error, Silent):
        return problem(408, str(error))
    if isinstance(error, Full):
        return problem(503, str(error), {"Retry-After": "5"})
    if isinstance(error, SpeechError):
        wait_s = error.retry_after_s if isinstance(error, SpeechUnavailableError) else None
        headers = {"Retry-After": str(max(1, round(wait_s)))} if wait_s else None
        return problem(_STATUS.get(error.code, 503 if error.retryable else 502), str(error), headers)
    return problem(503 if error.retryable else 500, str(error))


def _refusal(request: web.Request, token: SecretStr | None, stream_token: SecretStr | None) -> web.Response | None:
    """Without a token the endpoint is for this machine, and must be called by its name: a web page that points a name
    of its own at 127.0.0.1 is refused, and so is one of another origin that would change something."""
    origin = request.headers.get("Origin")
    if request.method != "GET" and origin is not None and not same_origin(origin, request.headers.get("Host")):
        return problem(403, "pages of another origin may not change anything here")
    if request.path in _OPEN_PATHS:
        return None
    if token is None and not names_this_machine(request.headers.get("Host")):
        return problem(403, "call it as 127.0.0.1 or localhost, or set AUDIO_TOKEN")
    needed = stream_token if request.path == "/stream" else token
    if needed is None or _holds(request, needed):
        return None
    return problem(401, "a token is needed: as bearer, or as ?token=", {"WWW-Authenticate": "Bearer"})


def _holds(request: web.Request, token: SecretStr) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    given = given.strip() if scheme.lower() == "bearer" else request.query.get("token", "")
    return hmac.compare_digest(given.encode(), token.get_secret_value().encode())


@contextlib.asynccontextmanager
async def serving(endpoint: Endpoint, host: str, port: int) -> AsyncIterator[int]:
    """Serves ``endpoint``; gives the port. ConfigError where the address can't be had."""
    runner = web.AppRunner(
        create_app(endpoint),
        access_log=None,
        handler_cancellation=True,  # who goes away ends what was done for them
        shutdown_timeout=_GRACE_S,
        lingering_time=_LINGER_S,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=512).start()
        except OSError as error:
            raise ConfigError(
                f"can't listen on {host}:{port}: {why(error)}",
                key="AUDIO_PORT",
                hint="another program may be using the port; choose another one, or 0 for a free one",
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()

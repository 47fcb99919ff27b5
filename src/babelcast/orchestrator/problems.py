"""An API of ours: its errors are problem details (RFC 9457), its documentation needs no internet connection, and it
answers to those who may call it. The orchestrator's and the media bridge's."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from babelcast import __version__
from babelcast.docs_page import docs_page
from babelcast.errors import BabelcastError
from babelcast.hosts import LOOPBACK, names_this_machine, same_origin
from babelcast.orchestrator.login import COOKIE, SESSION_PATH, Login
from babelcast.preview.settings import API as PREVIEW_API
from babelcast.preview.settings import PAGE as PREVIEW_PAGE
from babelcast.problems import MEDIA_TYPE, described, document

log = logging.getLogger(__name__)

EVENTS_PREFIX = "/v1/media/events/"
MAX_BODY = 64 * 1024
_OPEN_PATHS = {"/healthz", "/docs", "/openapi.json", "/", "/favicon.ico", SESSION_PATH}
_OPEN_PREFIXES = ("/console/",)
"""The operator's page itself: it holds nothing but how to ask."""
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def create_api(title: str, description: str, token: SecretStr | None, view_token: SecretStr | None = None) -> FastAPI:
    """An application without routes, but for ``/docs`` and ``/openapi.json``. ``token``: see :func:`install`."""
    app = FastAPI(
        title=title,
        version=__version__,
        description=description,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": described()},
        # said to tools; who may pass is decided below, before a request is routed
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token is not None else None,
    )
    install(app, token, view_token)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    return app


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **members: Any) -> JSONResponse:
    """See :func:`babelcast.problems.document`."""
    return JSONResponse(document(status, detail, **members), status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI, token: SecretStr | None, view_token: SecretStr | None = None) -> None:
    """Make every error of ``app`` a problem, and check every request before it is routed: it carries ``token`` or the
    cookie of a login with it. ``view_token`` opens previews and nothing else."""
    login = Login(token) if token is not None else None

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers) if error.headers else None
        return problem(error.status_code, str(error.detail), headers=headers, instance=request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        # the values are left out: a query may hold a publisher's password
        errors = [{"at": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in error.errors()]
        detail = "; ".join(f"{each['at']}: {each['message']}" for each in errors)
        return problem(422, detail, instance=request.url.path, errors=errors)

    @app.exception_handler(BabelcastError)
    async def _ours(request: Request, error: BabelcastError) -> Response:
        return problem(503 if error.retryable else 500, str(error), instance=request.url.path)

    @app.middleware("http")
    async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.may_view = login is None or login.is_session(request.cookies.get(COOKIE))
        refused = _refusal(request, login, view_token)
        if refused is not None:
            return refused
        try:
            return await call_next(request)
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.url.path)
            return problem(500, "something went wrong here; the log has it", instance=request.url.path)


def _refusal(request: Request, login: Login | None, view_token: SecretStr | None) -> Response | None:
    by_cookie = False
    if login is None:
        refused = _foreign(request)
        if refused is not None:
            return refused
    elif not (_may_pass(request, login) or _may_view(request, view_token)):
        by_cookie = login.is_session(request.cookies.get(COOKIE))
        if not by_cookie:
            return problem(
                401, "the API's token is needed, as a bearer or by a login", headers={"WWW-Authenticate": "Bearer"}
            )
    if request.method not in _SAFE_METHODS:
        origin = request.headers.get("origin")
        if origin is None and by_cookie:  # browsers send it; without one it can't be told whose page asks
            return problem(403, "a request with a cookie must say its origin")
        if origin is not None and not same_origin(origin, request.headers.get("host")):
            return problem(403, "pages of another origin may not change anything here")
        return _oversized(request)
    return None


def _foreign(request: Request) -> Response | None:
    """Without a token the API is for this machine, so it must have been called by its name: a web page that
    points a name of its own at 127.0.0.1 is refused."""
    if names_this_machine(request.headers.get("host")):
        return None
    return problem(403, "call it as 127.0.0.1 or localhost, or set api_token")


def _may_pass(request: Request, login: Login) -> bool:
    path = request.url.path
    if path in _OPEN_PATHS or path.startswith(_OPEN_PREFIXES):
        return True
    if path.startswith(EVENTS_PREFIX) and request.client is not None and request.client.host in LOOPBACK:
        return True  # hooks of a media server on this machine; events are hints and tell nothing
    return login.is_token(_bearer(request))


def _may_view(request: Request, view_token: SecretStr | None) -> bool:
    """The preview's page is open: it shows nothing before its own requests are let through."""
    path = request.url.path
    if request.method in _SAFE_METHODS and (path == PREVIEW_PAGE or path.startswith(f"{PREVIEW_PAGE}/")):
        return True
    if view_token is None or not path.startswith(f"{PREVIEW_API}/"):
        return False
    return hmac.compare_digest(_bearer(request).encode(), view_token.get_secret_value().encode())


def _bearer(request: Request) -> str:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" else ""


def _oversized(request: Request) -> Response | None:
    if "transfer-encoding" in request.headers:
        return problem(411, "say how long the body is")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return problem(413, f"the body may have {MAX_BODY} bytes")
    return None

"""Errors of the REST API as problem details (RFC 9457)."""

from __future__ import annotations

import math
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from babelcast import problems
from babelcast.errors import BabelcastError, SpeechUnavailableError
from babelcast.sts.stream import error_code
from babelcast.wire import ErrorCode

_STATUS: dict[ErrorCode, tuple[int, str]] = {
    "bad_request": (400, "Bad request"),
    "unsupported_language": (422, "Unsupported language"),
    "unsupported_format": (415, "Unsupported format"),
    "overloaded": (503, "Overloaded"),
    "unauthorized": (401, "Unauthorized"),
    "engine_failed": (502, "Engine failed"),
    "deadline": (504, "Deadline passed"),
    "internal": (500, "Internal error"),
    "rate_limited": (429, "Too many requests"),
}
_RETRYABLE = {"overloaded", "rate_limited", "engine_failed", "deadline", "internal"}
_EXAMPLES: dict[ErrorCode, str] = {
    "bad_request": "audio is not as long as duration_ms",
    "unsupported_language": "speech can't be dubbed from en to fi here (installed: en to ca, en to es)",
    "overloaded": "too many fragments wait already",
    "unauthorized": "a bearer token is needed",
    "rate_limited": "more than 5 requests a second",
    "deadline": "the fragment took too long",
}
_RETRY_S = {"overloaded": 1.0, "rate_limited": 1.0}


class Problem(problems.Problem):
    """``code`` is the wire protocol's; ``retryable`` says whether the same request may work later."""

    code: ErrorCode
    retryable: bool


def problem(
    code: ErrorCode, detail: str, *, retryable: bool, status: int | None = None, retry_after_s: float | None = None
) -> JSONResponse:
    default, title = _STATUS[code]
    body = Problem(
        type=f"urn:babelcast:problem:{code}",
        title=title,
        status=status or default,
        detail=detail,
        code=code,
        retryable=retryable,
    )
    headers = {}
    wait_s = retry_after_s or _RETRY_S.get(code)
    if wait_s:
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    if code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(exclude_none=True), body.status, headers, problems.MEDIA_TYPE)


def of_error(error: BabelcastError) -> JSONResponse:
    retry_s = error.retry_after_s if isinstance(error, SpeechUnavailableError) else None
    return problem(error_code(error), str(error), retryable=error.retryable, retry_after_s=retry_s)


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for BabelcastError."""
    assert isinstance(error, BabelcastError)
    return of_error(error)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for what the framework refuses (404, 405)."""
    status = getattr(error, "status_code", 500)
    answer = problem("bad_request", str(getattr(error, "detail", error)), retryable=False, status=status)
    answer.headers.update(getattr(error, "headers", None) or {})  # 405 names what is allowed
    return answer


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for parameters that are not what the route takes."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem("bad_request", f"{place}: {first['msg']}", retryable=False, status=422)


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for the rest; the server logs it."""
    return problem("internal", "internal error", retryable=True)


def responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of these problems."""
    return {_STATUS[code][0]: described(code, _STATUS[code][0], _STATUS[code][1]) for code in codes}


def described(code: ErrorCode, status: int, title: str) -> dict[str, Any]:
    """One answer's OpenAPI description, with an example."""
    example = Problem(
        type=f"urn:babelcast:problem:{code}",
        title=_STATUS[code][1],
        status=status,
        detail=_EXAMPLES.get(code, title.lower()),
        code=code,
        retryable=code in _RETRYABLE,
    )
    content = {"schema": Problem.model_json_schema(), "example": example.model_dump(exclude_none=True)}
    return {"description": title, "content": {problems.MEDIA_TYPE: content}}

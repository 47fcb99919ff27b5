"""Errors of the REST API as problem details (RFC 9457)."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from babelcast.errors import BabelcastError
from babelcast.sts.stream import error_code
from babelcast.wire import ErrorCode

MEDIA_TYPE = "application/problem+json"
_STATUS: dict[ErrorCode, tuple[int, str]] = {
    "bad_request": (400, "Bad request"),
    "unsupported_language": (422, "Unsupported language"),
    "unsupported_format": (415, "Unsupported format"),
    "overloaded": (503, "Overloaded"),
    "unauthorized": (401, "Unauthorized"),
    "engine_failed": (502, "Engine failed"),
    "deadline": (504, "Deadline passed"),
    "internal": (500, "Internal error"),
}


class Problem(BaseModel):
    """``code`` is the wire protocol's; ``retryable`` says whether the same request may work later."""

    type: str
    title: str
    status: int
    detail: str
    code: ErrorCode
    retryable: bool


def problem(code: ErrorCode, detail: str, *, retryable: bool, status: int | None = None) -> JSONResponse:
    default, title = _STATUS[code]
    body = Problem(
        type=f"urn:babelcast:problem:{code}",
        title=title,
        status=status or default,
        detail=detail,
        code=code,
        retryable=retryable,
    )
    headers = {"Retry-After": "1"} if code == "overloaded" else {}
    if code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), body.status, headers, MEDIA_TYPE)


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for BabelcastError."""
    assert isinstance(error, BabelcastError)
    return problem(error_code(error), str(error), retryable=error.retryable)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for what the framework refuses (404, 405)."""
    status = getattr(error, "status_code", 500)
    return problem("bad_request", str(getattr(error, "detail", error)), retryable=False, status=status)


def responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of these problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        _STATUS[code][0]: {"description": _STATUS[code][1], "content": {MEDIA_TYPE: {"schema": schema}}}
        for code in codes
    }

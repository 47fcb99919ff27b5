"""Errors as problem details (RFC 9457), the same in every API of ours."""

from __future__ import annotations

import http
from typing import Any

from pydantic import BaseModel

from babelcast.telemetry.redact import redact

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every error is answered with. ``errors``: of a request that is not valid, one for each fault."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[dict[str, str]] | None = None


def described(schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """For the OpenAPI description of an operation: the answer to whatever went wrong."""
    content = {MEDIA_TYPE: {"schema": schema or Problem.model_json_schema()}}
    return {"description": "A problem (RFC 9457)", "content": content}


def document(status: int, detail: str, **members: Any) -> dict[str, Any]:
    """A problem with the status' own phrase as title. URLs in ``detail`` lose their secrets."""
    title = http.HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": redact(detail), **members}

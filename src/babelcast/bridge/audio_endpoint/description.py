"""The OpenAPI description of the endpoint: its server (aiohttp, for bodies that are heard as they come) makes none."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from babelcast import __version__
from babelcast.bridge.audio_endpoint.endpoint import AudioStatus
from babelcast.bridge.audio_endpoint.formats import ACCEPT_POST
from babelcast.bridge.audio_endpoint.settings import AudioSettings, Mix
from babelcast.problems import Problem, described
from babelcast.wire import SpeakRequest


class Ok(BaseModel):
    status: Literal["ok"] = "ok"


class Received(BaseModel):
    """``content_type`` as it was understood."""

    received_bytes: int
    content_type: str


class Said(BaseModel):
    starts_in_s: float
    duration_s: float


class Cleared(BaseModel):
    """How many texts will not be heard."""

    cleared: int


_JSON = "application/json"
_MODELS = (AudioStatus, Cleared, Mix, Ok, Problem, Received, Said, SpeakRequest)
_DESCRIPTION = (
    "Sound and text in, one endless AAC stream out. A token may also be given as ?token=. PATCH /mix is a merge patch: "
    "what is absent stays, null is the default."
)


def openapi(settings: AudioSettings) -> dict[str, Any]:
    """``paths`` are those of :func:`babelcast.bridge.audio_endpoint.api.create_app`."""
    _, made = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    ingest = _operation("Sound that is played while it comes", Received, _bodies(), tag="producers")
    say = _operation("A text to be said over the bed", Said, _body(SpeakRequest), status=202, tag="producers")
    paths: dict[str, Any] = {
        "/ingest": {"post": ingest, "put": ingest},
        "/say": {
            "post": say,
            "delete": _operation("End what is said, and forget what waits", Cleared, tag="producers"),
        },
        "/stream": {"get": _operation("AAC (ADTS) without an end", None, content={"audio/aac": {}}, tag="listeners")},
        "/mix": {
            "get": _operation("Gains, mutes and ducking", Mix),
            "patch": _operation("Change some of them, without a click", Mix, _body(Mix)),
        },
        "/status": {"get": _operation("Producer, queue, levels, listeners, mix", AudioStatus)},
        "/metrics": {"get": _operation("Prometheus metrics", None, content={"text/plain": {}})},
        "/healthz": {"get": _operation("Answers 200 while it runs", Ok)},
    }
    found = {
        "openapi": "3.1.0",
        "info": {"title": "Babelcast audio endpoint", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": made["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}] if settings.token is not None else [],
    }
    paths["/healthz"]["get"]["security"] = []
    paths["/stream"]["get"]["security"] = [{"bearer": []}] if settings.stream_token is not None else []
    return found


def _operation(
    summary: str,
    answer: type[BaseModel] | None,
    body: dict[str, Any] | None = None,
    *,
    status: int = 200,
    content: dict[str, Any] | None = None,
    tag: str = "endpoint",
) -> dict[str, Any]:
    if answer is not None:
        content = {_JSON: {"schema": _ref(answer)}}
    responses = {str(status): {"description": "Done", "content": content}, "default": described(_ref(Problem))}
    found = {"summary": summary, "tags": [tag], "responses": responses}
    return found if body is None else found | {"requestBody": body}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": _ref(model)}}}


def _bodies() -> dict[str, Any]:
    return {"required": True, "content": {name: {} for name in ACCEPT_POST.split(", ")}}

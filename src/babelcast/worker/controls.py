"""What an operator changes on air: checked, counted, put into force; and its two requests on the status server.

``GET /controls`` shows them, ``PATCH /controls`` changes some, ``PUT /controls`` sets all with the revision that they
have elsewhere (the orchestrator keeps them over a worker's life). Nothing is restarted, and every change of sound is
a crossfade of the mixer's.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from pydantic import ValidationError

from babelcast.errors import BabelcastError
from babelcast.spec import Controls, ControlsPatch


class ControlsError(BabelcastError):
    """``status`` is the HTTP status that says it: 409 not possible now, 412 another revision, 422 not valid."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ControlDesk:
    """The controls in force. ``apply`` brings others into force and raises ControlsError where it can't."""

    def __init__(self, controls: Controls, apply: Callable[[Controls], None]) -> None:
        self.controls = controls
        self._apply = apply

    def patch(self, patch: ControlsPatch, revision: int | None = None) -> Controls:
        """Change what ``patch`` names; ``revision`` is the one that the caller knows, None for any."""
        if revision is not None and revision != self.controls.revision:
            raise ControlsError(f"the controls are at revision {self.controls.revision}, not {revision}", 412)
        try:
            changed = self.controls.patched(patch)
        except ValidationError as error:
            raise ControlsError(sentence(error), 422) from error
        return self.put(changed.model_copy(update={"revision": self.controls.revision + 1}))

    def put(self, controls: Controls) -> Controls:
        self._apply(controls)
        self.controls = controls
        return controls


def routes(desk: ControlDesk) -> list[web.RouteDef]:
    async def show(_request: web.Request) -> web.Response:
        return _answer(desk.controls)

    async def patch(request: web.Request) -> web.Response:
        try:
            wanted = ControlsPatch.model_validate_json(await request.read())
            return _answer(desk.patch(wanted, _revision(request.headers.get("If-Match"))))
        except ValidationError as error:
            return _problem(422, sentence(error))
        except ControlsError as error:
            return _problem(error.status, str(error))

    async def put(request: web.Request) -> web.Response:
        try:
            return _answer(desk.put(Controls.model_validate_json(await request.read())))
        except ValidationError as error:
            return _problem(422, sentence(error))
        except ControlsError as error:
            return _problem(error.status, str(error))

    return [web.get("/controls", show), web.patch("/controls", patch), web.put("/controls", put)]


def sentence(error: ValidationError) -> str:
    """The first thing that is wrong, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _revision(if_match: str | None) -> int | None:
    """Of an ``If-Match`` header; None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdigit():
        raise ControlsError(f"If-Match names no revision: {if_match[:40]}", 412)
    return int(text)


def _answer(controls: Controls) -> web.Response:
    headers = {"ETag": f'"{controls.revision}"'}
    return web.Response(text=controls.model_dump_json(), content_type="application/json", headers=headers)


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response(
        {"type": "about:blank", "status": status, "detail": detail},
        status=status,
        content_type="application/problem+json",
    )

"""What an operator changes on air: checked, counted, put into force; and its two requests on the status server.

``GET /controls`` shows them, ``PATCH /controls`` changes some, ``PUT /controls`` sets all with the revision that they
have elsewhere (the orchestrator keeps them over a worker's life). Nothing is restarted, and every change of sound is
a crossfade of the mixer's.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from pydantic import ValidationError

from babelcast import problems
from babelcast.errors import ControlsError
from babelcast.spec import Controls, ControlsPatch, revision_of, sentence_of


class ControlDesk:
    """The controls in force. ``apply`` brings others into force and raises ControlsError where it can't."""

    def __init__(self, controls: Controls, apply: Callable[[Controls], None]) -> None:
        self.controls = controls
        self._apply = apply

    def patch(self, patch: ControlsPatch, revision: int | None = None) -> Controls:
        """Change what ``patch`` names; ``revision`` is the one that the caller knows, None for any. Raises
        ControlsError."""
        self.controls.expect(revision)
        changed = self.controls.patched(patch)
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
            return _answer(desk.patch(wanted, revision_of(request.headers.get("If-Match"))))
        except ValidationError as error:
            return _problem(422, sentence_of(error))
        except ControlsError as error:
            return _problem(error.status, str(error))

    async def put(request: web.Request) -> web.Response:
        try:
            return _answer(desk.put(Controls.model_validate_json(await request.read())))
        except ValidationError as error:
            return _problem(422, sentence_of(error))
        except ControlsError as error:
            return _problem(error.status, str(error))

    return [web.get("/controls", show), web.patch("/controls", patch), web.put("/controls", put)]


def _answer(controls: Controls) -> web.Response:
    headers = {"ETag": f'"{controls.revision}"'}
    return web.Response(text=controls.model_dump_json(), content_type="application/json", headers=headers)


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response(problems.document(status, detail), status=status, content_type=problems.MEDIA_TYPE)

"""What an API mounts to have a preview: the page, WHEP (draft-ietf-wish-whep) and the state of a path."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Literal, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.background import BackgroundTask

from babelcast.errors import BabelcastError, MissingDependencyError, PreviewError
from babelcast.preview import whep
from babelcast.preview.process import PreviewProcess
from babelcast.preview.settings import API, PAGE, PreviewSettings
from babelcast.telemetry.redact import redact

ANY_PATH = r"[a-z0-9][A-Za-z0-9/_.-]{0,199}"
_ASSETS = {"preview.js": "text/javascript", "player.js": "text/javascript", "preview.css": "text/css"}
AnyPath = Annotated[str, Path(pattern=f"^{ANY_PATH}$", description="live/ID/in, live/ID/out[/LANGUAGE] or bridge")]
_T = TypeVar("_T")
Session = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path can be played (RTMP); None while nothing is published there. ``whep_url``: where MediaMTX sends it
    by WHEP itself, with pictures and sound."""

    url: str | None
    whep_url: str | None = None


class Paths(Protocol):
    """Implemented by orchestrator.preview.ServerPaths and bridge.preview.FeedPath."""

    async def find(self, path: str) -> Found | None:
        """None for what can't be a path here. Raises BabelcastError where the media server does not answer."""
        ...


class IceServerView(BaseModel):
    model_config = ConfigDict(extra="allow")
    urls: tuple[str, ...]


class PreviewView(BaseModel):
    """A path as the page asks for it. Asking has it played for some seconds, so that a picture is there at once."""

    path: str
    state: Literal["offline", "connecting", "live"]
    via: Literal["babelcast", "mediamtx"]
    pictures: Literal["none", "passthrough", "reencoded", "unsupported"] | None
    """None where MediaMTX sends them."""
    sound: bool | None
    viewers: int
    dropped: int
    error: str | None
    ice_servers: list[IceServerView]


def preview_router(
    process: PreviewProcess,
    paths: Paths,
    http: aiohttp.ClientSession,
    settings: PreviewSettings,
    *,
    default: bool = False,
) -> APIRouter:
    """``http`` is for MediaMTX's WHEP. ``default``: the page is also there without a path, for an
    API that has one path alone."""
    router = APIRouter(tags=["preview"])
    desk = _Desk(process, paths, http, settings)
    _mount_page(router, desk, settings, default)
    _mount_api(router, desk)
    return router


class _Desk:
    """Decides who shows a path, and asks them."""

    def __init__(
        self, process: PreviewProcess, paths: Paths, http: aiohttp.ClientSession, settings: PreviewSettings
    ) -> None:
        self._process = process
        self._paths = paths
        self._http = http
        self._ice = [each.for_browser() for each in settings.ice_servers]

    async def view(self, path: str) -> PreviewView:
        found = await self._find(path)
        view = PreviewView(
            path=path,
            state="offline",
            via="mediamtx" if found.whep_url else "babelcast",
            pictures=None,
            sound=None,
            viewers=0,
            dropped=0,
            error=None,
            ice_servers=[IceServerView.model_validate(each) for each in self._ice],
        )
        if found.whep_url:
            return view.model_copy(update={"state": "live"})
        if found.url is None:
            return view
        status = await self._process.watch(path, found.url)
        return view.model_copy(update=status.model_dump(exclude={"path"}))

    def expect(self) -> None:
        """Somebody will ask in a moment."""
        self._process.warm()

    async def expect_of(self, path: str) -> None:
        """As much, and what will be asked for. The page says what is wrong."""
        with contextlib.suppress(BabelcastError, HTTPException):
            await self.view(path)

    async def offer(self, path: str, sdp: str) -> tuple[str, str]:
        """(session, answer). Raises PreviewError and other BabelcastErrors."""
        found = await self._find(path)
        if found.whep_url:
            upstream = await whep.offer(self._http, found.whep_url, sdp)
            if upstream is not None:
                return upstream.session, upstream.sdp
        if found.url is None:
            raise PreviewError("nothing is published there now", 404)
        answer = await self._process.offer(path, found.url, sdp)
        return answer.id, answer.sdp

    async def end(self, path: str, session: str) -> None:
        if not session.startswith(whep.PREFIX):
            await self._process.end(session)
            return
        found = await self._find(path)
        if found.whep_url:
            await whep.end(self._http, found.whep_url, session)

    def ice_links(self) -> list[str]:
        """Link headers as WHEP has them."""
        links: list[str] = []
        for server in self._ice:
            more = ""
            if "username" in server:
                user, password = json.dumps(server["username"]), json.dumps(server.get("credential", ""))
                more = f'; username={user}; credential={password}; credential-type="password"'
            urls = server["urls"]
            assert isinstance(urls, list | tuple)
            links += [f'<{url}>; rel="ice-server"{more}' for url in urls]
        return links

    async def _find(self, path: str) -> Found:
        found = await self._paths.find(path)
        if found is None:
            raise PreviewError("there is no such path: it is live/ID/in, live/ID/out or live/ID/out/LANGUAGE", 404)
        return found


def _mount_api(router: APIRouter, desk: _Desk) -> None:
    @router.get(API + "/{path:path}", summary="What is shown of a path; has it played for some seconds")
    async def view(path: AnyPath) -> PreviewView:
        return await _answered(desk.view(path))

    @router.post(
        API + "/{path:path}/whep",
        status_code=201,
        summary="WHEP: an SDP offer in, an SDP answer out; Location is the session",
        response_class=Response,
    )
    async def offer(path: AnyPath, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/sdp":
            raise HTTPException(415, "the body must be an SDP offer, as application/sdp")
        try:
            sdp = (await request.body()).decode("utf-8")
        except UnicodeDecodeError:
            raise HTTPException(400, "the body is no SDP") from None
        session, answer = await _answered(desk.offer(path, sdp))
        response = Response(answer, 201, {"Location": f"{API}/{quote(path)}/whep/{session}"}, "application/sdp")
        for link in desk.ice_links():
            response.headers.append("Link", link)
        return response

    @router.delete(API + "/{path:path}/whep/{session}", status_code=204, summary="WHEP: the viewer leaves")
    async def end(path: AnyPath, session: Session) -> Response:
        await _answered(desk.end(path, session))
        return Response(status_code=204)

    @router.patch(API + "/{path:path}/whep/{session}", status_code=405, include_in_schema=False)
    async def trickle(path: AnyPath, session: Session) -> Response:
        """Not offered: our candidates are all in the answer, and the viewer's are found out by its own checks."""
        raise HTTPException(405, "no trickle ICE: send the offer with its candidates", {"Allow": "DELETE"})


async def _answered(what: Awaitable[_T]) -> _T:
    try:
        return await what
    except PreviewError as error:
        headers = {"Retry-After": "2"} if error.status in (404, 503) else None
        raise HTTPException(error.status, redact(str(error)), headers) from error
    except MissingDependencyError as error:
        raise HTTPException(501, str(error)) from error


def _mount_page(router: APIRouter, desk: _Desk, settings: PreviewSettings, default: bool) -> None:
    folder = files("babelcast.preview") / "page"
    page = (folder / "index.html").read_bytes()
    assets = {name: (folder / name).read_bytes() for name in _ASSETS}
    headers = {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "media-src 'self' blob: mediastream:; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {' '.join(settings.frame_ancestors)}",
        "Referrer-Policy": "no-referrer",  # there may be a token in the address
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }

    @router.get(PAGE + "/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in assets:
            raise HTTPException(404, "there is no such file")
        return Response(assets[name], headers=headers, media_type=_ASSETS[name])

    @router.get(PAGE + "/{path:path}", summary="The page to embed or to open", response_class=Response)
    async def embed(path: AnyPath, request: Request) -> Response:
        """It is open to everybody; that the path is played before the page asks for it is for those who may watch."""
        desk.expect()
        begin = BackgroundTask(desk.expect_of, path) if getattr(request.state, "may_view", False) else None
        return Response(page, headers=headers, media_type="text/html; charset=utf-8", background=begin)

    if default:

        @router.get(PAGE, summary="The page to embed or to open", response_class=Response)
        async def embed_default() -> Response:
            desk.expect()
            return Response(page, headers=headers, media_type="text/html; charset=utf-8")

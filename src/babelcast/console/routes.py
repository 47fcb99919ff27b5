"""The page and what it asks for: its files, the feed, acknowledgements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from babelcast.console.assets import PREFIX, Asset, Assets
from babelcast.console.watch import Watch
from babelcast.orchestrator.login import operator_name, who
from babelcast.spec import STREAM_ID_PATTERN

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FOR_A_YEAR = {"Cache-Control": "public, max-age=31536000, immutable"}
_NO_STORE = {"Cache-Control": "no-store"}


def console_router(watch: Watch, assets: Assets) -> APIRouter:
    router = APIRouter(tags=["console"])

    @router.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        headers = _SAFE | {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return _answer(request, assets.index, headers, assets.version)

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return RedirectResponse(f"{PREFIX}/{assets.version}/icon.svg", 302)

    @router.get(PREFIX + "/{version}/{name}", include_in_schema=False)
    async def file(request: Request, version: str, name: str) -> Response:
        found = assets.files.get(name) if version == assets.version else None
        if found is None:
            raise HTTPException(404, "the page has no such file in this version; reload it")
        return _answer(request, found, _SAFE | _FOR_A_YEAR, version)

    @router.get("/api/v1/console/feed", summary="What the operator's page shows, as it changes (Server-Sent Events)")
    async def feed(
        stream: Annotated[str | None, Query(pattern=f"^{STREAM_ID_PATTERN}$", description="the stream shown")] = None,
        who: Annotated[str | None, Query(max_length=1_000, description="the operator's name")] = None,
    ) -> StreamingResponse:
        events = watch.watching(stream, operator_name(who))
        return StreamingResponse(
            events, media_type="text/event-stream", headers=_NO_STORE | {"X-Accel-Buffering": "no"}
        )

    @router.post(
        "/api/v1/alarms/{key:path}/acknowledge",
        status_code=204,
        response_class=Response,
        summary="Somebody has seen an alarm; for all operators",
    )
    async def acknowledge(key: Annotated[str, Path(max_length=300)], by: Annotated[str, Depends(who)]) -> None:
        """It stays while its cause lasts, and goes then."""
        if not watch.acknowledge(key, by):
            raise HTTPException(404, "there is no such alarm any more")

    return router


def _answer(request: Request, asset: Asset, headers: dict[str, str], version: str) -> Response:
    headers = headers | {"ETag": f'"{version}"', "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.gzipped, media_type=asset.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(asset.body, media_type=asset.media_type, headers=headers)

"""The paths API: both generations of field names, paging, and trouble that is never read as "no paths"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from babelcast.errors import MediaServerError
from babelcast.media_server import v3
from babelcast.media_server.base import PathInfo
from babelcast.media_server.v3 import V3Client, parse_path

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NEW: dict[str, Any] = {  # as v1.20.1 answers, deprecated fields included
    "name": "live/abc/in",
    "confName": "~^live/([a-z0-9][a-z0-9_-]{0,62})/in$",
    "ready": False,
    "available": True,
    "online": True,
    "source": {"type": "rtmpConn", "id": "7edf4ceb"},
    "tracks": ["old name"],
    "tracks2": [{"codec": "H264", "codecProps": {"width": 160}}, {"codec": "MPEG-4 Audio", "codecProps": {}}],
    "readers": [{"type": "rtspSession", "id": "1"}, {"type": "hidden", "id": ""}],
    "inboundBytes": 7,
    "outboundBytes": 9,
    "bytesReceived": 1,
    "bytesSent": 1,
}
OLD: dict[str, Any] = {  # as v1.9 answered
    "name": "live/abc/in",
    "ready": True,
    "source": {"type": "rtmpConn", "id": "7edf4ceb"},
    "tracks": ["H264", "MPEG-4 Audio"],
    "readers": [{"type": "rtspSession", "id": "1"}, {"type": "hlsMuxer", "id": ""}],
    "bytesReceived": 7,
    "bytesSent": 9,
}
EXPECTED = PathInfo("live/abc/in", True, "rtmpConn", "7edf4ceb", ("H264", "MPEG-4 Audio"), 2, 7, 9)


@asynccontextmanager
async def api(list_paths: Handler | None = None, get_path: Handler | None = None) -> AsyncIterator[V3Client]:
    app = web.Application()
    if list_paths:
        app.router.add_get("/v3/paths/list", list_paths)
    if get_path:
        app.router.add_get("/v3/paths/get/{name:.+}", get_path)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with V3Client(f"http://127.0.0.1:{runner.addresses[0][1]}/", timeout_s=0.5) as client:
            yield client
    finally:
        await runner.cleanup()


@pytest.mark.unit
@pytest.mark.parametrize("document", [NEW, OLD], ids=["v1.20", "v1.9"])
def test_both_generations_of_field_names(document: dict[str, Any]) -> None:
    assert parse_path(document) == EXPECTED


@pytest.mark.unit
def test_available_but_not_online_is_not_online() -> None:
    """An offline filler makes a path available: no reason to start a worker."""
    assert parse_path(NEW | {"online": False, "ready": True}).online is False


@pytest.mark.unit
def test_a_path_without_source_or_lists() -> None:
    bare = {"name": "live/abc/out", "ready": False, "source": None, "tracks": None, "readers": None}
    assert parse_path(bare) == PathInfo("live/abc/out", False, None, None, (), 0, 0, 0)


@pytest.mark.unit
@pytest.mark.parametrize("document", [None, [], {}, {"name": "x"}, {"name": "x", "ready": "who knows"}])
def test_a_malformed_path_is_an_error(document: object) -> None:
    with pytest.raises(MediaServerError):
        parse_path(document)


@pytest.mark.integration
async def test_every_page_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v3, "ITEMS_PER_PAGE", 2)
    names = [f"live/s{n}/in" for n in range(5)]

    async def answer(request: web.Request) -> web.Response:
        page, size = int(request.query["page"]), int(request.query["itemsPerPage"])
        items = [OLD | {"name": name} for name in names[page * size : (page + 1) * size]]
        return web.json_response({"itemCount": 5, "pageCount": 3, "items": items})

    async with api(answer) as client:
        assert [path.name for path in await client.list_paths()] == names


@pytest.mark.integration
async def test_a_list_that_changed_between_pages_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that slips from page 1 to page 0 would look gone, and its worker would be stopped."""
    monkeypatch.setattr(v3, "ITEMS_PER_PAGE", 2)

    async def answer(request: web.Request) -> web.Response:
        first = [OLD | {"name": "live/a/in"}, OLD | {"name": "live/b/in"}]
        items = first if request.query["page"] == "0" else [OLD | {"name": "live/b/in"}]
        return web.json_response({"itemCount": 3, "pageCount": 2, "items": items})

    async with api(answer) as client:
        with pytest.raises(MediaServerError, match="changed while it was read"):
            await client.list_paths()


@pytest.mark.integration
async def test_an_empty_list_is_believed_when_the_server_says_so() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"itemCount": 0, "pageCount": 0, "items": []})

    async with api(answer) as client:
        assert await client.list_paths() == []


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(2)
    return web.json_response({})


async def _status_500(request: web.Request) -> web.Response:
    return web.json_response({"error": "too many open files"}, status=500)


async def _no_json(request: web.Request) -> web.Response:
    return web.Response(text="<html>welcome</html>", content_type="text/html")


async def _empty_object(request: web.Request) -> web.Response:
    return web.json_response({})


@pytest.mark.integration
@pytest.mark.parametrize("answer", [_slow, _status_500, _no_json, _empty_object])
async def test_trouble_is_never_an_empty_list(answer: Handler) -> None:
    async with api(answer, answer) as client:
        with pytest.raises(MediaServerError) as caught:
            await client.list_paths()
        assert caught.value.retryable
        with pytest.raises(MediaServerError):
            await client.get_path("live/abc/in")


@pytest.mark.integration
async def test_nobody_listens(free_port: Callable[[], int]) -> None:
    async with V3Client(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(MediaServerError, match="can't be asked"):
            await client.list_paths()


@pytest.mark.integration
async def test_a_path_that_goes_away_while_it_is_asked_about_is_not_there() -> None:
    """MediaMTX: one in many answers just after a publisher has left."""

    async def ending(_: web.Request) -> web.Response:
        return web.json_response({"status": "error", "error": "terminated"}, status=500)

    async with api(get_path=ending) as client:
        assert await client.get_path("live/a/out") is None


@pytest.mark.integration
async def test_a_path_that_is_not_there_is_none_but_a_strange_404_is_an_error() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.match_info["name"] == "live/no/in"
        return web.json_response({"status": "error", "error": "path not found"}, status=404)

    async with api(get_path=answer) as client:
        assert await client.get_path("live/no/in") is None
    async with api() as client:  # another program: its 404 is a page of text
        with pytest.raises(MediaServerError):
            await client.get_path("live/no/in")

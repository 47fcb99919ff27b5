"""Client of the ``/v3`` API that MediaMTX offers and the embedded relay copies: what paths there are."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from pydantic import AliasChoices, BaseModel, Field, ValidationError
from yarl import URL

from babelcast.errors import MediaServerError
from babelcast.media_server.base import PathInfo
from babelcast.telemetry.redact import redact_url

TIMEOUT_S = 2.0
ITEMS_PER_PAGE = 1000
"""Larger than any real server's list: several pages are several moments, and a path can slip between them."""
_MAX_PAGES = 100


class _Source(BaseModel):
    type: str
    id: str = ""


class _Track(BaseModel):
    codec: str


class _Path(BaseModel):
    """A path in either generation of field names: 1.19 and later first, then what it was called before."""

    name: str
    online: bool = Field(validation_alias=AliasChoices("online", "available", "ready"))
    source: _Source | None = None
    tracks2: list[_Track] | None = None
    tracks: list[str] | None = None
    readers: list[Any] | None = None
    bytes_in: int = Field(default=0, validation_alias=AliasChoices("inboundBytes", "bytesReceived"))
    bytes_out: int = Field(default=0, validation_alias=AliasChoices("outboundBytes", "bytesSent"))

    def info(self) -> PathInfo:
        names = self.tracks or [] if self.tracks2 is None else [track.codec for track in self.tracks2]
        return PathInfo(
            name=self.name,
            online=self.online,
            source_type=self.source.type if self.source else None,
            source_id=self.source.id if self.source else None,
            tracks=tuple(names),
            readers=len(self.readers or ()),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )


class _PathList(BaseModel):
    itemCount: int
    pageCount: int
    items: list[_Path]


def parse_path(document: object) -> PathInfo:
    """One item of ``/v3/paths/list``, or the answer of ``/v3/paths/get``. Raises MediaServerError."""
    try:
        return _Path.model_validate(document).info()
    except ValidationError as error:
        raise MediaServerError(f"the media server described a path in an unknown way: {_first(error)}") from None


class V3Client:
    """Reads ``/v3/paths``. Every failure is a MediaServerError: an empty list is never guessed.

    ``base_url`` is the API's address (``http://127.0.0.1:9997``). The HTTP session is opened by the first call
    and closed by :meth:`aclose`.
    """

    def __init__(self, base_url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def base_url(self) -> str:
        return self._base_url

    async def list_paths(self) -> list[PathInfo]:
        """All paths that have a source or a reader now."""
        found: dict[str, PathInfo] = {}
        page, pages, count = 0, 1, 0
        while page < pages:
            document = await self._get(f"/v3/paths/list?itemsPerPage={ITEMS_PER_PAGE}&page={page}")
            try:
                listed = _PathList.model_validate(document)
            except ValidationError as error:
                raise MediaServerError(f"the media server's list of paths is malformed: {_first(error)}") from None
            found.update((item.name, item.info()) for item in listed.items)
            page, pages, count = page + 1, min(listed.pageCount, _MAX_PAGES), listed.itemCount
        if len(found) != count:
            raise MediaServerError(f"the list of paths changed while it was read: {len(found)} of {count}")
        return list(found.values())

    async def get_path(self, path: str) -> PathInfo | None:
        """``path``, or None when the server says that there is no such path."""
        document = await self._get(f"/v3/paths/get/{quote(path, safe='')}", absent_is_none=True)
        return None if document is None else parse_path(document)

    async def global_config(self) -> dict[str, object]:
        """The server's settings outside paths, such as ``rtmpAddress`` (MediaMTX alone)."""
        document = await self._get("/v3/config/global/get")
        if not isinstance(document, dict):
            raise MediaServerError(f"{self._where()} gave no settings")
        return document

    async def _get(self, target: str, *, absent_is_none: bool = False) -> object:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        try:
            async with self._session.get(URL(self._base_url + target, encoded=True)) as response:
                # another program's 404 page is no answer about a path: both servers answer in JSON
                document: object = await response.json()
                if absent_is_none and (response.status == 404 or _is_ending(document)):
                    return None
                if response.status != 200:
                    raise MediaServerError(f"{self._where()} answered {response.status}{_reason(document)}")
                return document
        except TimeoutError:
            raise MediaServerError(f"{self._where()} did not answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise MediaServerError(f"{self._where()} can't be asked: {type(error).__name__}: {error}") from None

    def _where(self) -> str:
        return f"the media server's API at {redact_url(self._base_url)}"

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # lets the transports close before the loop can end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _is_ending(document: object) -> bool:
    """MediaMTX's answer (500) where the path goes away while it is asked about."""
    return isinstance(document, dict) and document.get("error") == "terminated"


def _reason(document: object) -> str:
    reason = document.get("error") if isinstance(document, dict) else None
    return f": {reason}" if isinstance(reason, str) else ""

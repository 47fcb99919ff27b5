"""WHEP of MediaMTX, passed on: for paths whose tracks it can send itself."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import aiohttp

from babelcast.errors import PreviewError
from babelcast.http_client import read_at_most

log = logging.getLogger(__name__)

PREFIX = "m."
"""What our names of its sessions begin with."""
_TIMEOUT = aiohttp.ClientTimeout(total=8.0)
_SECRET = re.compile(r"[A-Za-z0-9_-]{8,80}")
_MAX_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    session: str
    sdp: str


async def offer(http: aiohttp.ClientSession, whep_url: str, sdp: str) -> UpstreamAnswer | None:
    """MediaMTX's answer; None where it does not give one, and ours is better than none. Raises PreviewError (400) where
    it is the offer that it does not like."""
    headers = {"Content-Type": "application/sdp"}
    try:
        async with http.post(whep_url, data=sdp, headers=headers, timeout=_TIMEOUT) as response:
            text = (await read_at_most(response, _MAX_ANSWER)).decode("utf-8", "replace")
            name = response.headers.get("Location", "").rstrip("/").rpartition("/")[2]
            if response.status == 201 and _SECRET.fullmatch(name):
                return UpstreamAnswer(PREFIX + name, text)
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning("MediaMTX's WHEP does not answer: %s", type(error).__name__)
        return None
    if status in (400, 406, 415):
        raise PreviewError("the offer can't be understood", 400)
    log.warning("MediaMTX's WHEP answered %d", status)
    return None


async def end(http: aiohttp.ClientSession, whep_url: str, session: str) -> None:
    """Raises PreviewError (404) where there is no such session."""
    name = session.removeprefix(PREFIX)
    if not _SECRET.fullmatch(name):
        raise PreviewError("there is no such viewer (any more)", 404)
    try:
        async with http.delete(f"{whep_url}/{name}", timeout=_TIMEOUT) as response:
            gone = response.status == 404
    except (aiohttp.ClientError, TimeoutError, OSError):
        gone = False  # then it ends by itself, as with a viewer that vanished
    if gone:
        raise PreviewError("there is no such viewer (any more)", 404)

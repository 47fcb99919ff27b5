"""One file over HTTP, resumed where an earlier try broke off, checked as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import aiohttp

from babelcast.errors import BabelcastError, MissingDependencyError
from babelcast.telemetry.redact import redact_url

_CONNECT_TIMEOUT_S = 15.0
_READ_TIMEOUT_S = 60.0
_BLOCK = 1 << 18
_TRIES = 5
_BACKOFF_S = 0.5
_BREAKS = (aiohttp.ClientError, TimeoutError, ConnectionError)

Progress = Callable[[int, int | None], None]
"""Called with the bytes of this file so far, and the whole where it is known."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def no_progress(done: int, total: int | None) -> None:
    """Say nothing."""


def sha256_of(path: Path, hasher: _Hash | None = None) -> str:
    """SHA-256 of a file, in hexadecimal. Blocks."""
    digest = hasher or hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S)
    return aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False)


async def fetch(
    http: aiohttp.ClientSession,
    url: str,
    part: Path,
    *,
    limit: int,
    progress: Progress = no_progress,
) -> str:
    """Download ``url`` into ``part`` and return its SHA-256.

    What ``part`` holds already is kept, if the server can resume and the file there is still the same. A transfer
    that breaks off is taken up again, up to four times in a row without a byte of progress. Raises
    MissingDependencyError, whose hint says what to do; ``part`` stays for the next try.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            if await _transfer(http, url, part, limit, progress):
                return await asyncio.to_thread(sha256_of, part)
            reason = "the connection broke off"
        except _BREAKS as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        except OSError as error:
            raise disk_error(error, part.parent) from error
        failures = 0 if _size(part) > before else failures + 1
        if failures >= _TRIES:
            raise MissingDependencyError(
                f"can't get {redact_url(url)}: {reason}",
                hint="run the same command again, it goes on where it stopped; behind a proxy set HTTPS_PROXY, "
                "for a mirror see docs/howto/models.md",
                retryable=True,
            )
        await asyncio.sleep(_BACKOFF_S * 2**failures)


async def _transfer(http: aiohttp.ClientSession, url: str, part: Path, limit: int, progress: Progress) -> bool:
    """One request. True when the file is whole, False when it broke off without an error."""
    tag_file = part.with_name(part.name + ".etag")
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    tag = tag_file.read_text() if have and tag_file.exists() else ""
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    async with http.get(url, headers=headers) as response:
        if response.status == 416 and have and _total(response) == have:
            return True
        if response.status == 416 and have:
            os.truncate(part, 0)  # longer than the file is now: another file
            return False
        _check_status(response, url)
        start = _range_start(response) if response.status == 206 else 0
        if start not in {0, have}:
            raise aiohttp.ClientPayloadError(f"asked for byte {have}, got byte {start}")
        length = response.content_length
        total = start + length if length is not None else None
        if max(total or 0, start) > limit:
            raise _too_large(url, limit)
        _keep_tag(response, tag_file)
        done = start
        with part.open("r+b" if have else "wb") as out:
            out.truncate(start)
            out.seek(start)
            progress(done, total)
            async for block in response.content.iter_chunked(_BLOCK):
                out.write(block)
                done += len(block)
                if done > limit:
                    raise _too_large(url, limit)
                progress(done, total)
        return total is None or done == total


def _check_status(response: aiohttp.ClientResponse, url: str) -> None:
    status, shown = response.status, redact_url(url)
    if status in {200, 206}:
        return
    if status == 429 or status >= 500:
        raise aiohttp.ClientPayloadError(f"the server answered {status}")
    if status in {401, 403}:
        hint = "the publisher asks for a login: download it by hand and put it into the cache (docs/howto/models.md)"
    elif status == 404:
        hint = "the publisher moved or removed it: see `babelcast models list` for others, or name a mirror"
    else:
        hint = "see docs/howto/models.md"
    raise MissingDependencyError(f"{shown} answered {status}", hint=hint)


def _keep_tag(response: aiohttp.ClientResponse, tag_file: Path) -> None:
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        tag_file.write_text(tag)
    else:
        with contextlib.suppress(FileNotFoundError):
            tag_file.unlink()


def _range_start(response: aiohttp.ClientResponse) -> int:
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else 0


def _total(response: aiohttp.ClientResponse) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _too_large(url: str, limit: int) -> BabelcastError:
    return MissingDependencyError(
        f"{redact_url(url)} is larger than {limit} bytes, which is more than the registry expects",
        hint="nothing was installed; the publisher replaced the file, or something stands between you and the server",
    )


def disk_error(error: OSError, folder: Path) -> BabelcastError:
    """What to say when a file can't be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MissingDependencyError(
            f"no space left in {folder}",
            hint="free some, or set BABELCAST_CACHE to a folder on a larger disk; what came so far is kept",
        )
    return MissingDependencyError(
        f"can't write into {folder}: {error.strerror or error}",
        hint=f"check its permissions, or set BABELCAST_CACHE to another folder (you are user {os.getuid()})",
    )

"""Find MediaMTX on this machine, or get the pinned release: checked against the release's own list of checksums."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import aiohttp

from babelcast.errors import BabelcastError, MediaServerError, MissingDependencyError
from babelcast.media_server.mediamtx import check_version
from babelcast.telemetry.redact import redact_url

log = logging.getLogger(__name__)

VERSION = "1.20.1"
"""The release that our configuration is verified with."""
RELEASES = "https://github.com/bluenviron/mediamtx/releases/download"
RELEASES_VARIABLE = "BABELCAST_MEDIAMTX_RELEASES"
"""Environment variable with the address of a mirror, laid out as RELEASES."""

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 20.0
_MAX_CHECKSUMS = 64 * 1024
_MAX_ARCHIVE = 256 * 1024 * 1024
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_ARM = {"armv6l": "armv6", "armv7l": "armv7"}

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and the whole, where the server says it."""


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/babelcast/mediamtx``; one folder a version."""
    root = os.environ.get("XDG_CACHE_HOME") or ""
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "babelcast" / "mediamtx"


def find_mediamtx(named: Path | None = None) -> Path | None:
    """The MediaMTX to run: the one that the config names, one on PATH, the newest in the cache, else None.

    Raises MissingDependencyError when the config names one that is not there.
    """
    if named is not None:
        program = shutil.which(named)
        if program is None:
            raise MissingDependencyError(f"no program at {named}, which mediamtx.binary names")
        return Path(program)
    if on_path := shutil.which("mediamtx"):
        return Path(on_path)
    cached = [path for path in cache_dir().glob("*/mediamtx") if os.access(path, os.X_OK)]
    return max(cached, key=lambda path: _version_key(path.parent.name), default=None)


def _version_key(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


async def ensure_mediamtx(named: Path | None = None, *, within_s: float = 10.0) -> Path | None:
    """For ``media_server: auto``: a MediaMTX that is there and new enough, or that can be had in time; else None.

    Never raises for a server or a network that is away; raises MissingDependencyError as :func:`find_mediamtx`.
    """
    found = find_mediamtx(named)
    if found is not None:
        try:
            await check_version(found)
            return found
        except MediaServerError as error:
            if named is not None:
                raise
            log.warning("%s", error)
    try:
        async with asyncio.timeout(within_s):
            return await install()
    except TimeoutError:
        log.info("MediaMTX could not be had within %g s", within_s)
    except BabelcastError as error:
        log.info("MediaMTX could not be had: %s", error)
    return None


def asset_name(version: str = VERSION, system: str = sys.platform, machine: str | None = None) -> str:
    """The release's file for a platform. Raises MissingDependencyError where there is none."""
    machine = (machine or platform.machine()).lower()
    architecture = _MACHINES.get(machine) or (_ARM.get(machine) if system == "linux" else None)
    if system not in {"linux", "darwin"} or architecture is None:
        raise MissingDependencyError(
            f"MediaMTX has no release for {system} on {machine}", hint="the embedded relay runs everywhere"
        )
    return f"mediamtx_v{version}_{system}_{architecture}.tar.gz"


async def install(
    version: str = VERSION,
    dest: Path | None = None,
    *,
    base_url: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Download ``version``, check it, and put the program into ``dest`` (the cache by default); returns its path.

    What is there already is replaced in one step, once the new one is whole. Raises MissingDependencyError.
    """
    version = version.removeprefix("v")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise MissingDependencyError(f"{version!r} is not a MediaMTX version such as {VERSION}")
    asset = asset_name(version)
    root = f"{(base_url or os.environ.get(RELEASES_VARIABLE) or RELEASES).rstrip('/')}/v{version}"
    folder = dest or cache_dir() / version
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mediamtx-", dir=folder) as scratch:
            archive = Path(scratch) / asset
            await _download_checked(root, asset, archive, progress)
            program = Path(scratch) / "mediamtx"
            await asyncio.to_thread(_extract, archive, program)
            return Path(shutil.move(program, folder / "mediamtx"))
    except OSError as error:
        raise MissingDependencyError(f"can't put MediaMTX into {folder}: {error.strerror or error}") from error


async def _download_checked(root: str, asset: str, archive: Path, progress: Progress) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        expected = await _expected_digest(session, f"{root}/checksums.sha256", asset)
        with archive.open("wb") as out:
            digest = await _fetch(session, f"{root}/{asset}", out, _MAX_ARCHIVE, progress)
    if digest != expected:
        raise MissingDependencyError(
            f"{asset} is not what its release promises: SHA-256 {digest[:16]}… instead of {expected[:16]}…",
            hint="nothing was installed; try again, or check what stands between you and the server",
        )


async def _expected_digest(session: aiohttp.ClientSession, url: str, asset: str) -> str:
    with tempfile.TemporaryFile() as file:
        await _fetch(session, url, file, _MAX_CHECKSUMS, lambda done, total: None)
        file.seek(0)
        lines = file.read().decode("ascii", "replace").splitlines()
    for line in lines:
        # as sha256sum -b writes it: the digest, a space, an asterisk and the name
        if match := re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line.strip()):
            if match.group(2).removeprefix("./") == asset:
                return match.group(1)
    raise MissingDependencyError(f"the release's list of checksums does not name {asset}")


async def _fetch(session: aiohttp.ClientSession, url: str, out: IO[bytes], limit: int, progress: Progress) -> str:
    """Write ``url`` to ``out`` and return its SHA-256. Raises MissingDependencyError."""
    shown, hint = redact_url(url), "offline? MediaMTX can also be put on PATH by hand, or the embedded relay be used"
    digest, done = hashlib.sha256(), 0
    try:
        async with session.get(url) as response:
            if response.status != 200:
                raise MissingDependencyError(f"{shown} answered {response.status}", hint=hint)
            total = response.content_length
            async for block in response.content.iter_chunked(1 << 16):
                done += len(block)
                if done > limit:
                    raise MissingDependencyError(f"{shown} is larger than {limit} bytes")
                digest.update(block)
                out.write(block)
                progress(done, total)
    except TimeoutError:
        raise MissingDependencyError(f"{shown} is too slow", hint=hint, retryable=True) from None
    except aiohttp.ClientError as error:
        reason = f"{type(error).__name__}: {error}"
        raise MissingDependencyError(f"can't get {shown}: {reason}", hint=hint, retryable=True) from None
    return digest.hexdigest()


def _extract(archive: Path, program: Path) -> None:
    """The one file of the archive that we want; no other name is ever written."""
    try:
        with contextlib.ExitStack() as stack:
            tar = stack.enter_context(tarfile.open(archive, "r:gz"))
            member = tar.getmember("mediamtx")
            source = tar.extractfile(member) if member.isfile() else None
            if source is None:
                raise KeyError("mediamtx")
            with program.open("wb") as out:
                shutil.copyfileobj(source, out)
    except (tarfile.TarError, zlib.error, EOFError, KeyError) as error:
        raise MissingDependencyError(f"{archive.name} holds no MediaMTX program: {error}") from None
    program.chmod(0o755)

"""Getting MediaMTX: every way in which a download can go wrong, against a server of our own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from babelcast.cli.mediamtx import command
from babelcast.errors import MissingDependencyError
from babelcast.media_server import install as install_module
from babelcast.media_server.install import asset_name, cache_dir, ensure_mediamtx, find_mediamtx, install
from tests.fakes.web import serving as web_service

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PROGRAM = b"#!/bin/sh\necho v1.20.1\n"


def archive(name: str = "mediamtx", kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member_name, data in (("mediamtx.yml", b"x: y"), (name, PROGRAM)):
            member = tarfile.TarInfo(member_name)
            member.size = len(data)
            if member_name == name and kind != tarfile.REGTYPE:
                member.type, member.size, member.linkname = kind, 0, "/bin/sh"
            tar.addfile(member, io.BytesIO(data if member.size else b""))
    return out.getvalue()


@asynccontextmanager
async def releases(
    body: bytes | Handler, *, digest: str | None = None, listed: str | None = None
) -> AsyncIterator[str]:
    """A server laid out as a release page; the address to give as ``base_url``."""

    async def serve_archive(request: web.Request) -> web.StreamResponse:
        return await body(request) if callable(body) else web.Response(body=body)

    async def serve_checksums(request: web.Request) -> web.Response:
        known = digest or (hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else "0" * 64)
        return web.Response(text=f"{'1' * 64} *mediamtx_v1.20.1_windows_amd64.zip\n{known} *{listed or asset_name()}\n")

    app = web.Application()
    app.router.add_get(f"/v1.20.1/{asset_name()}", serve_archive)
    app.router.add_get("/v1.20.1/checksums.sha256", serve_checksums)
    async with web_service(app) as url:
        yield url


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No MediaMTX on PATH, an empty cache, and no way to the internet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv(install_module.RELEASES_VARIABLE, "http://127.0.0.1:1")
    return tmp_path


def put_program(path: Path, version: str = "1.20.1") -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho v{version}\n")
    path.chmod(0o755)
    return path


@pytest.mark.unit
@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", "linux_amd64"),
        ("linux", "aarch64", "linux_arm64"),
        ("linux", "armv7l", "linux_armv7"),
        ("linux", "armv6l", "linux_armv6"),
        ("darwin", "arm64", "darwin_arm64"),
        ("darwin", "x86_64", "darwin_amd64"),
    ],
)
def test_names_of_the_release_files(system: str, machine: str, expected: str) -> None:
    assert asset_name("1.20.1", system, machine) == f"mediamtx_v1.20.1_{expected}.tar.gz"


@pytest.mark.unit
@pytest.mark.parametrize(("system", "machine"), [("win32", "AMD64"), ("linux", "riscv64"), ("darwin", "armv7l")])
def test_platforms_without_a_release(system: str, machine: str) -> None:
    with pytest.raises(MissingDependencyError, match="no release"):
        asset_name("1.20.1", system, machine)


@pytest.mark.integration
async def test_installs_into_the_cache_where_it_is_found() -> None:
    seen: list[tuple[int, int | None]] = []
    data = archive()
    async with releases(data) as url:
        path = await install(base_url=url, progress=lambda done, total: seen.append((done, total)))
    assert path == cache_dir() / "1.20.1" / "mediamtx" == find_mediamtx()
    assert path.read_bytes() == PROGRAM
    assert os.access(path, os.X_OK)
    assert seen[-1] == (len(data), len(data))
    assert os.listdir(path.parent) == ["mediamtx"], "nothing is left of the download"


async def _not_found(request: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


async def _truncated(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b"x" * 100)
    assert request.transport is not None
    request.transport.abort()
    return response


async def _stuck(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b"x" * 100)
    await asyncio.sleep(30)
    return response


@pytest.mark.integration
@pytest.mark.parametrize(
    ("body", "message"),
    [(_not_found, "answered 404"), (_truncated, "can't get"), (_stuck, "too slow")],
)
async def test_a_bad_server_installs_nothing(
    body: Handler, message: str, monkeypatch: pytest.MonkeyPatch, bare_machine: Path
) -> None:
    monkeypatch.setattr(install_module, "_READ_TIMEOUT_S", 0.3)
    async with releases(body) as url:
        with pytest.raises(MissingDependencyError, match=message):
            await install(base_url=url, dest=bare_machine / "dest")
    assert os.listdir(bare_machine / "dest") == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"not an archive", "holds no MediaMTX"),
        (archive()[:-40], "holds no MediaMTX"),
        (archive("other"), "holds no MediaMTX"),
        (archive(kind=tarfile.SYMTYPE), "holds no MediaMTX"),
    ],
    ids=["garbage", "cut off", "no program", "a link"],
)
async def test_a_bad_archive_installs_nothing(body: bytes, message: str, bare_machine: Path) -> None:
    async with releases(body) as url:
        with pytest.raises(MissingDependencyError, match=message):
            await install(base_url=url, dest=bare_machine / "dest")
    assert os.listdir(bare_machine / "dest") == []


@pytest.mark.integration
async def test_a_wrong_checksum_leaves_the_old_one_in_place(bare_machine: Path) -> None:
    old = put_program(bare_machine / "dest" / "mediamtx", "1.20.0")
    before = old.read_bytes()
    async with releases(archive(), digest="ab" * 32) as url:
        with pytest.raises(MissingDependencyError, match="not what its release promises"):
            await install(base_url=url, dest=old.parent)
    async with releases(archive(), listed="another_file.tar.gz") as url:
        with pytest.raises(MissingDependencyError, match="does not name"):
            await install(base_url=url, dest=old.parent)
    assert old.read_bytes() == before
    async with releases(archive()) as url:
        await install(base_url=url, dest=old.parent)
    assert old.read_bytes() == PROGRAM


@pytest.mark.integration
async def test_offline_and_nonsense_are_said_clearly() -> None:
    with pytest.raises(MissingDependencyError, match="offline") as caught:
        await install()
    assert caught.value.retryable
    with pytest.raises(MissingDependencyError, match="not a MediaMTX version"):
        await install("../../etc")


@pytest.mark.unit
def test_where_it_is_looked_for(bare_machine: Path) -> None:
    assert find_mediamtx() is None
    put_program(cache_dir() / "1.9.3" / "mediamtx")
    newest = put_program(cache_dir() / "1.20.1" / "mediamtx")
    assert find_mediamtx() == newest, "1.20 is newer than 1.9"
    on_path = put_program(bare_machine / "bin" / "mediamtx")
    assert find_mediamtx() == on_path
    assert find_mediamtx(newest) == newest
    with pytest.raises(MissingDependencyError, match=r"mediamtx\.binary"):
        find_mediamtx(bare_machine / "absent")


@pytest.mark.integration
async def test_auto_takes_what_is_there_or_comes_in_time(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await ensure_mediamtx() is None, "offline"
    async with releases(_stuck) as url:
        monkeypatch.setenv(install_module.RELEASES_VARIABLE, url)
        assert await ensure_mediamtx(within_s=0.3) is None, "too slow"
    put_program(bare_machine / "bin" / "mediamtx", "1.9.3")
    async with releases(archive()) as url:
        monkeypatch.setenv(install_module.RELEASES_VARIABLE, url)
        assert await ensure_mediamtx() == cache_dir() / "1.20.1" / "mediamtx", "the one on PATH is too old"


@pytest.mark.integration
async def test_the_command(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, command, ["path"])
    assert isinstance(result.exception, MissingDependencyError)
    async with releases(archive()) as url:
        monkeypatch.setenv(install_module.RELEASES_VARIABLE, url)
        result = await asyncio.to_thread(CliRunner().invoke, command, ["install", "--dest", str(bare_machine / "d")])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(bare_machine / "d" / "mediamtx")
    assert (bare_machine / "d" / "mediamtx").read_bytes() == PROGRAM

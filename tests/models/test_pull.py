"""Pulls from a hub on loopback with the layout of the real ones."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.models.hub import Hub, hub

from babelcast.errors import BabelcastError, ConfigError, MissingDependencyError
from babelcast.models import fetch as fetching
from babelcast.models.cache import cache_dir, resolve
from babelcast.models.manifest import read_manifest
from babelcast.models.pull import PullOptions, pull, pulled, verify
from babelcast.models.registry import Model, ModelFile, Registry

pytestmark = pytest.mark.integration

WEIGHTS = bytes(range(256)) * 4_096
CONFIG = b'{"add_source_bos": false}'


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Hub]:
    async with hub() as served:
        yield served


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_BACKOFF_S", 0.001)
    return tmp_path / "cache"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_model(pinned: bool = True, **changes: object) -> Model:
    files = (
        ModelFile(path="model.bin", size=len(WEIGHTS), sha256=sha(WEIGHTS) if pinned else None),
        ModelFile(path="sub/config.json", size=len(CONFIG), sha256=sha(CONFIG) if pinned else None),
    )
    values = {
        "name": "a-model",
        "kind": "mt",
        "family": "marian",
        "licence": "Apache-2.0",
        "source": "hub",
        "repository": "someone/a-model",
        "revision": "abc",
        "pairs": (("en", "es"),),
        "files": files,
    }
    return Model.model_validate(values | changes)


def serve(server: Hub) -> None:
    root = "/someone/a-model/resolve/abc/"
    server.files = {root + "model.bin": WEIGHTS, root + "sub/config.json": CONFIG}


async def get(server: Hub, model: Model, **options: object) -> Path:
    catalogue = Registry(sources={"hub": server.url, "sherpa": server.url}, models={model.name: model})
    return await pull(model, PullOptions(**options), catalogue=catalogue)  # type: ignore[arg-type]


async def test_a_pull_puts_the_files_and_a_manifest_into_the_cache(server: Hub, cache: Path) -> None:
    serve(server)
    folder = await get(server, a_model())
    assert folder == cache / "a-model" == resolve("a-model", "mt")
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert (folder / "sub" / "config.json").read_bytes() == CONFIG
    manifest = read_manifest(folder)
    assert manifest and {file.path: file.sha256 for file in manifest.files} == {
        "model.bin": sha(WEIGHTS),
        "sub/config.json": sha(CONFIG),
    }
    assert manifest.pairs == (("en", "es"),) and manifest.family == "marian"
    assert verify(folder) == [] and pulled() == ["a-model"]
    assert not (cache / ".partial" / "a-model").exists()


async def test_what_is_there_costs_no_request_and_again_does(server: Hub) -> None:
    serve(server)
    folder = await get(server, a_model())
    server.requests.clear()
    await get(server, a_model())
    assert not server.requests
    (folder / "model.bin").write_bytes(b"short")
    await get(server, a_model())
    assert len(server.requests) == 2 and verify(folder) == []
    await get(server, a_model(), again=True)
    assert len(server.requests) == 4


async def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server: Hub) -> None:
    serve(server)
    server.break_after = [300_000, 300_000]
    folder = await get(server, a_model())
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    ranges = [asked for path, asked in server.requests if path.endswith("model.bin")]
    assert len(ranges) == 3 and ranges[0] == "" and all(asked.startswith("bytes=") for asked in ranges[1:])
    assert int(ranges[2][6:-1]) > int(ranges[1][6:-1]) > 0


async def test_a_pull_that_was_killed_goes_on_next_time(server: Hub, cache: Path) -> None:
    serve(server)
    part = cache / ".partial" / "a-model" / "model.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[:500_000])
    await get(server, a_model())
    assert server.requests[0][1] == "bytes=500000-"
    assert verify(cache / "a-model") == []


async def test_a_file_that_changed_meanwhile_is_started_anew(server: Hub, cache: Path) -> None:
    serve(server)
    part = cache / ".partial" / "a-model" / "model.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 500_000)
    part.with_name("model.bin.etag").write_text('"another"')
    folder = await get(server, a_model())
    assert (folder / "model.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize("left", [len(WEIGHTS), len(WEIGHTS) + 10])
async def test_a_part_as_long_as_the_file_or_longer(server: Hub, cache: Path, left: int) -> None:
    serve(server)
    part = cache / ".partial" / "a-model" / "model.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes((WEIGHTS + bytes(10))[:left])
    folder = await get(server, a_model())
    assert (folder / "model.bin").read_bytes() == WEIGHTS


async def test_a_server_without_ranges_is_read_from_the_start(server: Hub) -> None:
    serve(server)
    server.ranges, server.break_after = False, [300_000]
    folder = await get(server, a_model())
    assert (folder / "model.bin").read_bytes() == WEIGHTS


async def test_a_busy_server_is_asked_again(server: Hub) -> None:
    serve(server)
    server.statuses = [503, 429]
    assert verify(await get(server, a_model())) == []


async def test_a_server_that_never_delivers_is_given_up_and_says_how_to_go_on(server: Hub, cache: Path) -> None:
    serve(server)
    server.statuses = [503] * 20
    with pytest.raises(MissingDependencyError, match="run the same command again") as caught:
        await get(server, a_model())
    assert caught.value.retryable and not (cache / "a-model").exists()


async def test_a_wrong_checksum_installs_nothing_unless_trusted(server: Hub, cache: Path) -> None:
    serve(server)
    path = "/someone/a-model/resolve/abc/model.bin"
    server.files[path] = changed = b"y" + WEIGHTS[1:]
    with pytest.raises(MissingDependencyError, match="--trust"):
        await get(server, a_model())
    assert not (cache / "a-model").exists()
    assert not (cache / ".partial" / "a-model" / "model.bin").exists()
    folder = await get(server, a_model(), trust=True)
    assert (folder / "model.bin").read_bytes() == changed


async def test_without_a_pin_the_first_pull_is_held_to(server: Hub) -> None:
    serve(server)
    folder = await get(server, a_model(pinned=False))
    server.files["/someone/a-model/resolve/abc/model.bin"] = b"z" + WEIGHTS[1:]
    with pytest.raises(MissingDependencyError, match="first pull"):
        await get(server, a_model(pinned=False), again=True)
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert verify(folder) == []


async def test_404_says_that_it_moved(server: Hub) -> None:
    with pytest.raises(MissingDependencyError, match=r"answered 404 \(the publisher moved"):
        await get(server, a_model())


async def test_a_file_much_larger_than_expected_is_not_kept_on_downloading(server: Hub, cache: Path) -> None:
    serve(server)
    server.files["/someone/a-model/resolve/abc/model.bin"] = WEIGHTS * 5
    with pytest.raises(MissingDependencyError, match="larger than"):
        await get(server, a_model())
    assert not (cache / "a-model").exists()


async def test_a_full_disk_is_said_before_and_while(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(server)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))
    with pytest.raises(MissingDependencyError, match="BABELCAST_CACHE"):
        await get(server, a_model())
    assert not server.requests
    monkeypatch.undo()

    async def no_space(*args: object, **kwargs: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "_transfer", no_space)
    with pytest.raises(MissingDependencyError, match="no space left in"):
        await get(server, a_model())


async def test_two_pulls_of_one_model_at_once(server: Hub, cache: Path) -> None:
    serve(server)
    results = await asyncio.gather(*(get(server, a_model()) for _ in range(2)), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BabelcastError)]
    assert len(errors) == 1 and "being pulled already" in str(errors[0])
    assert verify(cache / "a-model") == []


async def test_a_licence_that_is_not_free_must_be_named(server: Hub) -> None:
    serve(server)
    model = a_model(commercial=False, licence="CC-BY-NC-4.0")
    with pytest.raises(ConfigError, match="not for commercial use"):
        await get(server, model)
    assert await get(server, model, licence="cc-by-nc-4.0")


def archive_of(files: dict[str, bytes], link: str | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:bz2") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    return packed.getvalue()


def a_voice(packed: bytes, pinned: bool = True) -> Model:
    file = ModelFile(path="voice.tar.bz2", size=len(packed), sha256=sha(packed) if pinned else None, archive=True)
    return a_model(source="sherpa", repository="tts-models", kind="tts", family="piper", files=(file,))


async def test_an_archive_is_unpacked_without_its_folder_and_without_what_is_not_needed(server: Hub) -> None:
    packed = archive_of({"voice/a.onnx": b"onnx", "voice/tokens.txt": b"a 1", "voice/espeak-ng-data/es_dict": b"gpl"})
    server.files = {"/tts-models/voice.tar.bz2": packed}
    folder = await get(server, a_voice(packed))
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx", "manifest.json", "tokens.txt"]
    assert verify(folder) == []
    (folder / "a.onnx").write_bytes(b"onnY")
    (folder / "tokens.txt").unlink()
    assert len(verify(folder)) == 2


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "voice/../../outside"])
async def test_an_archive_that_leads_out_of_its_folder_is_refused(server: Hub, cache: Path, name: str) -> None:
    packed = archive_of({"voice/a": b"1", name: b"2"})
    server.files = {"/tts-models/voice.tar.bz2": packed}
    with pytest.raises(MissingDependencyError, match="not safe to unpack"):
        await get(server, a_voice(packed))
    assert not (cache / "a-model").exists()


async def test_links_and_broken_archives_are_refused(server: Hub) -> None:
    linked, broken = archive_of({"voice/a": b"1"}, link="voice/b"), archive_of({"voice/a": bytes(50_000)})[:-20]
    for packed, message in ((linked, "no regular file"), (broken, "not a whole archive"), (b"no tar", "not a whole")):
        server.files = {"/tts-models/voice.tar.bz2": packed}
        with pytest.raises(MissingDependencyError, match=message):
            await get(server, a_voice(packed))


def test_a_model_that_is_not_here_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="babelcast models pull opus-mt-en-es"):
        resolve("opus-mt-en-es", "mt")
    with pytest.raises(ConfigError, match="did you mean opus-mt-en-es"):
        resolve("opus-mt-en-se", "mt")
    with pytest.raises(MissingDependencyError, match="no model at"):
        resolve(str(tmp_path / "nothing"))
    assert resolve(str(tmp_path)) == tmp_path


async def test_the_kind_is_checked_and_an_entry_is_a_file(server: Hub) -> None:
    serve(server)
    folder = await get(server, a_model(entry="model.bin"))
    assert resolve("a-model") == folder / "model.bin"
    with pytest.raises(ConfigError, match="for mt, not for tts"):
        resolve("a-model", "tts")
    (folder / "model.bin").unlink()
    with pytest.raises(MissingDependencyError, match="not whole"):
        resolve("a-model")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BABELCAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "babelcast" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path.home() / ".cache" / "babelcast" / "models"

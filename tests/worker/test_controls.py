"""Controls: what a patch does, and the two requests on the status server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from babelcast.errors import ControlsError
from babelcast.spec import BackendSpec, Controls, ControlsPatch, MixSpec, TargetSpec, WorkerSpec
from babelcast.worker.controls import ControlDesk
from babelcast.worker.session import WorkerSession
from babelcast.worker.status import status_server
from tests.worker.fake_speech import FakeBackend

pytestmark = [pytest.mark.unit, pytest.mark.timeout(20)]


def spec(**more: Any) -> WorkerSpec:
    settings: dict[str, Any] = {
        "stream_id": "show",
        "ingest_url": "rtmp://127.0.0.1:9/live/show/in",
        "targets": (TargetSpec(language="es", output_url="rtmp://127.0.0.1:9/live/show/out"),),
        "backend": BackendSpec(kind="sts"),
        "separation": "off",
    }
    return WorkerSpec(**(settings | more))


def desk() -> tuple[ControlDesk, list[Controls]]:
    applied: list[Controls] = []
    return ControlDesk(Controls(), applied.append), applied


def test_a_patch_changes_what_it_names_and_is_counted() -> None:
    made, applied = desk()
    made.patch(ControlsPatch(force="original"))
    made.patch(ControlsPatch(mix={"bg_gain": 0.5}))
    made.patch(ControlsPatch(mix={"ducking": {"enabled": True}}, fallback_by_cause={"late": "ducked"}))
    made.patch(ControlsPatch(mix={"ducking": {"ratio": 8.0}}, fallback_by_cause={"lost": "repeat"}))
    found = made.controls
    assert (found.revision, found.force, found.fallback_by_cause) == (4, "original", {"lost": "repeat"})
    assert (found.mix.bg_gain, found.mix.ducking.enabled, found.mix.ducking.ratio) == (0.5, True, 8.0)
    assert made.patch(ControlsPatch(force="none")).force is None
    assert [controls.revision for controls in applied] == [1, 2, 3, 4, 5]


def test_two_patches_are_the_same_as_one_after_the_other() -> None:
    first = ControlsPatch(force="silence", mix={"bg_gain": 0.5, "ducking": {"enabled": True}}, delay_s=8.0)
    second = ControlsPatch(force="none", mix={"ducking": {"ratio": 2.0}}, fallback_by_cause={})
    assert Controls().patched(first).patched(second) == Controls().patched(first.then(second))


def test_what_can_not_be_is_refused_and_nothing_changes() -> None:
    made, applied = desk()
    with pytest.raises(ControlsError, match=r"mix\.bg_gain: .*less than or equal to 4") as refused:
        made.patch(ControlsPatch(force="silence", mix={"bg_gain": 9}))
    assert refused.value.status == 422
    with pytest.raises(ControlsError, match="at revision 0, not 3") as refused:
        made.patch(ControlsPatch(force="silence"), revision=3)
    assert refused.value.status == 412
    assert (made.controls, applied) == (Controls(), [])


@pytest.fixture
async def worker() -> AsyncIterator[tuple[WorkerSession, aiohttp.ClientSession]]:
    session = WorkerSession(spec(), FakeBackend())
    async with status_server(session) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        yield session, http


async def test_controls_over_http(worker: tuple[WorkerSession, aiohttp.ClientSession]) -> None:
    session, http = worker
    async with http.get("/controls") as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, '"0"')
        assert Controls.model_validate(await answer.json()) == Controls()
    wanted = {"force": "ducked", "mix": {"original_gain": 0.1}}
    async with http.patch("/controls", json=wanted, headers={"If-Match": '"0"'}) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, '"1"')
    status = session.status()
    assert (status.controls.revision, status.controls.force, status.controls.mix.original_gain) == (1, "ducked", 0.1)
    async with http.patch("/controls", json={"force": "none"}, headers={"If-Match": '"0"'}) as answer:
        assert answer.status == 412
        assert "at revision 1" in (await answer.json())["detail"]
    whole = Controls(revision=7, fallback="silence", mix=MixSpec(dub_gain=0.5))
    async with http.put("/controls", data=whole.model_dump_json()) as answer:
        assert (answer.status, session.desk.controls) == (200, whole)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"force": "loud"}', b'{"mix": {"bg_gain": "x"}}', b'{"what": 1}', b'{"delay_s": 60}', b"\xff"],
)
async def test_a_bad_patch_is_a_sentence(worker: tuple[WorkerSession, aiohttp.ClientSession], body: bytes) -> None:
    session, http = worker
    async with http.patch("/controls", data=body) as answer:
        assert (answer.status, answer.content_type) == (422, "application/problem+json")
        assert (await answer.json())["detail"]
    assert session.desk.controls == Controls()


async def test_the_delay_is_changed_too(worker: tuple[WorkerSession, aiohttp.ClientSession]) -> None:
    session, http = worker
    async with http.patch("/controls", json={"delay_s": 9.0}) as answer:
        assert answer.status == 200
    status = session.status()
    assert (status.controls.delay_s, status.delay_s) == (9.0, 9.0)


def test_a_worker_begins_with_what_an_operator_had_set() -> None:
    kept = Controls(revision=4, force="background", mix=MixSpec(bg_gain=0.5), delay_s=9.0)
    session = WorkerSession(spec(controls=kept), FakeBackend())
    status = session.status()
    assert (status.controls, status.delay_s) == (kept, 9.0)

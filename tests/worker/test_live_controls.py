"""Changes on air, measured where they are heard: what a reader of the published stream gets, and when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.spec import BackendSpec, BreakerSpec, TargetSpec, WorkerSpec
from babelcast.speech.base import SpeechSession, SpeechTarget
from babelcast.units import SpeechFrame
from babelcast.worker.session import WorkerSession
from babelcast.worker.status import status_server
from tests.worker.ear import Ear
from tests.worker.fake_speech import FakeBackend, FakeSession
from tests.worker.media import make_clip, publish
from tests.worker.rig import until, worker

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


class Moody(FakeBackend):
    """Hears and does not answer while it is ``deaf``."""

    deaf = False

    async def open(self, target: SpeechTarget) -> SpeechSession:
        backend = self

        class Session(FakeSession):
            async def send(self, frame: SpeechFrame) -> None:
                if not backend.deaf:
                    await super().send(frame)

        return Session(self)


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as server:
        yield server


@contextlib.asynccontextmanager
async def on_air(
    relay: Relay, clip: Path, backend: FakeBackend
) -> AsyncIterator[tuple[WorkerSession, aiohttp.ClientSession, Ear]]:
    spec = WorkerSpec(
        stream_id="show",
        ingest_url=f"{relay.rtmp_url}/live/show/in",
        targets=(TargetSpec(language="es", output_url=f"{relay.rtmp_url}/live/show/out"),),
        backend=BackendSpec(kind="sts"),
        delay_s=2.0,
        separation="off",
        fallback_by_cause={"breaker": "silence"},
        breaker=BreakerSpec(window_s=5.0, min_calls=2, slow_call_s=1.5, open_s=2.5, probes=1),
    )
    ear = Ear()
    publishing = asyncio.create_task(publish(clip, spec.ingest_url))
    async with worker(spec, backend) as session, status_server(session) as port:
        await until(lambda: session.status().targets[0].output_state == "live", 20)
        listening = asyncio.create_task(ear.listen(spec.targets[0].output_url))
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                await until(lambda: bool(ear.frames) and session.status().targets[0].fallback is None, 20)
                yield session, http, ear
        finally:
            publishing.cancel()
            listening.cancel()
            await asyncio.gather(publishing, listening, return_exceptions=True)


async def test_the_operators_choice_is_heard_within_a_second(relay: Relay, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.flv", 20)
    asked: dict[str, float] = {}
    async with on_air(relay, clip, FakeBackend(speaks=False)) as (session, http, ear):
        async with http.get("/levels") as answer:
            levels_now = await answer.json()
        assert levels_now.keys() == {"es"} and levels_now["es"]["source"] > -60 < levels_now["es"]["output"]
        for force in ("silence", "none"):
            await asyncio.sleep(1.5)
            asked[force] = time.monotonic()
            async with http.patch("/controls", json={"force": force}) as answer:
                assert answer.status == 200
        await asyncio.sleep(1.5)
        assert session.output_sessions == [1]
    levels = ear.levels(tmp_path)
    latency = {
        "silence": next(at for at, level in levels if at > asked["silence"] and level < 1e-4) - asked["silence"],
        "none": next(at for at, level in levels if at > asked["none"] and level > 1e-3) - asked["none"],
    }
    before = [level for at, level in levels if asked["silence"] - 1 < at < asked["silence"]]
    assert min(before) > 1e-3
    print(f"from the operator's request to the first frame at a reader: {latency}")
    assert all(0 < seconds < 1 for seconds in latency.values()), latency


async def test_a_backend_that_hangs_is_left_alone_probed_and_taken_back(relay: Relay, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.flv", 30)
    backend = Moody()
    async with on_air(relay, clip, backend) as (session, http, _):
        backend.deaf = True
        await until(lambda: session.status().targets[0].fallback == "silence", 15)
        target = session.status().targets[0]
        assert target.fallback_cause == "breaker"
        assert target.breakers[0].opened == 1 and "slow" in str(target.breakers[0].reason)
        assert "circuit breaker" in str(target.last_error)
        backend.deaf = False
        await until(lambda: session.status().targets[0].breakers[0].state == "closed", 15)
        await until(lambda: session.status().targets[0].fallback is None, 10)
        async with http.get("/metrics") as answer:
            metrics = await answer.text()
        assert 'worker_breaker_state{backend="fake",language="es"} 0.0' in metrics
        assert 'worker_fallback_total{mode="silence",reason="breaker"}' in metrics
        assert 'worker_queue_depth{queue="video.es"}' in metrics

"""``/say``: with a real speech service of the tone mock, without one, and with one that refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from tests.bridge.audio_endpoint.rig import PCM, Rig, audio, listening, live, order

from babelcast.bridge.audio_endpoint.settings import AudioSettings
from babelcast.sts.serve import serving as serving_sts
from babelcast.sts.service import Service
from babelcast.sts.tone import ToneEngine, frequency
from babelcast.units import Pcm
from babelcast.wire import SpeakRequest

pytestmark = pytest.mark.integration

_TEXT = "Good evening to you, and welcome!"


async def _say(rig: Rig, **body: Any) -> tuple[int, Any]:
    async with rig.http.post("/say", json={"text": _TEXT, "language": "en"} | body) as answer:
        return answer.status, await answer.json()


async def _bed(rig: Rig) -> None:
    async with rig.http.post("/ingest", data=live(2_000), headers={"Content-Type": PCM}):
        pass


async def test_a_text_is_spoken_over_the_ducked_bed() -> None:
    long = _TEXT * 3
    async with serving_sts(Service(ToneEngine(), token="sts-t0ken")) as sts:
        settings = AudioSettings(speech_url=sts, speech_token=SecretStr("sts-t0ken"), max_utterances=2)
        async with audio(settings) as rig, listening(rig) as listener:
            bed = asyncio.create_task(_bed(rig))
            await rig.bed_is(lambda db: db > -19)
            status, said = await _say(rig)
            assert status == 202 and said == {
                "starts_in_s": 0.0,
                "duration_s": pytest.approx(len(_TEXT) / 15, abs=0.01),
            }
            status, second = await _say(rig, text=long)
            assert status == 202 and second["starts_in_s"] > 0
            status, problem = await _say(rig)
            assert status == 503 and "wait already" in problem["detail"]
            await rig.bed_is(lambda db: -60 < db < -25)
            await rig.until(lambda: rig.endpoint.speaker.queue.spoken == 1)
            async with rig.http.delete("/say") as answer:
                assert await answer.json() == {"cleared": 1}
            await rig.bed_is(lambda db: db > -19)
            bed.cancel()
            await asyncio.gather(bed, return_exceptions=True)
    first, cut_off = (round(frequency(len(text)), -1) for text in (_TEXT, long))
    heard = order(listener.heard())
    assert heard[0] == heard[-1] == 2_000
    spoken = [each for each in heard if each != 2_000]  # the bed is heard in the pause between the two
    assert spoken in ([first], [first, cut_off])  # as soon as the machine got to it


async def test_what_the_service_still_works_on_is_forgotten_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def spoken(wanted: SpeakRequest) -> Pcm:
        asked.set()
        await answered.wait()
        return np.zeros(48_000, np.float32)

    async with audio(AudioSettings(speech_url="http://127.0.0.1:1")) as rig:
        monkeypatch.setattr(rig.endpoint.speaker, "_spoken", spoken)
        saying = [asyncio.create_task(_say(rig)) for _ in range(2)]
        async with asyncio.timeout(5):
            await asked.wait()
            while rig.endpoint.speaker._asked < 2:
                await asyncio.sleep(0.01)
        async with rig.http.delete("/say") as answer:
            assert await answer.json() == {"cleared": 2}
        asked.clear()
        answered.set()
        assert [status for status, _ in await asyncio.gather(*saying)] == [409, 409]
        assert rig.endpoint.speaker.queue.count == 0 and not asked.is_set()
        assert (await _say(rig))[0] == 202


async def test_what_can_not_be_said_is_said() -> None:
    async with audio() as rig:
        status, problem = await _say(rig)
        assert status == 503 and "AUDIO_STS_URL" in problem["detail"]
        for body in ({"text": ""}, {"text": "x" * 1_001}, {"language": "e n"}, {"surprise": 1}):
            status, problem = await _say(rig, **body)
            assert status == 422 and next(iter(body)) in problem["detail"]
    async with audio(AudioSettings(speech_url="http://127.0.0.1:1")) as rig:
        status, problem = await _say(rig)
        assert status == 503 and "does not answer" in problem["detail"]
        assert rig.endpoint.status().speech.failed == 1
    async with serving_sts(Service(ToneEngine(), token="sts-t0ken")) as sts:
        async with audio(AudioSettings(speech_url=sts)) as rig:
            status, problem = await _say(rig)
            assert status == 502 and "AUDIO_STS_TOKEN" in problem["detail"]

"""The bridge inside ``babelcast up``: an SRT source, encoded by the bridge, dubbed, and seen by a viewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.rig import PASSPHRASE, SMALL, free_udp_port, publisher
from tests.e2e.programs import STOPPED_S, babelcast, config_text, free_port, program, until, up, watching

pytestmark = [pytest.mark.e2e]


async def test_srt_to_bridge_to_dub(tmp_path: Path) -> None:
    srt = f"srt://127.0.0.1:{free_udp_port()}?passphrase={PASSPHRASE}"
    env_file, port = tmp_path / "media.env", free_port()
    audio = f"http://127.0.0.1:{port}"
    text = config_text(
        tmp_path, settings="backend: tone, delay: 2", more=f"bridge: {{env_file: {env_file}}}\naudio: {{port: {port}}}"
    )
    rtmp = next(part.split(":")[1].strip() for part in text.split(",") if part.strip().startswith("rtmp:"))
    settings = SMALL | {
        "SRT_URL": f"{srt}&mode=listener",
        "AUDIO_SOURCE": f"{audio}/stream",
        "PRIMARY_RTMP_URL": f"rtmp://127.0.0.1:{rtmp}/live/show/in",
    }
    env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    async with up(tmp_path, text) as running:
        assert f"audio endpoint: push to {audio}/ingest" in running.program.text

        async def live() -> bool:
            view = await running.get("/api/v1/bridge")
            return bool(view["status"]["state"] == "live" and view["health"]["status"] == "ok")

        async def said() -> bool:
            """Spoken by the speech service of ``up``, into the bridge's sound."""
            body = {"text": "Good evening and welcome", "language": "en"}
            async with running.http.post(f"{audio}/say", json=body) as answer:
                return answer.status == 202

        async def dubbed() -> bool:
            await said()
            return bool(await running.get("/api/v1/streams/show/segments"))

        with publisher(srt, sound=False):
            await until(live, "the bridge live")
            await until(said, "a text is spoken")
            async with watching(running.watch_url, tmp_path / "out.flv") as viewer:
                await until(lambda: len(viewer.video) > 75, "three seconds of the dubbed programme", 40)
                await until(dubbed, "what was said is dubbed", 30, 1.0)
                assert (await running.stream())["state"] == "running"
            async with running.http.post(f"{running.api}/api/v1/bridge/stop") as answer:
                assert (await answer.json())["status"]["state"] == "stopped"
        shown = running.program.text + str(await running.get("/api/v1/bridge"))
        status, seconds = await running.program.interrupt()
        assert status == 0 and seconds < STOPPED_S
        await running.program.all_gone()
    assert PASSPHRASE not in shown
    assert viewer.audio and viewer.longest_gaps()["video dts"] < 1.0


async def test_a_wrong_media_env_is_named(tmp_path: Path) -> None:
    (tmp_path / "media.env").write_text("FPS=25\nFSP=1\n")
    (tmp_path / "babelcast.yaml").write_text(
        config_text(tmp_path, more=f"bridge: {{env_file: {tmp_path / 'media.env'}}}")
    )
    async with program(*babelcast("up", "--config", str(tmp_path / "babelcast.yaml"))) as running:
        assert await running.ends(20) == 2
    assert "media.env:2: FSP: there is no such setting (did you mean FPS?)" in running.text

"""``babelcast demo`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import STOPPED_S, Program, babelcast, ffmpeg, program, until

pytestmark = pytest.mark.e2e

FILES = "report.json report.html original.mp4 dubbed.mp4 captions.en.vtt captions.es.vtt"
KEYS = (
    "dub_segments dub_lag_p50_s dub_lag_p95_s dub_offset_p50_s dub_offset_p95_s sentences_dubbed_ratio "
    "av_offset_ms_median video_identical fallback_seconds silent_gap_max_s output_seconds media_server"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of our own, in which the clip is made once."""
    return tmp_path_factory.mktemp("cache")


async def demo(folder: Path, cache: Path, *options: str, ends_with: int = 0) -> tuple[Program, dict[str, Any]]:
    """Run it to its end: what it said, and the report."""
    command = babelcast("demo", "--media-server", "relay", "--report", str(folder), *options)
    async with program(*command, env={"XDG_CACHE_HOME": str(cache)}) as running:
        assert await running.ends(90) == ends_with, running.text
        await running.all_gone(1)
    assert "Traceback" not in running.text
    file = folder / "report.json"
    return running, json.loads(file.read_text()) if file.exists() else {}


async def test_the_whole_demo(tmp_path: Path, cache: Path) -> None:
    running, report = await demo(tmp_path, cache, "--seconds", "12")
    assert {path.name for path in tmp_path.iterdir()} == set(FILES.split())
    assert set(KEYS.split()) <= set(report)
    assert report["media_server"] == "relay" and report["video_identical"] is True
    assert report["dub_segments"] >= 1
    assert report["output_seconds"] > 6, "of twelve: how long the worker takes to begin is not asked here"
    assert all(report[key] is not None for key in KEYS.split())
    assert abs(report["av_offset_ms_median"]) < 15
    assert (tmp_path / "captions.es.vtt").read_text().startswith("WEBVTT")
    assert "-->" in (tmp_path / "captions.es.vtt").read_text()
    assert "report.html" in running.text
    print({key: report[key] for key in KEYS.split()})


@pytest.mark.parametrize("backend", ["none", "tone"])
async def test_other_backends(backend: str, tmp_path: Path, cache: Path) -> None:
    _, report = await demo(tmp_path, cache, "--seconds", "12", "--backend", backend, "--delay", "2")
    assert {path.name for path in tmp_path.iterdir()} == set(FILES.split())
    assert report["video_identical"] is True
    if backend == "none":
        assert report["dub_segments"] == 0 and report["dub_lag_p50_s"] is None
    else:
        assert report["dub_segments"] >= 4 and report["dub_lag_p50_s"] is not None


async def test_a_recording_without_sound(tmp_path: Path, cache: Path) -> None:
    silent = tmp_path / "silent.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=10", "-c:v", "libx264", "-g", "25", str(silent))
    report_dir = tmp_path / "report"
    _, report = await demo(report_dir, cache, "--input", str(silent), "--delay", "2")
    assert report["video_identical"] is True
    assert report["dub_segments"] == 0
    assert report["dub_offset_p50_s"] is report["sentences_dubbed_ratio"] is None
    assert {path.name for path in report_dir.iterdir()} == set(FILES.split())


async def test_files_that_can_not_be_dubbed(tmp_path: Path, cache: Path) -> None:
    text, hevc = tmp_path / "text.mp4", tmp_path / "hevc.mp4"
    text.write_text("not a film")
    options = ("-c:v", "libx265", "-x265-params", "log-level=none", "-c:a", "aac")
    sources = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=3", "-f", "lavfi", "-i", "sine=d=3")
    ffmpeg(*sources, *options, str(hevc))
    for file, said in ((text, "neither pictures nor sound"), (hevc, "its video is hevc")):
        running, _ = await demo(tmp_path / "report", cache, "--input", str(file), ends_with=2)
        [line] = [line for line in running.lines if line.startswith("babelcast: ")]
        assert said in line
        assert not (tmp_path / "report").exists()


async def test_ctrl_c_in_the_middle(tmp_path: Path, cache: Path) -> None:
    command = babelcast("demo", "--media-server", "relay", "--seconds", "12", "--report", str(tmp_path / "report"))
    async with program(*command, env={"XDG_CACHE_HOME": str(cache), "TMPDIR": str(tmp_path)}) as running:
        await running.says("on air: ")
        await until(lambda: running.processes("babelcast worker"), "a worker")
        status, stop_s = await running.interrupt()
        await running.all_gone(1)
    assert status == 130 and running.lines[-1] == "babelcast: stopped; there is no report", running.text
    assert stop_s < STOPPED_S
    assert "Traceback" not in running.text and "Error" not in running.text, running.text
    assert not list(tmp_path.glob("babelcast-demo-*")) and not list(tmp_path.glob("report/.work"))

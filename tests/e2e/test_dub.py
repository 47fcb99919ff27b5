"""``babelcast dub IN OUT`` as a user runs it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.programs import STOPPED_S, babelcast, ffmpeg, free_port, program, until
from tests.worker.media import access_units, streams

pytestmark = pytest.mark.e2e


async def dub(*args: str | Path, within_s: float = 60) -> tuple[int, list[str]]:
    """Exit status and what it said; nothing of it is left running."""
    async with program(*babelcast("dub", *map(str, args))) as running:
        status = await running.ends(within_s)
        await running.all_gone(1)
    assert "Traceback" not in running.text
    return status, [line for line in running.lines if line]


async def test_a_file_is_dubbed(talk: Path, tmp_path: Path) -> None:
    status, said = await dub(talk, tmp_path / "out.mp4", "--journal", tmp_path / "journal")
    assert status == 0, said
    assert said[-1].startswith(f"{tmp_path / 'out.mp4'}: ") and "segments dubbed" in said[-1]
    assert streams(tmp_path / "out.mp4") == ["aac", "h264"]
    assert access_units(tmp_path / "out.mp4") == access_units(talk)
    assert (tmp_path / "journal" / "segments.es.jsonl").read_text().count("\n") >= 2
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "journal"}


async def test_what_can_not_be_done_is_one_sentence_and_leaves_nothing(talk: Path, tmp_path: Path) -> None:
    text, silent = tmp_path / "text.mp4", tmp_path / "silent.mp4"
    text.write_text("not a film")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", silent)
    out, nobody = tmp_path / "out.mp4", f"127.0.0.1:{free_port()}"
    cases: list[tuple[int, str, tuple[str | Path, ...]]] = [
        (2, "there is no file none.mp4", ("none.mp4", out)),
        (1, "the source could not be read: it is no media file that can be read", (text, out)),
        (
            1,
            "the source could not be read: the server can't be reached",
            (f"http://{nobody}/a.mp4", out),
        ),
        (1, "Connection refused", (f"rtmp://{nobody}/live/show", out)),
        (1, "the source has no sound to dub", (silent, out)),
        (1, "en to ja", (talk, out, "--target-language", "ja")),
        (2, "targets.0.language", (talk, out, "--target-language", "Spanish!")),
        (2, "there is no folder", (talk, tmp_path / "none" / "out.mp4")),
        (2, "can't write to the folder /proc", (talk, "/proc/out.mp4")),
        (2, ".avi", (talk, tmp_path / "out.avi")),
        (2, "OUT must be a file", (talk, "rtmp://127.0.0.1/live/show/out")),
        (2, "IN and OUT are the same file", (talk, talk)),
        (1, "can't be reached: connection refused", (talk, out, "--sts-url", f"http://{nobody}")),
    ]
    for wanted, sentence, args in cases:
        status, said = await dub(*args)
        assert status == wanted, (args, said)
        assert len(said) == 1 and said[0].startswith("babelcast: ") and sentence in said[0], said
        assert not any(word in said[0] for word in ("Gst", "gst", "reason error", "quark")), said
        assert {path.name for path in tmp_path.iterdir()} == {"text.mp4", "silent.mp4"}, args


async def test_a_service_that_hangs_leaves_no_half_dubbed_file(talk: Path, tmp_path: Path) -> None:
    port = free_port()
    async with program(*babelcast("sts", "--port", str(port), "--engine", "tone")) as service:
        await service.says("sts ready")
        service.process.send_signal(signal.SIGSTOP)  # it takes the connection and never says a word
        status, said = await dub(talk, tmp_path / "out.mp4", "--sts-url", f"http://127.0.0.1:{port}")
    assert status == 1 and "does not answer" in said[-1], said
    assert not list(tmp_path.iterdir())


async def test_ctrl_c_leaves_the_old_file_as_it_was(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("the old one")
    async with program(*babelcast("dub", str(talk), str(out))) as running:
        await until(lambda: running.processes("babelcast sts"), "its speech service")
        status, stop_s = await running.interrupt()
        await running.all_gone(1)
    assert status == 130 and "nothing was written" in running.text
    assert stop_s < STOPPED_S
    assert out.read_text() == "the old one" and [path.name for path in tmp_path.iterdir()] == ["out.mp4"]

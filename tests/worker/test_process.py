"""The worker as a process: its record, its status server, its end; and ``dub`` from file to file."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from babelcast.spec import BackendSpec, SegmentEntry, TargetSpec, WorkerRecord, WorkerSpec, WorkerStatus
from babelcast.worker.offline import DubJob
from tests.worker.fake_speech import FakeBackend
from tests.worker.media import access_units, av_offsets_ms, make_clip, streams

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

BABELCAST = (sys.executable, "-m", "babelcast")


def fetch(url: str, *, post: bool = False) -> bytes:
    request = urllib.request.Request(url, method="POST" if post else "GET")
    with urllib.request.urlopen(request, timeout=5) as answer:
        body: bytes = answer.read()
        return body


def spec_of(folder: Path, **more: Any) -> Path:
    settings: dict[str, Any] = {
        "stream_id": "show",
        "generation": 3,
        "ingest_url": "rtmp://127.0.0.1:9/live/show/in",
        "targets": (TargetSpec(language="es", output_url="rtmp://127.0.0.1:9/live/show/out"),),
        "backend": BackendSpec(kind="none"),
    }
    file = folder / "spec.json"
    file.write_text(WorkerSpec(**(settings | more)).model_dump_json())
    return file


def wait_for_record(folder: Path) -> WorkerRecord:
    deadline = time.monotonic() + 20
    while not (folder / "worker.json").exists():
        assert time.monotonic() < deadline, "the worker never wrote its record"
        time.sleep(0.05)
    return WorkerRecord.model_validate_json((folder / "worker.json").read_bytes())


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "/stop"])
def test_a_worker_says_where_it_is_and_ends_when_asked(tmp_path: Path, how: str) -> None:
    with subprocess.Popen([*BABELCAST, "worker", "--spec", str(spec_of(tmp_path))], stderr=subprocess.PIPE) as process:
        try:
            record = wait_for_record(tmp_path)
            assert (record.pid, record.stream_id, record.generation) == (process.pid, "show", 3)
            started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
            assert record.pid_start_time == float(started)
            base = f"http://127.0.0.1:{record.status_port}"
            assert json.loads(fetch(f"{base}/healthz")) == {"status": "ok"}
            status = WorkerStatus.model_validate_json(fetch(f"{base}/status"))
            assert status.state in ("starting", "waiting")
            assert fetch(f"{base}/segments?after=-1") == b"[]"
            metrics = fetch(f"{base}/metrics").decode()
            assert "worker_av_sync_delta_ms" in metrics
            asked = time.monotonic()
            if how == "/stop":
                fetch(f"{base}/stop", post=True)
            else:
                process.send_signal(signal.Signals[how])
            assert process.wait(10) == 0
            assert time.monotonic() - asked < 5
        finally:
            process.kill()
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert lines
    assert all(line["streamId"] == "show" for line in lines)


@pytest.mark.parametrize(
    "spec", ['{"stream_id": "UPPER"}', "no json", None], ids=["wrong value", "no json", "output that can't be"]
)
def test_a_spec_that_can_never_work_ends_with_64(tmp_path: Path, spec: str | None) -> None:
    file = tmp_path / "spec.json"
    if spec is None:
        file = spec_of(tmp_path, targets=(TargetSpec(language="es", output_url="gopher://x"),))
    else:
        file.write_text(spec)
    done = subprocess.run([*BABELCAST, "worker", "--spec", str(file)], capture_output=True, timeout=30)
    assert done.returncode == 64
    assert b"Traceback" not in done.stderr


def test_two_workers_may_not_share_a_status_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        file = spec_of(tmp_path, status_port=taken.getsockname()[1])
        done = subprocess.run([*BABELCAST, "worker", "--spec", str(file)], capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def job(source: Path, output: Path, backend: FakeBackend | None, **more: Any) -> DubJob:
    spec = WorkerSpec(
        stream_id="dub",
        ingest_url=str(source),
        targets=(TargetSpec(language="es", output_url=str(output)),),
        backend=BackendSpec(kind="sts" if backend else "none"),
        **more,
    )
    return DubJob(spec, backend, lambda done, total: None)


async def test_a_file_is_dubbed_faster_than_it_plays(tmp_path: Path) -> None:
    source, output = make_clip(tmp_path / "in.mp4", 60), tmp_path / "out.mp4"
    started = time.monotonic()
    dub = job(source, output, FakeBackend(), separation="off", journal_dir=tmp_path)
    await dub.run()
    assert time.monotonic() - started < 30
    assert access_units(output) == access_units(source)
    assert len(dub.entries) == 59  # the last second is not whole
    assert all(entry.dub_offset_s == 0.0 for entry in dub.entries[1:])
    lines = (tmp_path / "segments.es.jsonl").read_text().splitlines()
    assert [SegmentEntry.model_validate_json(line) for line in lines] == dub.entries


def rewrapped(source: Path, output: Path) -> Path:
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(source), "-c", "copy", str(output)], check=True, timeout=30)
    return output


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".flv", ".ts"])
async def test_every_container_keeps_pictures_and_sync(tmp_path: Path, suffix: str) -> None:
    source, output = make_clip(tmp_path / "in.flv", 6), tmp_path / f"out{suffix}"
    await job(source, output, None).run()
    if suffix == ".ts":  # there access units are written in another form, and time begins at an hour
        output = rewrapped(output, tmp_path / "out.mkv")
    else:
        assert access_units(output) == access_units(source)
    offsets = av_offsets_ms(output)
    assert len(offsets) == 2
    assert all(-15 < offset < 45 for offset in offsets)


async def test_a_file_without_pictures(tmp_path: Path) -> None:
    source, output = make_clip(tmp_path / "in.mp4", 3, video=None), tmp_path / "out.mp4"
    await job(source, output, FakeBackend(), separation="off").run()
    assert streams(output) == ["aac"]


def dub_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BABELCAST, "dub", *arguments], capture_output=True, text=True, timeout=60)


def test_errors_of_dub_are_one_clear_line(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 2)
    mute = make_clip(tmp_path / "mute.mp4", 2, audio=None)
    output = str(tmp_path / "out.mp4")
    cases = {
        "there is no file": [str(tmp_path / "nothing.mp4"), output],
        "can't be written": [str(clip), str(tmp_path / "out.txt")],
        "are the same file": [str(clip), str(clip)],
        "no sound": [str(mute), output, "--backend", "tone", "--sts-url", "http://127.0.0.1:9"],
        "target": [str(clip), output, "--target-language", "not a language"],
    }
    for words, arguments in cases.items():
        done = dub_command(*arguments)
        assert done.returncode in (1, 2), words
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not Path(output).exists()


def test_dub_passes_over_h265(tmp_path: Path) -> None:
    video = "-c:v libx265 -preset ultrafast -x265-params log-level=none"
    clip = make_clip(tmp_path / "in.mkv", 2, video=video)
    done = dub_command(str(clip), str(tmp_path / "out.mkv"), "--backend", "none")
    assert done.returncode == 0, done.stderr
    assert "H.265" in done.stdout
    assert streams(tmp_path / "out.mkv") == ["aac"]

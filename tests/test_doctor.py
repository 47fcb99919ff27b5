"""What ``babelcast doctor`` says where something is missing, as a user calls it."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.programs import free_port

pytestmark = pytest.mark.integration


def doctor(text: str, folder: Path, **environment: str) -> tuple[int, dict[str, str], list[str]]:
    """Exit status, subject → ``level: detail``, and the advice."""
    file = folder / "babelcast.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "babelcast", "doctor", "--config", str(file)],
        env=dict(os.environ) | {"HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    findings, advice = {}, []
    for line in done.stdout.splitlines():
        if line.startswith("        → "):
            advice.append(line.removeprefix("        → "))
        elif ": " in line:
            level, _, rest = line.partition(" ")
            subject, _, detail = rest.strip().partition(": ")
            findings[subject] = f"{level}: {detail}"
    return done.returncode, findings, advice


def config(folder: Path, more: str = "", **settings: object) -> str:
    ports = {"rtmp": free_port(), "api": free_port()} | settings
    return (
        f"media_server: relay\nstate_dir: {folder / 'state'}\n"
        f"listen: {{host: 127.0.0.1, rtmp: {ports['rtmp']}, api: {ports['api']}}}\n{more}"
    )


def test_all_is_well(tmp_path: Path) -> None:
    status, findings, _ = doctor(config(tmp_path), tmp_path)
    assert status == 0
    assert findings["translation en → es"] == "ok: apertium eng-spa"
    assert findings["config file"].startswith("ok: ")
    assert not [subject for subject, finding in findings.items() if finding.startswith("error")]


def test_nothing_is_installed(tmp_path: Path) -> None:
    status, findings, advice = doctor(config(tmp_path), tmp_path, PATH=str(tmp_path))
    assert status == 1
    for subject in ("ffmpeg", "espeak-ng", "apertium"):
        assert findings[subject].startswith("error: not found")
    assert {"apt-get install ffmpeg", "apt-get install espeak-ng"} <= set(advice)
    assert any(line.startswith("apt-get install apertium") for line in advice)


def test_mediamtx_is_asked_for_and_not_here(tmp_path: Path) -> None:
    text = config(tmp_path).replace("media_server: relay", "media_server: mediamtx")
    status, findings, advice = doctor(text, tmp_path, PATH="/usr/bin:/bin")
    assert (status, findings["MediaMTX"].split(":")[0]) == (1, "error")
    assert "babelcast mediamtx install" in advice


def test_a_file_of_the_usual_name_is_taken_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "babelcast.yaml").write_text("defaults:\n  dealy: 6\n")
    command = [sys.executable, "-m", "babelcast", "doctor"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "babelcast.yaml:2: defaults.dealy" in said


def test_a_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, findings, advice = doctor(config(tmp_path, rtmp=port), tmp_path)
    assert status == 1
    assert findings[f"port {port}"] == "error: listen.rtmp: Address already in use"
    assert any(f"sport = :{port}" in line and "listen.rtmp" in line for line in advice)


def test_the_config_is_wrong(tmp_path: Path) -> None:
    status, findings, _ = doctor("defaults:\n  dealy: 6\nstreams: {'[/x]': {}}\n", tmp_path)
    assert status == 1
    [said] = [finding for subject, finding in findings.items() if subject == "config file"]
    assert "babelcast.yaml:" in said


def test_a_wrong_key_is_named_with_its_line_and_the_right_one(tmp_path: Path) -> None:
    _, findings, _ = doctor("defaults:\n  dealy: 6\n", tmp_path)
    assert "babelcast.yaml:2: defaults.dealy" in findings["config file"]
    assert "did you mean delay?" in findings["config file"]


def test_the_state_folder_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = config(tmp_path).replace(str(tmp_path / "state"), str(tmp_path / "file" / "state"))
    status, findings, advice = doctor(text, tmp_path)
    assert (status, findings["state folder"].split(":")[0]) == (1, "error")
    assert "set state_dir to a folder you can write" in advice


def test_the_speech_service_and_a_destination_do_not_answer(tmp_path: Path) -> None:
    port = free_port()
    more = (
        f'speech: {{url: "http://127.0.0.1:{port}", token: the-token}}\n'
        f'streams: {{show: {{destinations: [{{name: p, url: "rtmp://127.0.0.1:{port}/app", key: the-key}}]}}}}\n'
    )
    status, findings, advice = doctor(config(tmp_path, more), tmp_path)
    assert status == 1
    assert findings["speech service"] == f"error: http://127.0.0.1:{port}: Connection refused"
    assert findings["destination show/p"] == f"warning: 127.0.0.1:{port}: Connection refused"
    assert "start it, or mend speech.url" in advice
    assert not any(secret in str((findings, advice)) for secret in ("the-token", "the-key"))


def test_a_language_that_nobody_translates(tmp_path: Path) -> None:
    status, findings, _ = doctor(config(tmp_path, "defaults: {target_languages: [ja]}\n"), tmp_path)
    assert (status, findings["translation en → ja"].split(":")[0]) == (1, "error")


def test_a_mediamtx_that_is_named_and_not_there_does_not_end_the_examination(tmp_path: Path) -> None:
    text = config(tmp_path, "mediamtx: {binary: /nowhere/mediamtx}\n").replace("relay", "auto")
    status, findings, _ = doctor(text, tmp_path)
    assert status == 1 and findings["MediaMTX"].startswith("error: no program at /nowhere/mediamtx")
    assert findings["state folder"].startswith("ok: "), "what comes after it is looked at too"


def test_a_media_server_that_runs_elsewhere_must_answer(tmp_path: Path) -> None:
    status, findings, _ = doctor(config(tmp_path, "mediamtx: {api: 'http://127.0.0.1:9'}\n"), tmp_path)
    assert status == 1 and findings["media server"].startswith("error: http://127.0.0.1:9: ")
    assert not any("listen.rtmp" in finding for finding in findings.values()), "its ports are its own"


def test_a_cloud_without_a_key_and_engines_that_are_not_the_offline_ones(tmp_path: Path) -> None:
    more = (
        "defaults: {backend: [sts, gemini-live], target_languages: [xx]}\n"
        "speech: {mt: [ctranslate2:some-model], tts: [sherpa:some-voice]}\n"
    )
    _, findings, advice = doctor(config(tmp_path, more), tmp_path, GEMINI_API_KEY="")
    assert findings["Gemini Live"].startswith("error: ") and "export GEMINI_API_KEY=…" in advice
    assert not {"apertium", "espeak-ng", "translation en → xx"} & set(findings)
    _, findings, _ = doctor(config(tmp_path, more), tmp_path, GEMINI_API_KEY="k")
    assert "Gemini Live" not in findings


def test_ports_of_one_that_runs_are_no_fault(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = config(tmp_path, rtmp=taken.getsockname()[1])
        (tmp_path / "state").mkdir()
        with (tmp_path / "state" / "up.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status, findings, _ = doctor(text, tmp_path)
            assert status == 0
            assert "runs here" in findings[f"port {taken.getsockname()[1]}"]
        assert doctor(text, tmp_path)[0] == 1

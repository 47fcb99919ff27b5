"""A worker without media: ``python fake_worker.py [options] --spec FILE``. Obeys the worker's contract, or breaks it.

It writes ``worker.json`` next to the spec, serves /healthz, /status, /metrics, /segments and POST /stop on loopback,
and ends with 0 on SIGTERM. Its misbehaviour comes from the options and, so that it can change while an orchestrator
runs, from the words in the file ``--behaviour-file``: ``never-ready`` ``exit=N`` ``crash-after=S`` ``ignore-term``
``leak=MB`` ``chatty``. ``hang`` and ``exit-now=N`` are looked at every 50 ms while it runs. It imports nothing of
ours, so that it starts fast.
"""

import argparse
import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--behaviour-file", type=Path)
    args = parser.parse_args()
    spec = json.loads(args.spec.read_text())
    State.behaviour_file = args.behaviour_file
    words = behaviour(args.behaviour_file)
    print(f"fake worker of {spec['stream_id']} pulls {spec['ingest_url']}", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "ignore-term" in words else lambda *_: os._exit(0))
    if "exit" in words:
        print(json.dumps({"level": "error", "message": "asked to fail"}), flush=True)
        os._exit(int(words["exit"]))
    if "leak" in words:
        globals()["leaked"] = b"x" * (int(words["leak"]) << 20)
    if "never-ready" not in words:
        serve(spec, args.spec)
    started = time.monotonic()
    while True:
        time.sleep(0.05)
        if "chatty" in words:
            print("x" * 1000, flush=True)
        now = behaviour(args.behaviour_file)
        State.hang = "hang" in now
        if "exit-now" in now:
            os._exit(int(now["exit-now"]))
        if "crash-after" in words and time.monotonic() - started > float(words["crash-after"]):
            os.kill(os.getpid(), signal.SIGKILL)


def behaviour(file: Path | None) -> dict[str, str]:
    try:
        words = file.read_text().split() if file else []
    except OSError:
        words = []
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


class State:
    spec: dict[str, Any]
    hang = False
    behaviour_file: Path | None = None
    controls: dict[str, Any] | None = None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        while State.hang:
            time.sleep(0.05)
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer({"status": "ok"})
        elif url.path == "/status":
            self.answer(status(State.spec))
        elif url.path == "/segments":
            after = int(parse_qs(url.query).get("after", ["-1"])[0])
            self.answer([segment(n, State.spec["targets"][0]["language"]) for n in range(3) if n > after])
        elif url.path == "/controls":
            self.answer(State.controls)
        elif url.path == "/metrics":
            self.answer({})
        else:
            self.send_error(404)

    def do_PUT(self) -> None:
        """``/controls``: kept and shown in the status; refused as the behaviour file says."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "refuse-controls" in behaviour(State.behaviour_file):
            self.answer({"detail": "not while it rains"}, 409)
            return
        State.controls = body
        self.answer(body)

    def do_POST(self) -> None:
        self.answer({})
        threading.Timer(0.05, os._exit, (0,)).start()

    def answer(self, document: object, status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(spec: dict[str, Any], spec_file: Path) -> None:
    State.spec = spec
    State.controls = spec.get("controls")
    server = ThreadingHTTPServer(("127.0.0.1", spec["status_port"]), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    record = {
        "stream_id": spec["stream_id"],
        "generation": spec["generation"],
        "pid": os.getpid(),
        "pid_start_time": float(fields[19]),
        "status_port": server.server_address[1],
    }
    spec_file.with_name("worker.json.tmp").write_text(json.dumps(record))
    spec_file.with_name("worker.json.tmp").replace(spec_file.with_name("worker.json"))


def status(spec: dict[str, Any]) -> dict[str, Any]:
    """A WorkerStatus whose texts hold a key that must not get out."""
    target = {
        "language": spec["targets"][0]["language"],
        "output_state": "live",
        "backend_state": "open",
        "fallback": None,
        "fallback_seconds": 0.0,
        "segments": 3,
        "dropped_segments": 0,
        "dub_lag_s": 2.5,
        "dub_offset_s": 0.1,
        "published_seconds": 12.0,
        "last_error": "rtmp://third.example/app/leaked-key refused",
    }
    return {
        "stream_id": spec["stream_id"],
        "generation": spec["generation"],
        "state": "live",
        "delay_s": spec["delay_s"],
        "separation": "off",
        "source_seconds": 18.0,
        "av_sync_delta_ms": 0.0,
        "video_caps": "video/x-h264",
        "audio_caps": "audio/mpeg",
        "warnings": ["the source is mono"],
        "last_error": None,
        "targets": [target],
    } | ({"controls": State.controls} if State.controls else {})


def segment(sequence: int, language: str) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "segment_id": f"s{sequence}",
        "language": language,
        "source_start_ns": sequence * 10**9,
        "source_end_ns": (sequence + 1) * 10**9,
        "placed_ns": sequence * 10**9,
        "duration_ns": 10**9,
        "tempo": 1.0,
        "dub_lag_s": 2.5,
        "dub_offset_s": 0.0,
        "transcript": "hello",
        "translation": "hola",
        "voice": "es",
    }


if __name__ == "__main__":
    main()

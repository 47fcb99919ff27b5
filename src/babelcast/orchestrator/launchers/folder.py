"""The files of one worker: ``<state>/workers/<stream>/<generation>/``.

============  =========================================================================================
spec.json     what the worker is told; readable by its owner alone, for it may hold a token. It is there
              exactly as long as the worker may live.
launch.json   PID and start time, written by us as soon as it is started
worker.json   the WorkerRecord, written by the worker once it listens
exit.json     its exit status, written by the worker as the last thing it does; absent when it was killed
worker.log    what it wrote; bounded, with ``worker.log.1`` before it
============  =========================================================================================
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from babelcast.process import read_exit
from babelcast.spec import WorkerRecord, WorkerSpec
from babelcast.telemetry.redact import redact

KEPT_GENERATIONS = 3
_TAIL_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class WorkerFolder:
    path: Path

    @property
    def stream_id(self) -> str:
        return self.path.parent.name

    @property
    def generation(self) -> int:
        return int(self.path.name)

    @property
    def spec_file(self) -> Path:
        return self.path / "spec.json"

    @property
    def log_file(self) -> Path:
        return self.path / "worker.log"

    def create(self, spec: WorkerSpec) -> None:
        """Empty but for the spec file."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, mode=0o700)
        _write_private(self.spec_file, spec.model_dump_json())

    def read_spec(self) -> WorkerSpec | None:
        try:
            return WorkerSpec.model_validate_json(self.spec_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write_launch(self, pid: int, started: float) -> None:
        _write_private(self.path / "launch.json", json.dumps({"pid": pid, "pid_start_time": started}))

    def read_launch(self) -> tuple[int, float] | None:
        """PID and start time, by our own record or the worker's; None when neither is there (yet)."""
        try:
            record = json.loads((self.path / "launch.json").read_bytes())
            return int(record["pid"]), float(record["pid_start_time"])
        except (OSError, ValueError, KeyError, TypeError):
            worker = self.read_record()
            return (worker.pid, worker.pid_start_time) if worker else None

    def read_record(self) -> WorkerRecord | None:
        """What the worker wrote; None until then, and while it is half written."""
        try:
            return WorkerRecord.model_validate_json((self.path / "worker.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def read_exit(self, pid: int, started: float) -> int | None:
        """The exit status that the worker left; None when it was killed or crashed."""
        return read_exit(self.path, pid, started)

    def mark_ended(self) -> None:
        """The worker is gone; its log stays until later generations push it out."""
        self.spec_file.unlink(missing_ok=True)

    def rotate_log(self, limit_bytes: int) -> None:
        rotate_log(self.log_file, limit_bytes)

    def tail(self, lines: int) -> list[str]:
        """The last lines of the log, redacted."""
        text = ""
        for file in (self.path / "worker.log.1", self.log_file):
            try:
                with file.open("rb") as log:
                    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                    text += log.read().decode("utf-8", "replace")
            except OSError:
                continue
        return [redact(line) for line in text.splitlines()[-lines:]] if lines > 0 else []

    def last_words(self) -> str | None:
        """The last error in the log, to explain an end; of a log that is not ours the last line."""
        for line in reversed([line for line in self.tail(20) if line.strip()]):
            try:
                entry = json.loads(line)
            except ValueError:
                return line[:300]
            if isinstance(entry, dict) and entry.get("level") in {"error", "critical"}:
                return str(entry.get("message"))[:300]
        return None


def rotate_log(file: Path, limit_bytes: int) -> None:
    """Keep ``file`` below the limit, with one old part beside it. Its writer holds it open for appending, so it is
    copied and cut, not renamed; what is written in between is lost."""
    try:
        if file.stat().st_size > limit_bytes:
            shutil.copyfile(file, file.with_name(f"{file.name}.1"))
            os.truncate(file, 0)
    except OSError:
        pass  # a full disk must not end the supervision


def worker_folders(root: Path, stream_id: str | None = None) -> list[WorkerFolder]:
    """All folders under ``root``, of one stream or of all, by stream and generation."""
    streams = [root / stream_id] if stream_id else sorted(root.iterdir()) if root.is_dir() else []
    return [
        WorkerFolder(path)
        for stream in streams
        if stream.is_dir()
        for path in sorted((p for p in stream.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    ]


def prune(root: Path) -> None:
    """Remove old logs: of each stream all but the last generations."""
    by_stream: dict[Path, list[WorkerFolder]] = {}
    for folder in worker_folders(root):
        by_stream.setdefault(folder.path.parent, []).append(folder)
    for folders in by_stream.values():
        for folder in folders[:-KEPT_GENERATIONS]:
            if not folder.spec_file.exists():
                shutil.rmtree(folder.path, ignore_errors=True)


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by the owner alone."""
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)

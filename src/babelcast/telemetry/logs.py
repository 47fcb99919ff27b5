"""Logging: JSON lines for machines, one short line for a terminal. Ids, never content; every URL redacted."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal

from babelcast.telemetry.redact import redact

LogFormat = Literal["json", "text"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller passed as ``extra={"streamId": …, "fragment.id": …, "batchNumber": …, "stage": …}``."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in extra_fields(record).items():
            line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=lambda value: redact(str(value)))


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in extra_fields(record).items())
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{stamp} {record.levelname.lower():7} {record.name.removeprefix('babelcast.')}: {record.getMessage()}"
        if fields:
            text = f"{text} [{fields}]"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return redact(text)


def setup_logging(log_format: LogFormat = "json", level: str = "info") -> None:
    """Send all logging to stderr in ``log_format``. Called once, by each command's entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # websockets logs every header at debug level, keys among them
    for noisy in ("aiohttp.access", "uvicorn.access", "asyncio", "websockets"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class RateLimited:
    """Lets one message through per ``interval_s`` and counts the rest: a hot path's errors become one line a second.

    ``ready()`` returns the number of suppressed messages since the last one, or None when this one is to be
    swallowed.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._last = float("-inf")
        self._suppressed = 0

    def ready(self) -> int | None:
        now = time.monotonic()
        if now - self._last < self._interval_s:
            self._suppressed += 1
            return None
        suppressed, self._suppressed, self._last = self._suppressed, 0, now
        return suppressed

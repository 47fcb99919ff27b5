"""The hook that MediaMTX runs: ``notify.py ready|not-ready`` tells the orchestrator that a path came or went.

Run as a file (``python -I -S notify.py …``), so that it starts in some 30 ms: it imports nothing of Babelcast.
Reads ``MTX_PATH``, ``MTX_QUERY`` (URL-encoded), ``MTX_SOURCE_TYPE``, ``MTX_SOURCE_ID`` and ``BABELCAST_EVENTS_URL``
(the orchestrator's base address) from its environment. Gives up after 2 s: the orchestrator also polls, and MediaMTX
waits for its hooks when it ends.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from urllib.parse import unquote_plus, urlsplit

TIMEOUT_S = 2.0


def event(environment: dict[str, str]) -> dict[str, str]:
    """The event's body. ``query`` as the publisher wrote it."""
    return {
        "path": environment.get("MTX_PATH", ""),
        "query": unquote_plus(environment.get("MTX_QUERY", "")),
        "sourceType": environment.get("MTX_SOURCE_TYPE", ""),
        "sourceId": environment.get("MTX_SOURCE_ID", ""),
    }


def post(url: str, body: dict[str, str]) -> int:
    """POST ``body`` as JSON to ``url`` and return the HTTP status. Raises OSError or http.client.HTTPException."""
    parts = urlsplit(url)
    connection_type = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connection_type(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "X-Request-Id": os.urandom(8).hex()}
        connection.request("POST", parts.path, json.dumps(body), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    url = os.environ.get("BABELCAST_EVENTS_URL")
    if not url or len(arguments) != 1 or arguments[0] not in {"ready", "not-ready"}:
        return 0  # nobody to tell
    try:
        status = post(f"{url.rstrip('/')}/v1/media/events/{arguments[0]}", event(dict(os.environ)))
    except (OSError, http.client.HTTPException) as error:
        print(f"babelcast notify: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0 if status < 300 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""RTMP addresses: what is the application, what is the stream name (the key)."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from babelcast.errors import RtmpError

_PORTS = {"rtmp": 1935, "rtmps": 443}


@dataclass(frozen=True, slots=True)
class RtmpTarget:
    """Where to connect and what to ask for. ``key`` is a secret with third parties: never log it."""

    host: str
    port: int
    tls: bool
    app: str
    key: str = field(repr=False)
    tc_url: str


def parse_url(url: str, key: str | None = None) -> RtmpTarget:
    """Split ``rtmp[s]://host[:port]/app…/key[?query]``.

    Without ``key``, the last path component is the key and keeps the query: ``live/<id>/in`` is key ``in`` of
    application ``live/<id>``, which servers join again. With ``key``, the whole path (and query) is the
    application, as in an encoder that asks for server and stream key apart. Raises RtmpError (not retryable).
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RtmpError("malformed RTMP address", retryable=False) from None
    if parts.scheme not in _PORTS or not host:
        raise RtmpError(
            "not an RTMP address", hint="expected rtmp://host/app/key or rtmps://host/app/key", retryable=False
        )
    query = f"?{parts.query}" if parts.query else ""
    if key is None:
        app, _, name = parts.path.strip("/").rpartition("/")
        key = name + query
        if not name:
            raise RtmpError("the RTMP address names no stream", retryable=False)
    else:
        app = parts.path.strip("/") + query
    shown_host = f"[{host}]" if ":" in host else host
    address = f"{shown_host}:{port}" if port else shown_host
    return RtmpTarget(
        host=host,
        port=port or _PORTS[parts.scheme],
        tls=parts.scheme == "rtmps",
        app=app,
        key=key,
        tc_url=f"{parts.scheme}://{address}/{app}",
    )


def join_path(app: str, name: str) -> tuple[str, str]:
    """Path and query of application and stream name: ``live/abc?x=1``, ``in`` → ``live/abc/in``, ``x=1``."""
    app_path, _, app_query = app.partition("?")
    name_path, _, name_query = name.partition("?")
    path = "/".join(part for part in (app_path.strip("/"), name_path.strip("/")) if part)
    return path, "&".join(query for query in (app_query, name_query) if query)


LONGER = "longer"
"""In the query of a play: the embedded relay then begins one group of pictures earlier. Other servers ignore it."""


def asking_longer(url: str) -> str:
    """The address of a source, asking for more of its past where it is read by RTMP."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        return url
    return parts._replace(query="&".join(part for part in (parts.query, LONGER) if part)).geturl()

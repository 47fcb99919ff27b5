"""Names of hosts: this machine, and who is meant by a URL or a header. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def reachable(host: str) -> str:
    """The address to listen on, ``host``, as this machine's own processes reach it; ready for a URL."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def names_this_machine(authority: str | None) -> bool:
    """Whether a ``Host`` header (or another ``HOST:PORT``) means this machine by its own name."""
    try:
        return urlsplit(f"//{authority or ''}").hostname in LOOPBACK
    except ValueError:  # half an IPv6 address
        return False


def same_origin(origin: str, authority: str | None) -> bool:
    """Whether an ``Origin`` header is of a page that came from the host of the ``Host`` header."""
    return origin.partition("://")[2] == authority

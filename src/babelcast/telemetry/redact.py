"""Secrets out of text: stream keys, tokens and passwords in URLs, before anything is logged or shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

MASK = "***"
_LOCAL_PATH = re.compile(r"/?live/[a-z0-9][a-z0-9_-]{0,62}/(in|out(/[A-Za-z0-9-]+)?)")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>|\]]+", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"user|username|streamid|jwt|auth|authorization|pwd|sig|.*(pass|passwd|password|passphrase|token|key|secret|signature"
    r"|credential|credentials)"
)
"""Of a query's values; as it is without dashes and underscores: ``api_key``, ``X-Amz-Signature``."""
_RTMP = {"rtmp", "rtmps", "rtmpt", "rtmpte"}
_BEARER = re.compile(r"\b(Bearer)\s+[A-Za-z0-9._~+/=-]+", re.IGNORECASE)


def redact_url(url: str) -> str:
    """``url`` with user info, secret query values, fragment and an RTMP stream key masked.

    For RTMP the last path component is the key, unless the path is one of ours (``live/<id>/in|out``), and every value
    of the query is part of it: some platforms' keys are ``FB-1234?s_bl=1&a=SECRET``.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    if ":" in host:
        host = f"[{host}]"
    user = f"{MASK}@" if parts.username or parts.password else ""
    all_secret = parts.scheme.lower() in _RTMP
    query = "&".join(
        f"{quote(name)}={MASK if _is_secret(name) or (all_secret and value) else quote(value)}"
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return (
        f"{parts.scheme}://{user}{host}{port}{_redact_path(parts)}"
        + (f"?{query}" if query else "")
        + (f"#{MASK}" if parts.fragment else "")
    )


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name.lower().replace("-", "").replace("_", "")) is not None


def _redact_path(parts: SplitResult) -> str:
    if parts.scheme.lower() not in _RTMP or _LOCAL_PATH.fullmatch(parts.path):
        return parts.path
    head, _, key = parts.path.rpartition("/")
    # one component is the app alone: rtmp://host/app has no key in it
    return f"{head}/{MASK}" if head and key else parts.path


def redact(text: str) -> str:
    """``text`` with every URL in it redacted, and bearer tokens masked."""
    return _BEARER.sub(rf"\1 {MASK}", _URL.sub(lambda match: redact_url(match.group()), text))

"""The service's refusals as our errors, in one place for both clients."""

from __future__ import annotations

import os
from collections.abc import Mapping

from babelcast.errors import SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.telemetry.redact import redact_url

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "unauthorized",
    413: "bad_request",
    415: "unsupported_format",
    422: "unsupported_language",
    429: "rate_limited",
    502: "engine_failed",
    503: "overloaded",
    504: "deadline",
}
_LONGEST_WAIT_S = 60.0
"""Whatever a service says: on air a dub that comes back is worth a try a minute."""
_RETRYABLE = {"overloaded", "rate_limited", "deadline", "engine_failed", "internal"}


def error_for(
    status: int | None,
    code: str | None = None,
    message: str | None = None,
    retryable: bool | None = None,
    retry_after_s: float | None = None,
) -> SpeechError:
    """The error for an HTTP ``status`` or for what the service said itself, which has the last word."""
    code = code or _CODES.get(status or 0, "internal")
    if retryable is None:
        retryable = code in _RETRYABLE
    text = message or f"the speech service answered {status}"
    if code == "unauthorized":
        return SpeechError(text, code=code, retryable=False, hint="set speech.token to one that it knows")
    if code == "unsupported_language":
        return UnsupportedLanguageError(text, code=code, retryable=retryable)
    if not retryable:
        return SpeechError(text, code=code, retryable=False)
    wait_s = None if retry_after_s is None else min(retry_after_s, _LONGEST_WAIT_S)
    return SpeechUnavailableError(text, code=code, retry_after_s=wait_s)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """What ``Retry-After`` says in seconds; None where it says nothing or a date."""
    text = (headers or {}).get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def unreachable(url: str, error: Exception) -> SpeechUnavailableError:
    """For an ``error`` of the network on the way to the service at ``url``."""
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number).lower() if number and number > 0 else str(error) or type(error).__name__
    return SpeechUnavailableError(f"the speech service at {redact_url(url)} can't be reached: {reason}")

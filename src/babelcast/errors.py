"""Every error that Babelcast raises on purpose.

::

    BabelcastError
    ├── ConfigError            the config file or a command's options; names the key and the line
    ├── MissingDependencyError a program, plugin or package is not there; names the command that mends it
    ├── IngestError            the source can't be read (retryable unless the codec is the reason)
    │   └── UnsupportedMediaError   the source's codec or format can't be dubbed
    ├── PublishError           the output can't be delivered
    ├── MediaServerError       the media server or its API
    ├── RtmpError              an RTMP peer broke the protocol or refused
    ├── SpeechError            a speech backend or engine
    │   ├── SpeechUnavailableError  not reachable, overloaded, timed out (retryable)
    │   ├── SpeechProtocolError     answered with something that the contract does not allow
    │   └── UnsupportedLanguageError  no such language, pair or voice
    ├── ControlsError          what an operator asked to be changed on air can't be
    ├── PreviewError           a preview can't be shown; carries the HTTP status that says it
    └── LaunchError            a worker could not be started or adopted

``retryable`` is data: a handler reads it, nobody parses messages. ``hint`` says what the user can do.
"""

from __future__ import annotations

import errno
import os
import re


class BabelcastError(Exception):
    """Base of all. ``str()`` is one sentence for a person, with the hint after it where there is one."""

    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(BabelcastError):
    """A setting is wrong. ``key`` is dotted (``defaults.delay``), ``line`` counts from 1."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        key: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.key = key
        self.line = line

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        parts = [part for part in (place, self.key) if part]
        return ": ".join([*parts, super().__str__()])


class MissingDependencyError(BabelcastError):
    """Something that must be installed is not there; the hint is the command that installs it."""


class IngestError(BabelcastError):
    retryable = True


class UnsupportedMediaError(IngestError):
    retryable = False


class PublishError(BabelcastError):
    retryable = True


class MediaServerError(BabelcastError):
    retryable = True


class RtmpError(BabelcastError):
    """``code`` is the RTMP status code where the peer sent one (``NetStream.Publish.BadName``)."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.code = code


class SpeechError(BabelcastError):
    """``code`` is the machine-readable reason of the wire protocol (see :mod:`babelcast.wire`)."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "internal",
        hint: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.code = code


class SpeechUnavailableError(SpeechError):
    """``retry_after_s``: how long it is no use to try again, where that is known."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str = "internal",
        hint: str | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, retryable=retryable)
        self.retry_after_s = retry_after_s


class SpeechProtocolError(SpeechError):
    retryable = True


class UnsupportedLanguageError(SpeechError):
    retryable = False


class LaunchError(BabelcastError):
    retryable = True


class ControlsError(BabelcastError):
    """``status`` is the HTTP status that says it: 409 not possible now, 412 another revision, 422 not valid."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PreviewError(BabelcastError):
    """``status`` is the HTTP status that says it: 400 not an offer, 404 no such path or viewer, 406 nothing in common,
    503 too many viewers."""

    def __init__(self, message: str, status: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def why(error: Exception) -> str:
    """What the system says of it ("connection refused"). asyncio and aiohttp put an address in its place, and for
    several addresses all in one text."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer in time"
    number = error.errno if isinstance(error, OSError) else None
    numbers = {number} if number else {int(each) for each in re.findall(r"\[Errno (\d+)\]", str(error))}
    known = [os.strerror(each).lower() for each in sorted(numbers) if each in errno.errorcode]
    return ", ".join(known) or getattr(error, "strerror", None) or str(error) or type(error).__name__

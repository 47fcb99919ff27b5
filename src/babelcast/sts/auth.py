"""Who may use the service and how much: named bearer tokens, each with limits of its own.

A tokens file is YAML; a token stands there as itself or as its SHA-256 in hex::

    studio-a:
      token: 7e1c…
      sessions: 4
      requests_per_s: 5
      audio_s_per_min: 300
    studio-b:
      sha256: 9f86d081884c7d65…

Tokens are compared by digest in constant time, and never logged: metrics and log lines name the client.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from babelcast.errors import ConfigError, SpeechUnavailableError

_MOST_CLIENTS = 1_000
_BUSY_RETRY_S = 1.0


class ClientLimits(BaseModel):
    """What is absent is not limited, but by the service as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int | None = Field(default=None, ge=0)
    """WebSocket sessions at once."""
    requests: int | None = Field(default=None, ge=0)
    """REST fragments at once."""
    requests_per_s: float | None = Field(default=None, gt=0)
    """REST requests and session starts, on average; bursts of two seconds' worth are let through."""
    audio_s_per_min: float | None = Field(default=None, gt=0)
    """Seconds of source sound a minute; a live session needs 60. A minute's worth may come at once."""


class _Entry(ClientLimits):
    token: SecretStr | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")

    @model_validator(mode="after")
    def _one(self) -> _Entry:
        if (self.token is None) == (self.sha256 is None):
            raise ValueError("give token, or sha256")
        if self.token is not None and len(self.token.get_secret_value()) < 8:
            raise ValueError("a token has 8 characters or more")
        return self


class Bucket:
    """A token bucket: ``rate`` a second, ``size`` at once. ``clock`` in seconds."""

    def __init__(self, rate: float, size: float, clock: Callable[[], float]) -> None:
        self._rate, self._size, self._clock = rate, size, clock
        self._level, self._at = size, clock()

    def take(self, amount: float) -> float:
        """0 where ``amount`` was there and is taken; else the seconds until it will be. What is larger than the whole
        bucket takes all of it, and leaves a debt."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now
        missing = min(amount, self._size) - self._level
        if missing > 1e-9:
            return missing / self._rate
        self._level -= amount
        return 0.0


class Client:
    """Whoever holds one token. Used from the event loop alone."""

    def __init__(
        self, name: str, limits: ClientLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.limits = limits or ClientLimits()
        self.sessions = 0
        self.requests = 0
        rate, audio = self.limits.requests_per_s, self.limits.audio_s_per_min
        self._starts = Bucket(rate, max(1.0, 2 * rate), clock) if rate else None
        self._audio = Bucket(audio / 60, audio, clock) if audio else None

    def _refuse(self, what: str, wait_s: float) -> SpeechUnavailableError:
        return SpeechUnavailableError(what, code="rate_limited", retry_after_s=wait_s)

    def check_start(self) -> None:
        """Count one request or session start. Raises SpeechUnavailableError (``rate_limited``)."""
        wait_s = self._starts.take(1) if self._starts else 0.0
        if wait_s:
            raise self._refuse(f"more than {self.limits.requests_per_s:g} requests a second", wait_s)

    def check_audio(self, seconds: float) -> None:
        """Count source sound. Raises SpeechUnavailableError (``rate_limited``)."""
        wait_s = self._audio.take(seconds) if self._audio else 0.0
        if wait_s:
            raise self._refuse(f"more than {self.limits.audio_s_per_min:g} s of sound a minute", wait_s)

    def check_session(self) -> None:
        """Raises SpeechUnavailableError (``rate_limited``) where one more session would be too many."""
        if self.limits.sessions is not None and self.sessions >= self.limits.sessions:
            raise self._refuse(f"{self.sessions} sessions of this token are open", 5.0)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a session while the block runs. Raises as :meth:`check_session`."""
        self.check_session()
        self.sessions += 1
        try:
            yield
        finally:
            self.sessions -= 1

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a REST fragment while the block runs. Raises SpeechUnavailableError (``rate_limited``)."""
        if self.limits.requests is not None and self.requests >= self.limits.requests:
            raise self._refuse(f"{self.requests} requests of this token are in work", _BUSY_RETRY_S)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1


class Clients:
    """All tokens. Without one, everybody is the client ``anonymous``."""

    def __init__(self, clients: Iterable[tuple[bytes, Client]] = ()) -> None:
        self._clients = list(clients)
        self._anonymous = Client("anonymous")

    @classmethod
    def of_token(cls, token: str | None) -> Clients:
        return cls([(digest(token), Client("default"))] if token else [])

    @classmethod
    def of(cls, described: Iterable[tuple[bytes, str, ClientLimits]]) -> Clients:
        """Of their tokens' digests, names and limits: what :attr:`described` gives, in another process perhaps."""
        return cls([(secret, Client(name, limits)) for secret, name, limits in described])

    @property
    def described(self) -> tuple[tuple[bytes, str, ClientLimits], ...]:
        return tuple((secret, client.name, client.limits) for secret, client in self._clients)

    @property
    def needed(self) -> bool:
        return bool(self._clients)

    def with_token(self, token: str | None) -> Clients:
        """These and ``token``, without limits, as ``default``."""
        return Clients([*self._clients, *Clients.of_token(token)._clients])

    def find(self, authorization: str | None) -> Client | None:
        """Whose token the header holds. Takes as long for a wrong one as for a right one."""
        if not self._clients:
            return self._anonymous
        given = digest(bearer(authorization) or "")
        found = None
        for known, client in self._clients:
            if hmac.compare_digest(known, given):
                found = client
        return found


def bearer(authorization: str | None) -> str | None:
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" and given.strip() else None


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def load_tokens(path: Path) -> Clients:
    """Raises ConfigError, which names the client and never the token."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the tokens: {error}", file=str(path)) from error
    except yaml.YAMLError:
        raise ConfigError("not valid YAML", file=str(path)) from None  # its message may show a token
    if not isinstance(document, dict) or not document or len(document) > _MOST_CLIENTS:
        raise ConfigError("a tokens file is a mapping of clients' names to their tokens", file=str(path))
    clients = []
    for name, value in document.items():
        try:
            entry = _Entry.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            key = ".".join([str(name), *map(str, first["loc"])])
            raise ConfigError(message, file=str(path), key=key) from None
        secret = digest(entry.token.get_secret_value()) if entry.token else bytes.fromhex(entry.sha256 or "")
        limits = ClientLimits.model_validate(entry.model_dump(exclude={"token", "sha256"}))
        clients.append((secret, Client(str(name), limits)))
    if len({secret for secret, _ in clients}) != len(clients):
        raise ConfigError("two clients have the same token", file=str(path))
    return Clients(clients)

"""A browser's login: the token once, then a cookie. And the name that an operator goes by.

The cookie holds when it ends and a signature of that by a key made from the token: nothing is kept here, it outlives a
restart, and another token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

COOKIE = "babelcast_session"
SESSION_PATH = "/api/v1/session"
DEFAULT_OPERATOR = "operator"
"""Who it was where nobody says: there is one token, and whoever has it."""

_SESSION_S = 7 * 24 * 3600
_MOST_TRIES = 10
_WINDOW_S = 60.0
_MOST_ADDRESSES = 1_000
_MOST_NAME = 40


def operator_name(header: str | None) -> str:
    """Of an ``X-Operator`` header, percent-encoded UTF-8: one line of at most 40 characters without colons, which
    separate the name from what was done in an event."""
    name = unquote(header or "", errors="replace")[: 10 * _MOST_NAME]
    name = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in name.replace(":", " "))
    return " ".join(name.split())[:_MOST_NAME] or DEFAULT_OPERATOR


def who(x_operator: Annotated[str | None, Header(max_length=1_000)] = None) -> str:
    """The operator's name, as a dependency of a route."""
    return operator_name(x_operator)


class Tries:
    """How often each address was wrong in the last minute; the oldest of too many addresses is forgotten."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._wrong: dict[str, deque[float]] = {}

    def wait_s(self, address: str) -> float:
        """Seconds until it may try again, 0.0 where it may now."""
        times, now = self._wrong.get(address), self._now()
        while times and times[0] <= now - _WINDOW_S:
            times.popleft()
        return times[0] + _WINDOW_S - now if times and len(times) >= _MOST_TRIES else 0.0

    def wrong(self, address: str) -> None:
        times = self._wrong.pop(address, None) or deque(maxlen=_MOST_TRIES)
        times.append(self._now())
        self._wrong[address] = times  # the latest stands last
        while len(self._wrong) > _MOST_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]

    def right(self, address: str) -> None:
        self._wrong.pop(address, None)


class Login:
    """Gives cookies for the token, and knows its own."""

    def __init__(self, token: SecretStr, *, now: Callable[[], float] = time.time) -> None:
        self._token = token.get_secret_value().encode()
        self._key = hmac.digest(self._token, b"babelcast session 1", hashlib.sha256)
        self._now = now
        self.tries = Tries(now)

    def is_token(self, given: str) -> bool:
        return bool(given) and hmac.compare_digest(given.encode(), self._token)

    def cookie(self) -> str:
        """A new session's."""
        end = str(int(self._now()) + _SESSION_S)
        return f"{end}.{self._signature(end)}"

    def is_session(self, cookie: str | None) -> bool:
        end, _, signature = (cookie or "").partition(".")
        if not (end.isascii() and end.isdecimal() and len(end) <= 12):
            return False
        signed = hmac.compare_digest(signature.encode(), self._signature(end).encode())
        return signed and int(end) > self._now()

    def _signature(self, end: str) -> str:
        return hmac.new(self._key, end.encode(), hashlib.sha256).hexdigest()


class LoginRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: SecretStr = Field(max_length=4_096)


class SessionView(BaseModel):
    """``needed``: requests must be from somebody who is logged in. ``ok``: this one was."""

    needed: bool
    ok: bool


def session_router(login: Login | None) -> APIRouter:
    """``login`` is None where the API has no token."""
    router = APIRouter(prefix=SESSION_PATH, tags=["session"])

    @router.get("", summary="Whether a browser must log in, and whether it has")
    async def session(request: Request) -> SessionView:
        ok = login is None or login.is_session(request.cookies.get(COOKIE))
        return SessionView(needed=login is not None, ok=ok)

    @router.post("", summary="Log a browser in: the API's token for a cookie")
    async def log_in(request: Request, response: Response, body: LoginRequest) -> SessionView:
        if login is None:
            return SessionView(needed=False, ok=True)
        address = request.client.host if request.client else ""
        wait_s = login.tries.wait_s(address)
        if wait_s > 0:
            headers = {"Retry-After": str(int(wait_s) + 1)}
            raise HTTPException(429, f"too many wrong tokens; try again in {int(wait_s) + 1} s", headers=headers)
        if not login.is_token(body.token.get_secret_value()):
            login.tries.wrong(address)
            raise HTTPException(401, "this is not the token; it is api_token in babelcast.yaml")
        login.tries.right(address)
        encrypted = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        response.set_cookie(
            COOKIE, login.cookie(), max_age=_SESSION_S, httponly=True, samesite="strict", secure=encrypted
        )
        return SessionView(needed=True, ok=True)

    @router.delete("", status_code=204, response_class=Response, summary="Log this browser out")
    async def log_out(response: Response) -> None:
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")

    return router

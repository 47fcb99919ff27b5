"""Who gets a session, for how long, and what a name may be."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr

from babelcast.orchestrator import problems
from babelcast.orchestrator.http_server import serving
from babelcast.orchestrator.login import COOKIE, Login, Tries, operator_name, session_router

TOKEN = "tOken-0123456789-abcdef"
SESSION = "/api/v1/session"


class Now:
    def __init__(self) -> None:
        self.s = 1_000_000.0

    def __call__(self) -> float:
        return self.s


@pytest.mark.unit
def test_a_cookie_is_good_for_a_week_and_for_its_token_alone() -> None:
    now = Now()
    login = Login(SecretStr(TOKEN), now=now)
    cookie = login.cookie()
    assert TOKEN not in cookie
    assert Login(SecretStr(TOKEN), now=now).is_session(cookie)  # also after a restart
    assert not Login(SecretStr("another-token"), now=now).is_session(cookie)
    end, _, signature = cookie.partition(".")
    for forged in (None, "", ".", cookie[:-1], f"{int(end) + 1}.{signature}", f"{end}.", "x.y", f"٣{end}.{signature}"):
        assert not login.is_session(forged)
    now.s += 7 * 24 * 3600
    assert not login.is_session(cookie)


@pytest.mark.unit
def test_wrong_tries_are_counted_by_address_and_forgotten_after_a_minute() -> None:
    now = Now()
    tries = Tries(now)
    for _ in range(10):
        assert tries.wait_s("a") == 0
        tries.wrong("a")
    assert tries.wait_s("a") == 60 and tries.wait_s("b") == 0
    now.s += 60
    assert tries.wait_s("a") == 0
    for number in range(5_000):
        tries.wrong(str(number))
    assert len(tries._wrong) == 1_000


@pytest.mark.unit
@pytest.mark.parametrize(
    ("header", "name"),
    [
        (None, "operator"),
        ("", "operator"),
        ("%20%0A", "operator"),
        ("Ana", "Ana"),
        ("%C3%81na%20P%C3%A9rez", "Ána Pérez"),
        ("a%3A%20forged%0Aline", "a forged line"),
        ("x" * 900, "x" * 40),
        ("%FF", "\ufffd"),
    ],
)
def test_a_name_is_one_short_line(header: str | None, name: str) -> None:
    assert operator_name(header) == name


@contextlib.asynccontextmanager
async def served(token: str | None) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    app, secret = FastAPI(), SecretStr(token) if token else None
    problems.install(app, secret)
    app.include_router(session_router(Login(secret) if secret else None))
    router = APIRouter()

    @router.get("/thing")
    async def read() -> str:
        return "read"

    @router.post("/thing")
    async def write() -> str:
        return "written"

    app.include_router(router)
    jar = aiohttp.CookieJar(unsafe=True)  # for an address that is no name
    async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(cookie_jar=jar) as http:
        yield f"http://127.0.0.1:{port}", http


@pytest.mark.integration
async def test_a_browser_logs_in_and_out() -> None:
    async with served(TOKEN) as (base, http):
        async with http.get(base + SESSION) as answer:
            assert await answer.json() == {"needed": True, "ok": False}
        async with http.get(base + "/thing") as answer:
            assert answer.status == 401
        async with http.post(base + SESSION, json={"token": TOKEN}) as answer:
            assert answer.status == 200
            set_cookie = answer.headers["Set-Cookie"]
            assert TOKEN not in set_cookie
            assert "HttpOnly" in set_cookie and "SameSite=strict" in set_cookie and "Secure" not in set_cookie
        async with http.get(base + "/thing") as answer:
            assert answer.status == 200
        async with http.get(base + SESSION) as answer:
            assert await answer.json() == {"needed": True, "ok": True}
        async with http.delete(base + SESSION, headers={"Origin": base}) as answer:
            assert answer.status == 204
        async with http.get(base + "/thing") as answer:
            assert answer.status == 401


@pytest.mark.integration
@pytest.mark.parametrize(
    ("origin", "status"), [("same", 200), (None, 403), ("null", 403), ("http://evil.example", 403)]
)
async def test_with_a_cookie_a_change_must_come_from_a_page_of_ours(origin: str | None, status: int) -> None:
    async with served(TOKEN) as (base, http):
        async with http.post(base + SESSION, json={"token": TOKEN}) as answer:
            assert answer.status == 200
        headers = {} if origin is None else {"Origin": base if origin == "same" else origin}
        async with http.post(base + "/thing", headers=headers) as answer:
            assert answer.status == status
        bearer = {"Authorization": f"Bearer {TOKEN}"}  # a program: no origin, no cookie needed
        async with http.post(base + "/thing", headers=bearer) as answer:
            assert answer.status == 200


@pytest.mark.integration
async def test_guessing_is_slow() -> None:
    async with served(TOKEN) as (base, http):
        for number in range(10):
            async with http.post(base + SESSION, json={"token": f"guess {number}"}) as answer:
                assert answer.status == 401
        for token in ("guess", TOKEN):
            async with http.post(base + SESSION, json={"token": token}) as answer:
                assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0
                assert COOKIE not in answer.cookies
        async with http.get(base + "/thing", cookies={COOKIE: f"99999999999.{'0' * 64}"}) as answer:
            assert answer.status == 401


@pytest.mark.integration
async def test_without_a_token_nobody_has_to_log_in() -> None:
    async with served(None) as (base, http):
        async with http.get(base + SESSION) as answer:
            assert await answer.json() == {"needed": False, "ok": True}
        async with http.post(base + "/thing") as answer:
            assert answer.status == 200

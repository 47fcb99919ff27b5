"""The REST client against a service that answers what it should not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from tests.fakes.speech import frames, silence
from tests.fakes.web import serving as web_service

from babelcast.errors import SpeechProtocolError
from babelcast.speech.base import ClosedEvent, LostEvent, SpeechTarget
from babelcast.speech.sts_http import StsHttpBackend
from babelcast.wire import (
    LANGUAGES_PATH,
    PROCESS_PATH,
    Language,
    ProcessRequest,
    ProcessResponse,
    StageTimes,
    languages,
)

pytestmark = pytest.mark.integration

TARGET = SpeechTarget("show", "en", "es")
PAIRS = languages.dump_json([Language(source="en", target="es")])


@contextlib.asynccontextmanager
async def serving(process: Callable[[web.Request], Awaitable[web.Response]], pairs: bytes) -> AsyncIterator[str]:
    async def list_languages(request: web.Request) -> web.Response:
        return web.Response(body=pairs, content_type="application/json", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get(LANGUAGES_PATH, list_languages), web.post(PROCESS_PATH, process)])
    async with web_service(app) as url:
        yield url


def answer(request: ProcessRequest, audio: str) -> bytes:
    return (
        ProcessResponse(
            **request.model_dump(include=set(ProcessResponse.model_fields) - {"audio"}),
            audio=audio,
            transcript="hello",
            translation="hola",
            stages=StageTimes(),
        )
        .model_dump_json()
        .encode()
    )


@pytest.mark.parametrize("audio", ["no base64!", "ñandú", "AAAA", None])
async def test_an_answer_that_makes_no_sense_loses_its_fragment_and_three_end_the_session(audio: str | None) -> None:
    """``None``: the body is no text at all."""

    async def process(request: web.Request) -> web.Response:
        asked = ProcessRequest.model_validate_json(await request.read())
        body = b"\xff\xfe\x80" if audio is None else answer(asked, audio)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async with serving(process, PAIRS) as url:
        backend = StsHttpBackend(url)
        session = await backend.open(TARGET)
        for frame in frames(silence(5.0)):
            await session.send(frame)
        await session.finish()
        async with asyncio.timeout(10):
            events = [event async for event in session.events()]
        await session.aclose()
        await backend.aclose()
    assert [type(event) for event in events] == [LostEvent, LostEvent, LostEvent, ClosedEvent]
    closed = events[-1]
    assert isinstance(closed, ClosedEvent) and closed.retryable and closed.code == "internal"


async def test_a_list_of_languages_that_is_no_text() -> None:
    async def process(request: web.Request) -> web.Response:
        raise AssertionError

    async with serving(process, b"\xff\xfe\x80") as url:
        backend = StsHttpBackend(url)
        with pytest.raises(SpeechProtocolError):
            await backend.open(TARGET)
        await backend.aclose()

"""Captions over the API: what the workers' journals hold, as files and as it goes on air.

The journals are read where the workers write them, so captions are there after the stream went off air and after a
restart; workers on other machines must share the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path as Folder
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Path, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from babelcast.captions.cues import Broadcast, Cue, latest
from babelcast.captions.formats import iso, srt, to_json, transcript, vtt
from babelcast.captions.journal import read_broadcasts, read_tail, sizes
from babelcast.spec import STREAM_ID_PATTERN

Id = Annotated[str, Path(pattern=f"^{STREAM_ID_PATTERN}$", description="stream id")]
Language = Annotated[str, Path(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", description="source language or a target")]
Last = Annotated[float | None, Query(gt=0, le=86_400, description="only the last seconds")]
Back = Annotated[int, Query(ge=0, le=1_000, alias="broadcast", description="0: the latest, 1: the one before, …")]

MAX_LISTENERS = 100
_POLL_S = 0.2
_READERS = 2
"""Whole journals that are read at a time: each may be 64 MiB a language."""
_HEARTBEAT_S = 10.0
_NO_STORE = {"Cache-Control": "no-store"}
_MEDIA_TYPES = {"vtt": "text/vtt; charset=utf-8", "srt": "application/x-subrip; charset=utf-8"}


class BroadcastView(BaseModel):
    """``broadcast`` is the number to ask for its files by."""

    broadcast: int
    began_at: str | None
    languages: tuple[str, ...]
    segments: int


class Captions:
    """Reads journals in ``folder/<stream id>``; ``languages`` tells a stream's (source, targets) by the config, or
    None where there is no such stream."""

    def __init__(self, folder: Folder | None, languages: Callable[[str], tuple[str, tuple[str, ...]] | None]) -> None:
        self._folder = folder
        self._languages = languages
        self._closing = asyncio.Event()
        self._readers = asyncio.Semaphore(_READERS)
        self._listeners = 0

    def close(self) -> None:
        """End every live feed."""
        self._closing.set()

    async def broadcasts(self, stream_id: str) -> list[Broadcast]:
        """Latest first; at least one, with the config's languages where nothing was on air. Raises 404."""
        configured = self._languages(stream_id)
        if configured is None:
            raise HTTPException(404, f"there is no stream {stream_id}")
        found: list[Broadcast] = []
        if self._folder is not None:
            async with self._readers:
                found = await asyncio.to_thread(read_broadcasts, self._folder / stream_id)
        named = [each if each.source_language else replace(each, source_language=configured[0]) for each in found]
        return named[::-1] or [Broadcast(None, *configured)]

    async def broadcast(self, stream_id: str, back: int = 0, language: str | None = None) -> Broadcast:
        """Raises 404 where there is none, or none in this language."""
        found = await self.broadcasts(stream_id)
        if back >= len(found):
            raise HTTPException(404, f"stream {stream_id} has {len(found)} broadcasts; 0 is the latest")
        if language is not None and language not in found[back].all_languages:
            there = ", ".join(sorted(filter(None, found[back].all_languages)))
            raise HTTPException(404, f"stream {stream_id} has no captions in {language}; there are: {there}")
        return found[back]

    async def feed(self, stream_id: str, language: str, after_ms: int | None, last_s: float) -> AsyncIterator[bytes]:
        """Server-Sent Events: each cue that begins after ``after_ms`` (Unix time), or else in the last ``last_s`` and
        later, once it is on air. Raises 404, and 503 where too many listen."""
        await self.broadcast(stream_id, language=language)
        if self._listeners >= MAX_LISTENERS:
            raise HTTPException(503, f"{MAX_LISTENERS} listen already", headers={"Retry-After": "10"})
        return self._feed(stream_id, language, _now_ms() - round(last_s * 1_000) if after_ms is None else after_ms)

    async def _feed(self, stream_id: str, language: str, after_ms: int) -> AsyncIterator[bytes]:
        self._listeners += 1
        try:
            yield b"retry: 1000\n\n"
            quiet = 0.0
            async for due in self._due(stream_id, language, after_ms):
                quiet = 0.0 if due else quiet + _POLL_S
                if due:
                    yield b"".join(due)
                elif quiet >= _HEARTBEAT_S:
                    quiet = 0.0
                    yield b": nothing is said\n\n"
        finally:
            self._listeners -= 1

    async def _due(self, stream_id: str, language: str, after_ms: int) -> AsyncIterator[list[bytes]]:
        """Every 0.2 s the events that are due since. What a slow reader does not take waits in the journal, not here:
        it then gets the latest 256 KiB of it."""
        seen: tuple[int, int] | None = None
        known, zero_s = Broadcast(None, "", ()), 0.0
        cues: list[Cue] = []
        while not self._closing.is_set() and self._languages(stream_id) is not None:  # until it is forgotten
            folder = None if self._folder is None else self._folder / stream_id
            now = (0, 0) if folder is None else await asyncio.to_thread(sizes, folder)
            if folder is not None and now != seen:
                if seen is None or now[0] != seen[0]:  # another worker, and perhaps another broadcast
                    known = (await self.broadcasts(stream_id))[0].with_entries(())
                known = await asyncio.to_thread(read_tail, folder, known)
                seen, zero_s, cues = now, known.zero_unix_s or 0.0, known.cues(language)
            now_ms = _now_ms()
            due = [cue for cue in cues if after_ms < round((zero_s + cue.start_s) * 1_000) <= now_ms]
            after_ms = max([after_ms, *(round((zero_s + cue.start_s) * 1_000) for cue in due)])
            yield [_event(cue, zero_s) for cue in due]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._closing.wait()


def _event(cue: Cue, zero_s: float) -> bytes:
    at_ms = round((zero_s + cue.start_s) * 1_000)
    document = {"start_s": round(cue.start_s, 3), "end_s": round(cue.end_s, 3), "at": iso(at_ms / 1_000)}
    data = json.dumps(document | {"text": cue.text}, ensure_ascii=False)
    return f"id: {at_ms}\nevent: cue\ndata: {data}\n\n".encode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def captions_router(captions: Captions) -> APIRouter:
    router = APIRouter(prefix="/api/v1/streams/{stream_id}", tags=["captions"])

    @router.get("/captions", summary="The broadcasts that captions are kept of, the latest first")
    async def listed(stream_id: Id) -> list[BroadcastView]:
        return [_view(number, each) for number, each in enumerate(await captions.broadcasts(stream_id))]

    @router.get("/captions/{language}/live", summary="Each cue once it is on air (Server-Sent Events)")
    async def live(
        stream_id: Id,
        language: Language,
        last: Last = None,
        last_event_id: Annotated[int | None, Header(ge=0, le=1 << 53)] = None,
    ) -> StreamingResponse:
        feed = await captions.feed(stream_id, language, last_event_id, last or 0.0)
        headers = _NO_STORE | {"X-Accel-Buffering": "no"}
        return StreamingResponse(feed, media_type="text/event-stream", headers=headers)

    @router.get("/captions/{language}.{form}", summary="A broadcast's captions so far, WebVTT or SubRip")
    async def file(
        stream_id: Id, language: Language, form: Literal["vtt", "srt"], last: Last = None, back: Back = 0
    ) -> Response:
        broadcast = await captions.broadcast(stream_id, back, language)
        # a day of it takes a quarter of a second: not on the loop
        text = await asyncio.to_thread(_file, broadcast, language, form, last)
        return Response(text, headers=_NO_STORE, media_type=_MEDIA_TYPES[form])

    @router.get("/transcript.json", summary="A broadcast's segments in both languages: times, texts, voices")
    async def both(stream_id: Id, back: Back = 0) -> Response:
        broadcast = await captions.broadcast(stream_id, back)
        text = await asyncio.to_thread(lambda: to_json(transcript(stream_id, broadcast)))
        return Response(text, headers=_NO_STORE, media_type="application/json")

    return router


def _file(broadcast: Broadcast, language: str, form: Literal["vtt", "srt"], last_s: float | None) -> str:
    cues, zero_s = broadcast.cues(language), broadcast.zero_unix_s
    if last_s is not None:
        now_s = time.time() - zero_s if zero_s is not None else max((cue.end_s for cue in cues), default=0.0)
        cues = latest(cues, last_s, now_s)
    return vtt(cues, zero_unix_s=zero_s) if form == "vtt" else srt(cues)


def _view(number: int, broadcast: Broadcast) -> BroadcastView:
    return BroadcastView(
        broadcast=number,
        began_at=None if broadcast.zero_unix_s is None else iso(broadcast.zero_unix_s),
        languages=broadcast.all_languages,
        segments=sum(len(entries) for entries in broadcast.entries.values()),
    )

"""Looks at everything from time to time, once for all who watch, and tells each of them what has changed.

While nobody watches it looks every five seconds, so that alarms are latched and the charts have a past. What a slow
reader does not take is not queued: it then gets the difference to what it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import HTTPException

from babelcast.console.alarms import AlarmBook
from babelcast.console.conditions import Condition, of_bridge, of_service, of_stream
from babelcast.console.delta import diff
from babelcast.console.facts import Facts
from babelcast.console.flow import Flow
from babelcast.console.history import Lines, Points, Silence
from babelcast.console.state import EVENTS_SHOWN, Changes, document
from babelcast.media_server.base import PathInfo
from babelcast.orchestrator.bridge import BridgeView
from babelcast.orchestrator.views import EventView, HealthView, StreamView
from babelcast.spec import Levels, SegmentEntry, ingest_path
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)

MAX_WATCHERS = 100
_LEVELS_S = 0.1
_WATCHED_S = 0.5
_OTHERS_S = 2.0
"""For streams that nobody has before them while somebody watches another one."""
_NEVER_S = -math.inf
_UNWATCHED_S = 5.0
_BRIDGE_S = 1.0
_EVENTS_AT_START = 1_000
_HEARTBEAT_S = 5.0


class Source(Protocol):
    """Where facts come from. Implemented by orchestrator.console_source and by the tests' fake."""

    def health(self) -> HealthView: ...

    def paths(self) -> Mapping[str, PathInfo]:
        """What the media server listed last."""
        ...

    def stream_ids(self) -> list[str]: ...

    def output_paths(self, stream_id: str) -> Mapping[str, str]:
        """Language → path at the media server."""
        ...

    async def stream(self, stream_id: str) -> StreamView: ...

    async def levels(self, stream_id: str) -> Mapping[str, Levels] | None:
        """By language; None while the worker does not answer."""
        ...

    async def segments(self, stream_id: str, after: int) -> list[SegmentEntry] | None: ...

    async def events(self, after: int, limit: int) -> list[EventView]: ...

    async def bridge(self) -> BridgeView | None:
        """None where there is none. HTTPException where it does not answer."""
        ...


@dataclass
class _Known:
    """What is remembered of a stream between two looks."""

    flow_in: Flow = field(default_factory=Flow)
    flows_out: dict[str, Flow] = field(default_factory=dict)
    lines: Lines = field(default_factory=Lines)
    points: Points = field(default_factory=Points)
    silence: Silence = field(default_factory=Silence)
    answered_s: float | None = None
    recognised: bool = False
    view: StreamView | None = None
    looked_s: float = _NEVER_S


@dataclass(eq=False)
class _Watcher:
    """One browser. ``stream_id``: the stream that it shows."""

    stream_id: str | None
    who: str
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """``server``: what the page is told of the server itself, once and for all."""

    def __init__(self, source: Source, server: Mapping[str, Any], *, now: Callable[[], float] = time.time) -> None:
        self._source = source
        self._server = server
        self._now = now
        self._book = AlarmBook()
        self._known: dict[str, _Known] = {}
        self._changes: dict[str, Changes] = {}
        self._events: deque[EventView] = deque(maxlen=EVENTS_SHOWN)
        self._last_event = 0
        self._watchers: set[_Watcher] = set()
        self._revision = 0
        self._document: dict[str, Any] = {}
        self._patch: tuple[int, int, bytes] = (0, 0, b"")
        self._levels: dict[str, bytes] = {}
        self._bridge: BridgeView | None = None
        self._bridge_error: str | None = None
        self._poked = asyncio.Event()
        self._watched = asyncio.Event()
        self._closing = False
        self._trouble = RateLimited(10.0)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._look_forever(), name="console"),
            asyncio.create_task(self._meter_forever(), name="console levels"),
            asyncio.create_task(self._bridge_forever(), name="console bridge"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """End every feed."""
        self._closing = True
        self._tell()

    def poke(self, stream_id: str | None = None) -> None:
        """Something was changed: look at once, so that everybody sees it."""
        if stream_id in self._known:
            self._known[stream_id].looked_s = _NEVER_S
        self._poked.set()

    def acknowledge(self, key: str, who: str) -> bool:
        """False where there is no such alarm."""
        found = self._book.acknowledge(key, who, self._now())
        self.poke()
        return found

    def watching(self, stream_id: str | None, who: str) -> AsyncIterator[bytes]:
        """Server-Sent Events from now on: ``state`` (all of it) first, then a ``patch`` where something changed, the
        stream's ``lines``, ``points`` and ``levels``. Raises HTTPException (503) where too many watch."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise HTTPException(503, f"{MAX_WATCHERS} watch already", headers={"Retry-After": "10"})
        return self._feed(_Watcher(stream_id, who))

    # --- what a watcher is told ---

    async def _feed(self, watcher: _Watcher) -> AsyncIterator[bytes]:
        self._watchers.add(watcher)
        self._watched.set()
        self.poke()
        try:
            if not await self._looked(watcher):
                return  # the page comes again
            revision, shown = self._revision, self._document
            yield b"retry: 1000\n\n" + _event("state", {"revision": revision, "state": shown})
            line = point = 0
            levels = b""
            while not self._closing:
                known = self._known.get(watcher.stream_id or "")
                if known is not None:
                    if known.lines.next > line:
                        lines, line = known.lines.since(line), known.lines.next
                        yield _event("lines", {"stream": watcher.stream_id, "lines": lines})
                    if known.points.next > point:
                        points, point = known.points.since(point), known.points.next
                        yield _event("points", {"stream": watcher.stream_id, "points": points})
                if self._revision != revision:
                    patch = self._patch_from(revision, shown)
                    revision, shown = self._revision, self._document
                    yield patch
                now = self._levels.get(watcher.stream_id or "", b"")
                if now is not levels:
                    levels = now
                    yield now
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEARTBEAT_S):
                        await watcher.news.wait()
                watcher.news.clear()
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._watched.clear()
            self.poke()

    async def _looked(self, watcher: _Watcher) -> bool:
        """Whether there is something to tell; it is waited for. Levels may come before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_S):
                while self._revision == 0 and not self._closing:
                    await watcher.news.wait()
                    watcher.news.clear()
        return self._revision > 0

    def _patch_from(self, revision: int, shown: dict[str, Any]) -> bytes:
        """The same for all who had the same; made once."""
        if self._patch[:2] != (revision, self._revision):
            patch = {"from": revision, "revision": self._revision, "patch": diff(shown, self._document)}
            self._patch = (revision, self._revision, _event("patch", patch))
        return self._patch[2]

    @property
    def _shown(self) -> set[str]:
        """The streams that somebody has before them."""
        return {watcher.stream_id for watcher in self._watchers if watcher.stream_id is not None}

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher.news.set()

    # --- looking ---

    async def _look_forever(self) -> None:
        while True:
            self._poked.clear()
            try:
                await self._look()
            except Exception:
                if self._trouble.ready() is not None:
                    log.exception("the operator's page can't be brought up to date; it is tried again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCHED_S if self._watchers else _UNWATCHED_S):
                    await self._poked.wait()

    async def _meter_forever(self) -> None:
        while True:
            await self._watched.wait()
            await asyncio.gather(*(self._meter(stream_id) for stream_id in self._shown))
            await asyncio.sleep(_LEVELS_S)

    async def _meter(self, stream_id: str) -> None:
        if stream_id not in self._known:
            return
        try:
            levels = await self._source.levels(stream_id)
        except Exception:
            if self._trouble.ready() is not None:
                log.exception("the levels can't be had")
            return
        rounded = {  # none where the worker does not answer: what was last must not stand there as if it were now
            language: [round(each, 1) for each in (level.source, level.background, level.dub, level.output)]
            for language, level in (levels or {}).items()
        }
        told = _event("levels", {"stream": stream_id, "levels": rounded})
        if told != self._levels.get(stream_id):
            self._levels[stream_id] = told
            self._tell()

    async def _look(self) -> None:
        await self._look_at_events()
        shown = self._shown
        views = await asyncio.gather(*(self._view(each, each in shown) for each in self._source.stream_ids()))
        now_s, bridge = self._now(), self._bridge
        paths = self._source.paths()
        facts = [self._facts(view, paths, now_s) for view in views]
        health = self._source.health()
        conditions: list[Condition] = [*of_service(health), *of_bridge(bridge.status if bridge else None)]
        for each in facts:
            conditions += of_stream(each)
            self._known[each.view.id].points.take(each, now_s)
        self._book.update(conditions, now_s)
        operators = Counter(watcher.who for watcher in self._watchers)
        made = document(
            now_s=now_s,
            server=dict(self._server) | {"operators": dict(operators)},
            health=health,
            streams=facts,
            changes=self._changes,
            kbps_out=self._flows_out(paths, now_s),
            alarms=self._book.alarms,
            events=self._events,
            bridge=bridge,
            bridge_error=self._bridge_error,
        )
        self._revision, self._document = self._revision + 1, made
        for gone in self._known.keys() - made["streams"].keys():
            del self._known[gone]
            self._levels.pop(gone, None)
        self._changes = {each: change for each, change in self._changes.items() if each in self._known}
        self._tell()

    async def _view(self, stream_id: str, shown: bool) -> StreamView:
        """What is before nobody is asked for more seldom."""
        known = self._known.setdefault(stream_id, _Known())
        now_s = self._now()
        if known.view is not None and not shown and 0 <= now_s - known.looked_s < _OTHERS_S:
            return known.view
        known.looked_s = now_s  # before it is asked: what is poked meanwhile is looked at again
        known.view = view = await self._source.stream(stream_id)
        if view.status is not None:
            known.lines.worker_is(view.worker.generation)
            known.lines.take(await self._source.segments(stream_id, known.lines.after) or ())
        return view

    def _facts(self, view: StreamView, paths: Mapping[str, PathInfo], now_s: float) -> Facts:
        known = self._known[view.id]
        path = paths.get(ingest_path(view.id))
        known.flow_in.see(now_s, path.bytes_in if path is not None and path.online else None)
        status = view.status
        if status is not None:
            known.answered_s = now_s
        elif view.state != "running" or known.answered_s is None:
            known.answered_s = now_s
        if not view.online and view.source_gone_s is None:  # the broadcast is over
            known.recognised = False
        elif any(target.segments for target in (status.targets if status else ())):
            known.recognised = True
        heard = status.targets[0].levels.source if status is not None and status.targets else None
        mute = status is None or status.audio_caps is None or status.source_loss is not None or not _on_air(view)
        return Facts(
            view,
            still_s=known.flow_in.still_s(now_s),
            stalled=known.flow_in.stalled(now_s),
            kbps_in=known.flow_in.kbps,
            silent_s=known.silence.see(None if mute else heard, now_s),
            heard_db=None if mute else heard,
            recognised=(known.lines.latest or "") if known.recognised else None,
            unanswered_s=now_s - known.answered_s,
        )

    def _flows_out(self, paths: Mapping[str, PathInfo], now_s: float) -> dict[tuple[str, str], float]:
        found = {}
        for stream_id, known in self._known.items():
            for language, name in self._source.output_paths(stream_id).items():
                path, flow = paths.get(name), known.flows_out.setdefault(language, Flow())
                flow.see(now_s, path.bytes_in if path is not None and path.online else None)
                if flow.kbps is not None:
                    found[stream_id, language] = flow.kbps
        return found

    async def _look_at_events(self) -> None:
        limit = _EVENTS_AT_START if self._last_event == 0 else 200
        for event in await self._source.events(self._last_event, limit):
            self._last_event = max(self._last_event, event.id)
            self._events.append(event)
            self._changes[event.stream_id] = self._changes.get(event.stream_id, Changes()).seen(event)

    async def _bridge_forever(self) -> None:
        """On its own: it may take its time to answer."""
        while True:
            try:
                self._bridge, self._bridge_error = await self._source.bridge(), None
            except HTTPException as error:
                self._bridge, self._bridge_error = None, str(error.detail)
            except Exception:
                self._bridge, self._bridge_error = None, "the media bridge can't be asked; the log has it"
                if self._trouble.ready() is not None:
                    log.exception("the bridge can't be asked")
            if self._watchers:
                await asyncio.sleep(_BRIDGE_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_UNWATCHED_S):
                        await self._watched.wait()


def _on_air(view: StreamView) -> bool:
    return view.status is not None and any(target.published_seconds > 0 for target in view.status.targets)


def _event(name: str, document: Mapping[str, Any]) -> bytes:
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()

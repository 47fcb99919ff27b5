"""Where the operator's page has its facts from: the orchestrator's own knowledge, and its workers'."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from babelcast.media_server.base import PathInfo
from babelcast.orchestrator.bridge import BridgeClient, BridgeView
from babelcast.orchestrator.loop import ReconcileLoop
from babelcast.orchestrator.views import EventView, HealthView, StreamView, Views
from babelcast.spec import Levels, SegmentEntry

_SHOWN_FOR_S = 24 * 3600.0


class ConsoleSource:
    """Implements console.watch.Source."""

    def __init__(
        self,
        views: Views,
        loop: ReconcileLoop,
        events: Callable[[str | None, int, int], Awaitable[list[EventView]]],
        bridge: BridgeClient | None,
    ) -> None:
        self._views = views
        self._loop = loop
        self._events = events
        self._bridge = bridge
        self._seen_s: dict[str, float] = {}
        """When an event last named a stream, in seconds since 1970."""

    def health(self) -> HealthView:
        return self._views.health()

    def paths(self) -> Mapping[str, PathInfo]:
        return self._loop.paths

    def stream_ids(self) -> list[str]:
        """Those of the config, and of the others those on air in the last day: not every one ever seen."""
        since_s = time.time() - _SHOWN_FOR_S
        self._seen_s = {each: at_s for each, at_s in self._seen_s.items() if at_s >= since_s}
        return sorted(set(filter(self._views.knows, self._seen_s)) | self._views.current_ids())

    def output_paths(self, stream_id: str) -> Mapping[str, str]:
        return self._views.output_paths(stream_id)

    async def stream(self, stream_id: str) -> StreamView:
        return await self._views.stream(stream_id)

    async def levels(self, stream_id: str) -> Mapping[str, Levels] | None:
        return await self._views.levels(stream_id)

    async def segments(self, stream_id: str, after: int) -> list[SegmentEntry] | None:
        return await self._views.segments(stream_id, after)

    async def events(self, after: int, limit: int) -> list[EventView]:
        found = await self._events(None, after, limit)
        self._seen_s.update((event.stream_id, event.time.timestamp()) for event in found)
        return found

    async def bridge(self) -> BridgeView | None:
        return await self._bridge.view() if self._bridge is not None else None

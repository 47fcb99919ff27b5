"""The relay's events, sent to the orchestrator as MediaMTX's hooks send them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from types import TracebackType
from typing import Self

import aiohttp

from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
_MAX_QUEUED = 256


class EventSender:
    """POSTs ``{events_url}/v1/media/events/{ready|not-ready}``, in order, one at a time.

    Events are hints, and the reader reconciles by polling: what fails is logged and not tried again, and a full
    queue drops its oldest. The query may hold credentials: it is sent, never logged.
    """

    def __init__(self, events_url: str) -> None:
        self._base = events_url.rstrip("/")
        self._queue: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue(_MAX_QUEUED)
        self._task: asyncio.Task[None] | None = None
        self._limit = RateLimited()
        self.dropped = 0
        self.failed = 0

    def put(self, event: str, path: str, query: str, source_type: str, source_id: str) -> None:
        """Queue an event; never waits."""
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
            self.dropped += 1
        self._queue.put_nowait(
            (event, {"path": path, "query": query, "sourceType": source_type, "sourceId": source_id})
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="relay-events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let queued events leave for a moment, then stop."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(0.5):
                await self._queue.join()
        except TimeoutError:
            log.info("events not sent", extra={"count": self._queue.qsize()})
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            while True:
                event, body = await self._queue.get()
                try:
                    await self._post(session, event, body)
                finally:
                    self._queue.task_done()

    async def _post(self, session: aiohttp.ClientSession, event: str, body: dict[str, str]) -> None:
        request_id = str(uuid.uuid4())
        extra = {"event": event, "path": body["path"], "requestId": request_id}
        try:
            url = f"{self._base}/v1/media/events/{event}"
            async with session.post(url, json=body, headers={"X-Request-Id": request_id}) as response:
                if response.status < 300:
                    return
                reason = f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = type(error).__name__
        self.failed += 1
        suppressed = self._limit.ready()
        if suppressed is not None:
            log.warning("event not delivered: %s", reason, extra={**extra, "suppressed": suppressed})

"""Streams that ended are forgotten some day, with all that is kept of them: names made for each event would fill the
database, the disk and every list otherwise.

What the config names stays, and so does a stream one of whose destinations an operator has started or stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from babelcast.captions.journal import erase
from babelcast.clock import Clock
from babelcast.config import Config, Limits
from babelcast.orchestrator.launchers.base import Launcher
from babelcast.orchestrator.reconcile import Memory
from babelcast.orchestrator.store import AsyncStore, Store, StreamRow
from babelcast.units import NS_PER_S

log = logging.getLogger(__name__)

EVERY_S = 600.0
_AT_A_TIME = 20
"""The loop waits while files are removed; what is left is for its next round."""
_DAY_S = 86_400.0


def outdated(ended: Iterable[StreamRow], now_s: float, limits: Limits) -> dict[str, str]:
    """Of streams that ended, those to forget, with the reason; the one that ended first comes first. Pure."""
    found: dict[str, str] = {}
    latest_first = sorted(ended, key=lambda row: row.last_seen, reverse=True)
    for place, row in enumerate(latest_first):
        if now_s - row.last_seen > limits.kept_days * _DAY_S:
            found[row.stream_id] = f"off air for {limits.kept_days:g} days (limits.kept_days)"
        elif place >= limits.kept_streams:
            found[row.stream_id] = f"{limits.kept_streams} streams ended later (limits.kept_streams)"
    return dict(reversed(found.items()))


class Retention:
    """Called by the reconcile loop between two rounds, so that nothing starts while a stream is forgotten."""

    def __init__(
        self,
        store: AsyncStore,
        launcher: Launcher,
        config: Config,
        journal_dir: Path | None,
        clock: Clock,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` says when to look, ``now`` (seconds since 1970) how long ago a stream ended."""
        self._store = store
        self._launcher = launcher
        self._config = config
        self._journal_dir = journal_dir
        self._clock = clock
        self._now = now
        self._next_ns = clock.now_ns()

    async def forget_old(self, memory: dict[str, Memory], busy: Collection[str]) -> None:
        """Take what is outdated out of ``memory``, the database and the disk; ``busy`` streams are on air, or have a
        worker. Nearly always there is nothing to do. Raises BabelcastError when the database fails."""
        if self._clock.now_ns() < self._next_ns:
            return
        self._next_ns = self._clock.now_ns() + round(EVERY_S * NS_PER_S)
        rows = {row.stream_id: row for row in await self._store.call(Store.streams)}
        for stream_id in ({*memory, *rows}) - set(busy):
            row = rows.get(stream_id)
            if row is None or row.desired == "on":  # nobody was there to write its end down: it ended now
                await self._store.call(Store.save_stream, stream_id, memory.get(stream_id, Memory()).generation, "off")
                rows.pop(stream_id, None)
        chosen = {stream_id for stream_id, _ in await self._store.call(Store.destination_choices)}
        kept = {*busy, *self._config.streams, *chosen}
        ended = (row for row in rows.values() if row.stream_id not in kept)
        forgotten = list(outdated(ended, self._now(), self._config.limits).items())
        for stream_id, reason in forgotten[:_AT_A_TIME]:
            if await self._files_gone(stream_id):
                memory.pop(stream_id, None)
                await self._store.call(Store.forget_stream, stream_id)
                log.info("stream forgotten: %s", reason, extra={"streamId": stream_id})
                detail = f"{reason}; its captions and logs too"
                await self._store.call(Store.add_event, "stream_forgotten", stream_id, detail)
        if len(forgotten) > _AT_A_TIME:
            self._next_ns = self._clock.now_ns()

    async def _files_gone(self, stream_id: str) -> bool:
        """Before the row: a forgotten stream's generations are given again, and must not meet an old folder."""
        try:
            await self._launcher.erase(stream_id)
            if self._journal_dir is not None:
                await asyncio.to_thread(erase, self._journal_dir / stream_id)
        except OSError as error:
            log.warning("a stream's old files can't be removed: %s", error, extra={"streamId": stream_id})
            return False
        return True

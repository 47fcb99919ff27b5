"""What operators have changed on air, stream by stream: kept, handed to the worker, and to the one after it.

Kept is what was changed and not the whole: what nobody has touched goes on following the config. A stream that goes off
air for good begins with the config's settings again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from babelcast.errors import BabelcastError, ControlsError
from babelcast.orchestrator.handle import Handle
from babelcast.orchestrator.store import AsyncStore, Store
from babelcast.spec import Controls, ControlsPatch, WorkerSpec
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=1.5)


@dataclass(frozen=True, slots=True)
class _Kept:
    patch: ControlsPatch
    revision: int


class ControlsBook:
    """One for all streams. A worker that does not answer gets what it missed in a later :meth:`deliver`.

    The worker takes the whole of its controls, so a stream's changes go to it one after the other.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None
        self._kept: dict[str, _Kept] = {}
        self._undelivered: set[str] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._trouble = RateLimited(10.0)

    async def load(self, session: aiohttp.ClientSession) -> None:
        """Read what was kept; workers are spoken to by ``session`` from now on."""
        self._session = session
        for row in await self._store.call(Store.controls):
            try:
                self._kept[row.stream_id] = _Kept(ControlsPatch.model_validate_json(row.patch), row.revision)
            except ValidationError as error:  # written by another version
                log.warning("controls of a stream are forgotten: %s", error, extra={"streamId": row.stream_id})

    def controls(self, stream_id: str, own: Controls) -> Controls:
        """The stream's controls; ``own`` are those of its settings alone."""
        kept = self._kept.get(stream_id)
        return own if kept is None else own.patched(kept.patch).model_copy(update={"revision": kept.revision})

    def in_spec(self, spec: WorkerSpec) -> WorkerSpec:
        """The spec for a new worker, which begins with what was changed."""
        if spec.stream_id not in self._kept:
            return spec
        return spec.model_copy(update={"controls": self.controls(spec.stream_id, spec.own_controls)})

    async def change(
        self,
        spec: WorkerSpec,
        handle: Handle | None,
        patch: ControlsPatch,
        revision: int | None,
        who: str,
    ) -> tuple[Controls, bool]:
        """Change what ``patch`` names. Returns the controls, and whether the worker has them already.

        The worker is asked first, because what it refuses must not be kept; and "original audio now" must not wait
        for a database. Raises ControlsError.
        """
        stream_id = spec.stream_id
        async with self._turns[stream_id]:
            before = self.controls(stream_id, spec.own_controls)
            before.expect(revision)
            changed = before.patched(patch).model_copy(update={"revision": before.revision + 1})
            delivered = await self._deliver(handle, changed)
            kept = self._kept.get(stream_id)
            self._kept[stream_id] = _Kept(kept.patch.then(patch) if kept else patch, changed.revision)
            if delivered:
                self._undelivered.discard(stream_id)
            else:
                self._undelivered.add(stream_id)
        await self._save(stream_id, f"{who}: {_in_words(patch)} (revision {changed.revision})")
        return changed, delivered

    async def deliver(self, specs: Iterable[WorkerSpec], latest: Callable[[str], Handle | None]) -> None:
        """Give workers what they missed. Called every round; nearly always there is nothing to do."""
        missed = [spec for spec in specs if spec.stream_id in self._undelivered]
        await asyncio.gather(*(self._make_up(spec, latest) for spec in missed))

    async def _make_up(self, spec: WorkerSpec, latest: Callable[[str], Handle | None]) -> None:
        async with self._turns[spec.stream_id]:
            try:
                if await self._deliver(latest(spec.stream_id), self.controls(spec.stream_id, spec.own_controls)):
                    self._undelivered.discard(spec.stream_id)
            except ControlsError as error:
                self._undelivered.discard(spec.stream_id)
                log.warning("the worker refuses the controls: %s", error, extra={"streamId": spec.stream_id})

    async def forget_all_but(self, on_air: Iterable[str]) -> None:
        """Streams that are off air for good begin anew."""
        on_air = set(on_air)
        for stream_id in self._turns.keys() - on_air:  # also where nothing is kept: the worker refused it
            del self._turns[stream_id]
        for stream_id in self._kept.keys() - on_air:
            del self._kept[stream_id]
            self._undelivered.discard(stream_id)
            await self._call(Store.forget_controls, stream_id)
            await self._call(Store.add_event, "controls_reset", stream_id, "the stream went off air")

    async def _deliver(self, handle: Handle | None, controls: Controls) -> bool:
        """False when the worker does not answer. Raises ControlsError when it refuses."""
        if handle is None or handle.status_url is None or self._session is None:
            return False
        try:
            async with self._session.put(
                f"{handle.status_url}/controls", data=controls.model_dump_json(), timeout=_TIMEOUT
            ) as response:
                if response.status == 200:
                    return True
                if 400 <= response.status < 500:
                    problem = await response.json(content_type=None)
                    raise ControlsError(str(problem["detail"]), response.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            log.info("the worker does not take the controls now: %s", error, extra={"streamId": handle.stream_id})
        return False

    async def _save(self, stream_id: str, detail: str) -> None:
        kept = self._kept[stream_id]
        log.info("controls changed: %s", detail, extra={"streamId": stream_id})
        await self._call(Store.save_controls, stream_id, kept.revision, kept.patch.model_dump_json(exclude_none=True))
        await self._call(Store.add_event, "controls_changed", stream_id, detail)

    async def _call(self, method: Callable[..., None], *args: object) -> None:
        """A full disk must not keep an operator from the air."""
        try:
            await self._store.call(method, *args)
        except BabelcastError as error:
            if self._trouble.ready() is not None:
                log.error("%s", error)


def _in_words(patch: ControlsPatch) -> str:
    """``force original, mix.bg_gain 0.5``."""

    def leaves(value: object, name: str) -> list[str]:
        if isinstance(value, dict) and value:
            return [leaf for key, each in value.items() for leaf in leaves(each, f"{name}.{key}" if name else key)]
        return [f"{name} {value}"]

    return ", ".join(leaves(patch.model_dump(exclude_none=True), "")) or "nothing"

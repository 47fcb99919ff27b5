"""The preview process: channels while they are watched, and their viewers.

=============  ===========================================================================
settings.json  what it is told at its start; read by its owner alone (it may hold a TURN password)
control.sock   where it is asked (:mod:`babelcast.preview.wire`)
lock           held while it runs: there is one per folder
=============  ===========================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from babelcast.control_socket import listening
from babelcast.errors import LaunchError, PreviewError, why
from babelcast.lock import held
from babelcast.preview.channel import GRACE_S, Channel
from babelcast.preview.network import announced, use_addresses
from babelcast.preview.settings import PreviewSettings
from babelcast.preview.viewer import HANDSHAKE_S, Viewer
from babelcast.preview.wire import Answer, ChannelStatus, Offer, PreviewStatus, Refusal, Watch

log = logging.getLogger(__name__)

SETTINGS = "settings.json"
_MAX_CHANNELS = 64
_MAX_BODY = 256 * 1024
_Request = TypeVar("_Request", bound=BaseModel)


@dataclass(slots=True, eq=False)
class _Watched:
    """A channel with what runs for it."""

    channel: Channel
    task: asyncio.Task[None]
    viewers: dict[str, Viewer] = field(default_factory=dict)
    wanted_until: float = 0.0
    """Loop time until which it is played without a viewer."""


class Previews:
    """All channels and viewers. Runs inside :meth:`running`."""

    def __init__(
        self, settings: PreviewSettings, *, grace_s: float = GRACE_S, handshake_s: float = HANDSHAKE_S
    ) -> None:
        self._settings = settings
        self._grace_s = grace_s
        self._handshake_s = handshake_s
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._viewers: dict[str, asyncio.Task[None]] = {}
        self._errors: dict[tuple[str, str], str] = {}
        """Why the latest session with a source ended, where it ended with an error; the oldest are forgotten."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Previews]:
        try:
            yield self
        finally:
            tasks = [*self._viewers.values(), *(each.task for each in self._watched.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def watch(self, request: Watch) -> ChannelStatus:
        """Play it, for the grace at least. Raises PreviewError (503) where too many are played."""
        watched = self._channel(request)
        status = _status(request.path, watched)
        if status.state != "connecting" or status.error is not None:
            return status
        return status.model_copy(update={"error": self._errors.get((request.path, request.url))})

    async def offer(self, offer: Offer) -> Answer:
        """Raises PreviewError."""
        if len(self._viewers) >= self._settings.viewers:
            raise PreviewError("as many watch as may (preview.viewers); try again later", 503)
        watched = self._channel(offer)
        viewer = Viewer(self._settings.ice_servers, handshake_s=self._handshake_s)
        name = secrets.token_urlsafe(16)
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        attending = asyncio.create_task(self._attend(name, viewer, watched, offer.sdp, answered), name="preview viewer")
        self._viewers[name] = attending
        try:
            return Answer(id=name, sdp=await answered)
        except asyncio.CancelledError:  # whoever asked is gone, and so is the viewer
            attending.cancel()
            raise

    def end(self, name: str) -> None:
        """Raises PreviewError (404)."""
        task = self._viewers.get(name)
        if task is None:
            raise PreviewError("there is no such viewer (any more)", 404)
        task.cancel()

    def status(self) -> PreviewStatus:
        channels = tuple(_status(path, each) for (path, _), each in self._watched.items())
        return PreviewStatus(viewers=len(self._viewers), channels=channels)

    async def _attend(
        self, name: str, viewer: Viewer, watched: _Watched, sdp: str, answered: asyncio.Future[str]
    ) -> None:
        """One viewer, from its offer to its end; everything that it took is given back here."""
        try:
            answer = await viewer.answer(sdp)
            watched.viewers[name] = viewer
            watched.channel.join(viewer.pictures, viewer.sound)
            if not answered.done():
                answered.set_result(announced(answer, self._settings.announce))
            ending = asyncio.create_task(_end_with(watched.channel, viewer), name="preview viewer's end")
            try:
                await viewer.run()
            finally:
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
        except PreviewError as error:
            if not answered.done():
                answered.set_exception(error)
        except Exception:
            log.exception("a viewer failed")
            if not answered.done():
                answered.set_exception(PreviewError("something went wrong with this offer; the log has it", 500))
        finally:
            if not answered.done():
                answered.cancel()
            watched.channel.fanout.leave(viewer.pictures)
            watched.viewers.pop(name, None)
            watched.wanted_until = asyncio.get_running_loop().time() + self._grace_s
            self._viewers.pop(name, None)
            await viewer.close()

    def _channel(self, request: Watch) -> _Watched:
        place = (request.path, request.url)
        watched = self._watched.get(place)
        if watched is None or watched.channel.gone.is_set():
            if len(self._watched) >= _MAX_CHANNELS:
                raise PreviewError("too many paths are watched; try again later", 503)
            channel = Channel(request.url)
            task = asyncio.create_task(self._play(place, channel), name=f"preview {request.path}")
            watched = self._watched[place] = _Watched(channel, task)
        watched.wanted_until = asyncio.get_running_loop().time() + self._grace_s
        return watched

    async def _play(self, place: tuple[str, str], channel: Channel) -> None:
        """The channel, until its source is over or nobody has watched for the grace."""
        loop = asyncio.get_running_loop()
        playing = asyncio.create_task(channel.run(), name="preview source")
        try:
            while not playing.done():
                watched = self._watched[place]
                if not watched.viewers and loop.time() >= watched.wanted_until:
                    return
                await asyncio.wait({playing}, timeout=1.0)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            if not playing.cancelled() and playing.exception() is not None:
                log.error("a preview's source failed", exc_info=playing.exception())
            self._errors.pop(place, None)
            if channel.error is not None:
                self._errors[place] = channel.error
                while len(self._errors) > _MAX_CHANNELS:
                    del self._errors[next(iter(self._errors))]
            if place in self._watched and self._watched[place].channel is channel:
                del self._watched[place]


async def _end_with(channel: Channel, viewer: Viewer) -> None:
    await channel.gone.wait()
    await viewer.hang_up()


def application(previews: Previews) -> web.Application:
    app = web.Application(client_max_size=_MAX_BODY)

    async def watch(request: web.Request) -> web.Response:
        return await _answered(request, Watch, lambda asked: _now(previews.watch(asked)))

    async def offer(request: web.Request) -> web.Response:
        return await _answered(request, Offer, previews.offer)

    async def end(request: web.Request) -> web.Response:
        try:
            previews.end(request.match_info["id"])
        except PreviewError as error:
            return _refused(error)
        return web.Response(status=204)

    async def status(_request: web.Request) -> web.Response:
        return _json(previews.status())

    app.add_routes([web.post("/channels", watch), web.post("/viewers", offer)])
    app.add_routes([web.delete("/viewers/{id}", end), web.get("/status", status)])
    return app


async def serve(folder: Path) -> None:
    """Run in ``folder`` until cancelled. Raises LaunchError where another process does, or without settings."""
    settings = read_settings(folder)
    use_addresses(settings.host)
    another = LaunchError(f"another preview process uses {folder}", retryable=False)
    with held(folder / "lock", another), listening(folder) as server:
        async with Previews(settings).running() as previews:
            # a request is cancelled with its connection: nobody would take the answer
            runner = web.AppRunner(
                application(previews), access_log=None, shutdown_timeout=0.5, handler_cancellation=True
            )
            await runner.setup()
            try:
                await web.SockSite(runner, server).start()
                log.info("preview listens", extra={"pid": os.getpid()})
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()


def read_settings(folder: Path) -> PreviewSettings:
    try:
        return PreviewSettings.model_validate_json((folder / SETTINGS).read_bytes())
    except OSError as error:
        raise LaunchError(f"can't read {folder / SETTINGS}: {why(error)}", retryable=False) from None
    except ValidationError:
        raise LaunchError(f"{folder / SETTINGS} is not what this version writes", retryable=False) from None


async def _answered(
    request: web.Request, model: type[_Request], act: Callable[[_Request], Awaitable[BaseModel]]
) -> web.Response:
    try:
        return _json(await act(model.model_validate_json(await request.read())))
    except ValidationError:
        return _refused(PreviewError(f"not a {model.__name__}", 422))
    except PreviewError as error:
        return _refused(error)


async def _now(status: ChannelStatus) -> ChannelStatus:
    return status


def _json(model: BaseModel, status: int = 200) -> web.Response:
    return web.Response(status=status, text=model.model_dump_json(), content_type="application/json")


def _refused(error: PreviewError) -> web.Response:
    return _json(Refusal(status=error.status, detail=str(error)), error.status)


def _status(path: str, watched: _Watched) -> ChannelStatus:
    channel = watched.channel
    now = sum(each.pictures.dropped + each.sound.dropped for each in watched.viewers.values())
    return ChannelStatus(
        path=path,
        state=channel.state,
        pictures=channel.pictures,
        sound=channel.sound,
        viewers=len(watched.viewers),
        dropped=channel.fanout.dropped + now,
        error=channel.error,
    )

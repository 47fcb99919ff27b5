"""The preview process from outside: started by the first question, restarted when it dies, ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from babelcast.control_socket import socket_path
from babelcast.errors import BabelcastError, LaunchError, MissingDependencyError, why
from babelcast.preview.settings import PreviewSettings
from babelcast.preview.wire import Answer, ChannelStatus, Offer, PreviewStatus, Refusal, Watch
from babelcast.process import Child

_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_Answer = TypeVar("_Answer", bound=BaseModel)
_SETTINGS = "settings.json"


class PreviewProcess:
    """Runs inside :meth:`running`, on the main thread's event loop. ``folder`` is its own.

    Every method raises PreviewError where the process refuses, LaunchError where it does not answer, and
    MissingDependencyError where what it needs is not installed.
    """

    def __init__(self, folder: Path, settings: PreviewSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._starting = asyncio.Lock()
        self._child: Child | None = None
        self._warming: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[PreviewProcess]:
        """Nothing is started yet on entry; what was started has ended on exit."""
        async with contextlib.AsyncExitStack() as stack:
            self._stack = stack
            try:
                yield self
            finally:
                for task in self._warming:
                    task.cancel()
                await asyncio.gather(*self._warming, return_exceptions=True)

    @property
    def pid(self) -> int | None:
        """None until somebody wanted to see something."""
        return self._child.pid if self._child else None

    def warm(self) -> None:
        """Begin to start it, where it does not run: somebody will want to see something in a moment."""
        if self._child is None and not self._warming:
            task = asyncio.create_task(self._warm(), name="preview start")
            self._warming.add(task)
            task.add_done_callback(self._warming.discard)

    async def _warm(self) -> None:
        with contextlib.suppress(BabelcastError):  # who asks next is told
            await self._started()

    async def watch(self, path: str, url: str) -> ChannelStatus:
        """Have ``url`` played under the name ``path``, for a while, and say how that goes."""
        return await self._ask(ChannelStatus, "POST", "/channels", Watch(path=path, url=url))

    async def offer(self, path: str, url: str, sdp: str) -> Answer:
        return await self._ask(Answer, "POST", "/viewers", Offer(path=path, url=url, sdp=sdp))

    async def end(self, viewer: str) -> None:
        if self._child is None:
            raise Refusal(status=404, detail="there is no such viewer (any more)").error()
        await self._request("DELETE", f"/viewers/{viewer}", None)

    async def status(self) -> PreviewStatus:
        """Also where nothing runs; that starts nothing."""
        if self._child is None:
            return PreviewStatus(viewers=0, channels=())
        return await self._ask(PreviewStatus, "GET", "/status", None)

    async def _ask(self, model: type[_Answer], method: str, target: str, body: BaseModel | None) -> _Answer:
        try:
            return model.model_validate_json(await self._request(method, target, body))
        except ValidationError:
            raise LaunchError("the preview process answers in another language than ours") from None

    async def _request(self, method: str, target: str, body: BaseModel | None) -> bytes:
        await self._started()
        data = None if body is None else body.model_dump_json()
        try:
            async with self._session.request(method, target, data=data) as response:
                text = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LaunchError(f"the preview process does not answer: {type(error).__name__}") from None
        if response.status >= 400:
            try:
                raise Refusal.model_validate_json(text).error()
            except ValidationError:
                raise LaunchError(f"the preview process answered {response.status}") from None
        return text

    async def _started(self) -> None:
        async with self._starting:
            if self._child is not None:
                return
            if importlib.util.find_spec("aiortc") is None:
                raise MissingDependencyError(
                    "the preview needs the packages of the extra `preview`", hint="pip install 'babelcast[preview]'"
                )
            try:
                await asyncio.to_thread(_write_settings, self._folder, self._settings)
            except OSError as error:
                raise LaunchError(f"the preview process can't be told its settings: {why(error)}") from error
            async with contextlib.AsyncExitStack() as stack:  # a start that fails leaves nothing behind
                path = stack.enter_context(socket_path(self._folder))
                connector = aiohttp.UnixConnector(path=path, limit=64)
                session = aiohttp.ClientSession("http://preview", connector=connector, timeout=_TIMEOUT)
                self._session = await stack.enter_async_context(session)
                argv = [sys.executable, "-m", "babelcast", "preview", "--folder", str(self._folder)]
                child = Child("preview", argv, ready=self._answers)
                await stack.enter_async_context(child.running())
                self._stack.push_async_exit(stack.pop_all())
            self._child = child

    async def _answers(self) -> bool:
        try:
            async with self._session.get("/status", timeout=aiohttp.ClientTimeout(total=1.0)) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def _write_settings(folder: Path, settings: PreviewSettings) -> None:
    """For its owner alone: there may be a TURN password in it, which belongs into no command line."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = folder / f"{_SETTINGS}.tmp"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(settings.model_dump_json())
    temporary.replace(folder / _SETTINGS)

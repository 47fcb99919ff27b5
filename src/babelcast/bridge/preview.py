"""The bridge's own preview: of its programme, at ``/preview`` of its API."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import APIRouter
from pydantic import ValidationError

from babelcast.bridge.service import Bridge
from babelcast.bridge.status import playable
from babelcast.errors import ConfigError
from babelcast.preview.process import PreviewProcess
from babelcast.preview.routes import Found, preview_router
from babelcast.preview.settings import PreviewSettings

PATH = "bridge"
_PREFIX = "BABELCAST_PREVIEW_"
_LISTS = ("frame_ancestors", "announce")


class FeedPath:
    """Implements routes.Paths: the programme, as far as there is one."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def find(self, path: str) -> Found | None:
        return Found(playable(self._bridge.status())) if path == PATH else None


def preview_settings(environment: Mapping[str, str]) -> PreviewSettings:
    """From ``BABELCAST_PREVIEW_TOKEN``, ``…_FRAME_ANCESTORS`` and the other settings of the section ``preview`` in
    capitals; lists are separated by commas, ``…_ICE_SERVERS`` is JSON. Raises ConfigError, which names the variable."""
    given: dict[str, Any] = {}
    for name in PreviewSettings.model_fields:
        text = environment.get(_PREFIX + name.upper())
        if not text:
            continue
        given[name] = [part.strip() for part in text.split(",")] if name in _LISTS else text
        if name == "ice_servers":
            try:
                given[name] = json.loads(text)
            except ValueError:
                raise ConfigError("not JSON", key=_PREFIX + name.upper()) from None
    try:
        return PreviewSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(str(first["msg"]), key=_PREFIX + str(first["loc"][0]).upper()) from None


@contextlib.asynccontextmanager
async def previewing(bridge: Bridge, settings: PreviewSettings) -> AsyncIterator[APIRouter]:
    """The routes; what they need is started when somebody looks and gone on exit."""
    with tempfile.TemporaryDirectory(prefix="babelcast-bridge-") as folder:
        async with (
            aiohttp.ClientSession() as http,
            PreviewProcess(Path(folder) / "preview", settings).running() as process,
        ):
            yield preview_router(process, FeedPath(bridge), http, settings, default=True)

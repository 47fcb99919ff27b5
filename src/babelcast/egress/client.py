"""The egress process as its orchestrator asks it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from babelcast.control_socket import socket_path
from babelcast.egress.wire import DesiredSet, EgressReport
from babelcast.errors import LaunchError


class EgressClient:
    """Valid inside :meth:`connected`. Every failure is a LaunchError."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, folder: Path, *, timeout_s: float = 2.0) -> AsyncIterator[EgressClient]:
        """Of the process in ``folder``, which must exist; the process may come and go."""
        with socket_path(folder) as path:
            connector = aiohttp.UnixConnector(path=path, limit=1)
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            async with aiohttp.ClientSession("http://egress", connector=connector, timeout=timeout) as session:
                yield cls(session)

    async def report(self) -> EgressReport:
        return await self._ask("GET", "/report", None)

    async def put(self, wanted: DesiredSet) -> EgressReport:
        """Raises LaunchError also where the process holds a later revision."""
        return await self._ask("PUT", "/desired", wanted.model_dump_json())

    async def _ask(self, method: str, path: str, body: str | None) -> EgressReport:
        try:
            async with self._session.request(method, path, data=body) as response:
                text = await response.text()
                if response.status != 200:
                    raise LaunchError(f"the egress process answered {response.status}: {text[:200]}")
                return EgressReport.model_validate_json(text)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = "" if isinstance(error, TimeoutError) else f": {str(error) or type(error).__name__}"
            raise LaunchError(f"the egress process does not answer{why}") from None
        except ValidationError as error:
            raise LaunchError(f"the egress process speaks another language: {error.error_count()} errors") from None

"""Audio dumps of a stream: what its worker is asked, and what it answers."""

from __future__ import annotations

from typing import Literal

import aiohttp
from pydantic import ValidationError

from babelcast.errors import ControlsError
from babelcast.orchestrator.handle import Handle
from babelcast.spec import DumpSpec, DumpStatus

_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


async def ask(
    http: aiohttp.ClientSession,
    handle: Handle | None,
    method: Literal["GET", "POST", "DELETE"],
    spec: DumpSpec | None = None,
) -> DumpStatus:
    """Raises ControlsError: 409 where there is no worker that answers, else what the worker says."""
    if handle is not None and handle.status_url is not None:
        body = spec.model_dump_json() if spec is not None else None
        try:
            async with http.request(method, f"{handle.status_url}/dumps", data=body, timeout=_TIMEOUT) as response:
                if response.status == 200:
                    return DumpStatus.model_validate_json(await response.read())
                if response.status in (409, 422):
                    problem = await response.json(content_type=None)
                    raise ControlsError(str(problem["detail"]), response.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError, ValueError, KeyError, TypeError):
            pass
    raise ControlsError("the stream has no worker that answers", 409)

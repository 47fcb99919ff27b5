"""What the media server tells us. Events are hints: they wake the reconcile loop, which asks for the truth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from babelcast.orchestrator.metrics import Metrics
from babelcast.orchestrator.problems import EVENTS_PREFIX
from babelcast.spec import is_output_path, stream_id_of_ingest_path
from babelcast.telemetry.logs import RateLimited

log = logging.getLogger(__name__)


class MediaEvent(BaseModel):
    """``path`` came or went. ``query`` may hold a publisher's password: it is neither logged nor kept."""

    model_config = ConfigDict(extra="ignore")

    path: str = Field(min_length=1, max_length=500, examples=["live/my-show/in"])
    query: str | None = Field(default=None, max_length=8192, repr=False)
    sourceType: str | None = Field(default=None, max_length=100, examples=["rtmpConn"])
    sourceId: str | None = Field(default=None, max_length=200)


def events_router(wake: Callable[[], None], metrics: Metrics) -> APIRouter:
    """``POST /v1/media/events/{ready,not-ready}``."""
    router = APIRouter(prefix=EVENTS_PREFIX.rstrip("/"), tags=["media server"])
    ignored = RateLimited()

    @router.post("/{event}", status_code=204, response_class=Response, summary="A path came (ready) or went")
    async def media_event(
        event: Literal["ready", "not-ready"],
        body: MediaEvent,
        x_request_id: Annotated[str | None, Header(max_length=200)] = None,
    ) -> None:
        stream_id = stream_id_of_ingest_path(body.path)
        metrics.events.labels(event if stream_id else "ignored").inc()
        if stream_id is not None:
            log.info("media server says %s", event, extra={"streamId": stream_id, "requestId": x_request_id})
        elif is_output_path(body.path):
            log.debug("media server says %s of %s", event, body.path)
        elif ignored.ready() is not None:
            log.info("event ignored: %r is no ingest path", body.path, extra={"requestId": x_request_id})
        wake()  # also for live/<id>/out, which forwarders wait for

    return router

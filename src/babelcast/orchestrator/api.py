"""The REST API. Routes only: what is shown comes from :mod:`views`, what is done is the service's."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from babelcast.egress.status import DestinationStatus
from babelcast.errors import ControlsError
from babelcast.orchestrator.login import Login, session_router, who
from babelcast.orchestrator.problems import create_api
from babelcast.orchestrator.views import EventView, HealthView, StreamView, Views
from babelcast.spec import STREAM_ID_PATTERN, Controls, ControlsPatch, DumpSpec, DumpStatus, SegmentEntry, revision_of

Id = Annotated[str, Path(pattern=f"^{STREAM_ID_PATTERN}$", description="stream id")]
Name = Annotated[str, Path(max_length=63, description="destination")]
Tail = Annotated[int, Query(ge=1, le=5000)]
Who = Annotated[str, Depends(who)]

MOST_ID = 2**53
"""No database and no browser counts further."""


class Service(Protocol):
    """Implemented by service.Orchestrator."""

    @property
    def views(self) -> Views: ...

    async def restart(self, stream_id: str, who: str) -> None: ...

    async def change_controls(
        self, stream_id: str, patch: ControlsPatch, revision: int | None, who: str
    ) -> tuple[Controls, bool]: ...

    async def dumps(
        self, stream_id: str, method: Literal["GET", "POST", "DELETE"], spec: DumpSpec | None = None
    ) -> DumpStatus: ...

    async def choose_destination(self, stream_id: str, name: str, enabled: bool, who: str) -> None: ...

    async def logs(self, stream_id: str, tail: int) -> list[str]: ...

    async def events(self, stream_id: str | None, after: int, limit: int) -> list[EventView]: ...

    def metrics_text(self) -> bytes: ...


def create_app(
    service: Service, events: APIRouter, token: SecretStr | None, view_token: SecretStr | None = None
) -> FastAPI:
    """``events`` are the media server's; ``token`` guards everything but health, documentation and local hooks;
    ``view_token`` opens previews alone."""
    description = "Streams, their workers and their destinations."
    app = create_api("Babelcast orchestrator", description, token, view_token)
    app.include_router(session_router(Login(token) if token is not None else None))
    app.include_router(_streams(service))
    app.include_router(_destinations(service))
    app.include_router(_service(service))
    app.include_router(events)
    return app


def _known(service: Service, stream_id: str) -> None:
    if not service.views.knows(stream_id):
        raise HTTPException(404, f"there is no stream {stream_id}")


def _streams(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/v1/streams", tags=["streams"])

    @router.get("", summary="All streams: those of the config file and those seen lately")
    async def streams() -> list[StreamView]:
        return await service.views.streams()

    @router.get("/{stream_id}", summary="One stream: state, worker, destinations, addresses, warnings")
    async def stream(stream_id: Id) -> StreamView:
        _known(service, stream_id)
        return await service.views.stream(stream_id)

    @router.get("/{stream_id}/segments", summary="Dubbed segments: times, both texts, lag")
    async def segments(stream_id: Id, after: Annotated[int, Query(ge=-1, le=MOST_ID)] = -1) -> list[SegmentEntry]:
        _known(service, stream_id)
        found = await service.views.segments(stream_id, after)
        if found is None:
            raise HTTPException(409, f"stream {stream_id} has no worker that answers")
        return found

    @router.post("/{stream_id}/restart", status_code=202, summary="Replace the worker; also ends a back-off")
    async def restart(stream_id: Id, who: Who) -> StreamView:
        _known(service, stream_id)
        if not service.views.on_air(stream_id):
            raise HTTPException(409, f"stream {stream_id} is not on air")
        await service.restart(stream_id, who)
        return await service.views.stream(stream_id)

    @router.get("/{stream_id}/controls", summary="What can be changed on air, as it is set")
    async def controls(stream_id: Id, response: Response) -> Controls:
        _known(service, stream_id)
        found = service.views.controls(stream_id)
        response.headers["ETag"] = f'"{found.revision}"'
        return found

    @router.patch(
        "/{stream_id}/controls",
        summary="Change some of it, without a restart and without a click",
        responses={202: {"model": Controls, "description": "It is kept, and the worker gets it once it answers"}},
    )
    async def change_controls(
        stream_id: Id,
        patch: ControlsPatch,
        response: Response,
        who: Who,
        if_match: Annotated[str | None, Header()] = None,
    ) -> Controls:
        _known(service, stream_id)
        try:
            changed, delivered = await service.change_controls(stream_id, patch, revision_of(if_match), who)
        except ControlsError as error:
            raise HTTPException(error.status, str(error)) from error
        response.status_code = 200 if delivered else 202
        response.headers["ETag"] = f'"{changed.revision}"'
        return changed

    async def dump(
        stream_id: str, method: Literal["GET", "POST", "DELETE"], spec: DumpSpec | None = None
    ) -> DumpStatus:
        _known(service, stream_id)
        try:
            return await service.dumps(stream_id, method, spec)
        except ControlsError as error:
            raise HTTPException(error.status, str(error)) from error

    @router.get("/{stream_id}/dumps", summary="Audio dumps on the worker's disk")
    async def dumps(stream_id: Id) -> DumpStatus:
        return await dump(stream_id, "GET")

    @router.post("/{stream_id}/dumps", summary="Begin rolling audio dumps: source, background, dub and mix")
    async def start_dumps(stream_id: Id, spec: DumpSpec | None = None) -> DumpStatus:
        return await dump(stream_id, "POST", spec or DumpSpec())

    @router.delete("/{stream_id}/dumps", summary="End them; the files stay until the worker's folder goes")
    async def stop_dumps(stream_id: Id) -> DumpStatus:
        return await dump(stream_id, "DELETE")

    @router.get("/{stream_id}/logs", summary="The last lines of the worker's log", response_class=PlainTextResponse)
    async def logs(stream_id: Id, tail: Tail = 200) -> PlainTextResponse:
        _known(service, stream_id)
        return PlainTextResponse("".join(f"{line}\n" for line in await service.logs(stream_id, tail)))

    return router


def _destinations(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/v1/streams/{stream_id}/destinations", tags=["destinations"])

    def one(stream_id: str, name: str) -> DestinationStatus:
        _known(service, stream_id)
        for status in service.views.destinations(stream_id):
            if status.name == name:
                return status
        raise HTTPException(404, f"stream {stream_id} has no destination of this name")

    @router.get("", summary="Where the stream is sent: state, bytes, last error")
    async def destinations(stream_id: Id) -> list[DestinationStatus]:
        _known(service, stream_id)
        return service.views.destinations(stream_id)

    @router.post("/{name}/start", status_code=202, summary="Send to it from now on, also after a restart")
    async def start(stream_id: Id, name: Name, who: Who) -> DestinationStatus:
        one(stream_id, name)
        await service.choose_destination(stream_id, name, True, who)
        return one(stream_id, name)

    @router.post("/{name}/stop", status_code=202, summary="Stop sending to it, also after a restart")
    async def stop(stream_id: Id, name: Name, who: Who) -> DestinationStatus:
        one(stream_id, name)
        await service.choose_destination(stream_id, name, False, who)
        return one(stream_id, name)

    return router


def _service(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/healthz", summary="Answers 200 while it runs; says what it can't reach")
    async def healthz() -> HealthView:
        return service.views.health()

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics_text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/api/v1/events", summary="What happened, oldest first")
    async def events(
        stream: Annotated[str | None, Query(max_length=63)] = None,
        after: Annotated[int, Query(ge=0, le=MOST_ID)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> list[EventView]:
        return await service.events(stream, after, limit)

    return router

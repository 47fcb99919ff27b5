"""A worker process: its session, its status server and its signals."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from babelcast.errors import BabelcastError, PublishError
from babelcast.gst.ingest import is_live
from babelcast.gst.publish import is_live_output
from babelcast.gst.runtime import check_elements
from babelcast.spec import BackendSpec, WorkerSpec
from babelcast.speech.base import SpeechBackend
from babelcast.worker.session import WorkerSession
from babelcast.worker.spool import Spool, spool_folder
from babelcast.worker.status import status_server, write_record

log = logging.getLogger(__name__)

EXIT_NEVER = 64
"""Exit code for a spec that can never work: a supervisor need not try again."""


def run_worker(spec: WorkerSpec, record_folder: Path | None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    _stamp_logs(spec.stream_id)
    try:
        check_elements()
        check_spec(spec)
        asyncio.run(_run(spec, record_folder))
    except BabelcastError as error:
        log.error("%s", error)
        return 1 if error.retryable else EXIT_NEVER
    return 0


def backend_of(spec: BackendSpec) -> SpeechBackend | None:
    """The speech backend, None for bypass. Bypass loads nothing of it: that is a third of the worker's memory."""
    if spec.kind == "none":
        return None
    from babelcast.speech.factory import make_backend

    return make_backend(spec)


def shared_backend_of(spec: WorkerSpec, backend: BackendSpec) -> SpeechBackend | None:
    """As :func:`backend_of`; the speech service recognises once for all languages, unless they have voices of their own
    (a session has one)."""
    made = backend_of(backend)
    languages = tuple(dict.fromkeys(target.language for target in spec.targets))
    if made is None or backend.kind != "sts" or len(languages) < 2:
        return made
    if len({target.voice for target in spec.targets}) > 1:
        return made
    from babelcast.speech.shared import SharedBackend
    from babelcast.wire import MAX_TARGETS

    if len(languages) > MAX_TARGETS:
        return made
    return SharedBackend(made, languages)


def check_spec(spec: WorkerSpec) -> None:
    """Raise IngestError or PublishError where an URL can never work."""
    is_live(spec.ingest_url)
    for target in spec.targets:
        if not is_live_output(target.output_url):
            raise PublishError("a worker pushes to rtmp:// or rtmps://", hint="babelcast dub IN OUT", retryable=False)


async def _run(spec: WorkerSpec, record_folder: Path | None) -> None:
    standbys = [backend for each in spec.standby_backends if (backend := shared_backend_of(spec, each)) is not None]
    spool = Spool(spool_folder(record_folder)) if record_folder is not None else None
    dumps = record_folder / "dumps" if record_folder is not None else None
    backend = shared_backend_of(spec, spec.backend)
    session = WorkerSession(spec, backend, standbys=standbys, spool=spool, dumps_folder=dumps)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, session.request_stop)
    async with status_server(session) as port:
        if record_folder is not None:
            write_record(session, port, record_folder)
        log.info("worker listens", extra={"port": port, "generation": spec.generation})
        await session.run()
    log.info("worker ended")


def _stamp_logs(stream_id: str) -> None:
    """Every line of this process carries the stream's id."""

    def stamp(record: logging.LogRecord) -> bool:
        # not by a record factory: with that, a caller that gives the id itself would get a KeyError
        record.streamId = stream_id
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(stamp)

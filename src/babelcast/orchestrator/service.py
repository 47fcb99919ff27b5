"""The orchestrator: read this first. It wires launcher, egress, reconcile loop and HTTP server."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import aiohttp
from fastapi import FastAPI

from babelcast import __version__
from babelcast.clock import Clock, MonotonicClock
from babelcast.config import Config
from babelcast.console.assets import load_assets
from babelcast.console.routes import console_router
from babelcast.console.state import publish_address
from babelcast.console.watch import Watch
from babelcast.egress.fleet import Place
from babelcast.errors import BabelcastError, ControlsError
from babelcast.hosts import reachable
from babelcast.media_server.base import MediaServer
from babelcast.orchestrator import dumps
from babelcast.orchestrator.api import create_app
from babelcast.orchestrator.bridge import BridgeAddress, BridgeClient, Order, bridge_router
from babelcast.orchestrator.captions import Captions, captions_router
from babelcast.orchestrator.console_source import ConsoleSource
from babelcast.orchestrator.controls import ControlsBook
from babelcast.orchestrator.desired import DEFAULT_SOURCE_GRACE_S, Settings
from babelcast.orchestrator.events import events_router
from babelcast.orchestrator.forwarding import Egress, Forwarding
from babelcast.orchestrator.http_server import serving
from babelcast.orchestrator.launchers.base import Launcher
from babelcast.orchestrator.loop import ReconcileLoop
from babelcast.orchestrator.metrics import Metrics
from babelcast.orchestrator.preview import ServerPaths
from babelcast.orchestrator.reconcile import Policy, Rng
from babelcast.orchestrator.store import AsyncStore, EventKind, Store
from babelcast.orchestrator.views import EventView, Views
from babelcast.preview.process import PreviewProcess
from babelcast.preview.routes import preview_router
from babelcast.spec import BackendKind, Controls, ControlsPatch, DumpSpec, DumpStatus, ingest_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the config file does not say. Times in seconds."""

    speech_urls: Mapping[BackendKind, str] = field(default_factory=dict)
    """Base address of the service behind each kind of backend, as ``up`` started it; else it is the config's."""
    journal_dir: Path | None = None
    """Workers write their segment journals to ``journal_dir/<stream id>``."""
    bridge: BridgeAddress | None = None
    """The media bridge that ``up`` started; else it is the config's."""
    preview_dir: Path | None = None
    """Folder of the preview process; without one there is no preview."""
    source_grace_s: float = DEFAULT_SOURCE_GRACE_S
    poll_s: float = 1.0
    stop_grace_s: float = 5.0
    policy: Policy = field(default_factory=Policy)


class Orchestrator:
    """Runs inside :meth:`running`. Media server and store belong to the caller, who closes them afterwards."""

    def __init__(
        self,
        config: Config,
        media_server: MediaServer,
        launcher: Launcher,
        store: Store,
        options: Options | None = None,
        *,
        egress: Egress,
        clock: Clock | None = None,
        rng: Rng | None = None,
    ) -> None:
        self._config = config
        self._server = media_server
        self._launcher = launcher
        self._raw_store = store
        self._options = options or Options()
        self._egress = egress
        self._clock = clock or MonotonicClock()
        self._rng = rng
        self._metrics = Metrics()
        self._port: int | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Orchestrator]:
        """On entry workers are adopted and the API answers (ConfigError when its port is taken, LaunchError when
        another orchestrator has the state directory). On exit the API goes first, then egress and workers together,
        each as its orphan policy says."""
        options = self._options
        settings = Settings(self._config, options.speech_urls, options.journal_dir, options.source_grace_s)
        self._store = AsyncStore(self._raw_store)
        self._wire(settings, await self._store.call(Store.destination_choices))
        async with contextlib.AsyncExitStack() as stack:
            self._http = await stack.enter_async_context(aiohttp.ClientSession())
            await self._controls.load(self._http)
            self.views = Views(
                settings, self._server, self._loop, self._forwarding, self._controls, self._clock, self._http
            )
            # egress and workers end at the same time: each has its own grace
            stack.push_async_callback(self._forwarding.stopped)
            await stack.enter_async_context(self._launcher.running(self._loop.wake))
            await self._forwarding.start()  # after the launcher, which knows that we are the only one
            stack.callback(self._forwarding.begin_stop)
            await stack.enter_async_context(self._loop.running())
            await self._serve(stack)
            log.info("the API answers at %s", self.api_url)
            yield self

    def _wire(self, settings: Settings, choices: Mapping[Place, bool]) -> None:
        self._forwarding = Forwarding(
            self._config, self._egress, choices, lambda path: self._server.read_url(path, "rtmp")
        )
        self._controls = ControlsBook(self._store)
        self._loop = ReconcileLoop(
            self._server,
            self._launcher,
            self._store,
            self._forwarding,
            self._controls,
            settings,
            self._metrics,
            self._clock,
            poll_s=self._options.poll_s,
            stop_grace_s=self._options.stop_grace_s,
            policy=replace(self._options.policy, max_workers=self._config.limits.workers),
            rng=self._rng,
        )

    async def _serve(self, stack: contextlib.AsyncExitStack) -> None:
        """The API, with all that is mounted on it."""
        options, listen, preview = self._options, self._config.listen, self._config.preview
        app = create_app(self, events_router(self._loop.wake, self._metrics), self._config.api_token, preview.token)
        captions = Captions(options.journal_dir, self._languages)
        app.include_router(captions_router(captions))
        address = options.bridge or BridgeAddress.of(self._config.bridge)
        bridge = BridgeClient(self._http, address) if address else None
        app.include_router(bridge_router(bridge, self._bridge_ordered))
        if options.preview_dir is not None:
            shown = await stack.enter_async_context(PreviewProcess(options.preview_dir, preview).running())
            paths = ServerPaths(self._server, bridge)
            app.include_router(preview_router(shown, paths, self._http, preview))
            await stack.enter_async_context(paths.kept_ready(shown, playing=preview.keep_ready))
        self._watch = await self._console(stack, app, bridge)
        self._port = await stack.enter_async_context(serving(app, listen.api_host, listen.api))
        stack.callback(captions.close)  # before the server, which waits for its answers
        stack.callback(self._watch.close)

    async def _console(self, stack: contextlib.AsyncExitStack, app: FastAPI, bridge: BridgeClient | None) -> Watch:
        """The operator's page, and what watches for it."""
        assets = load_assets()
        server = {
            "version": __version__,
            "page": assets.version,
            "login": self._config.api_token is not None,
            "preview": self._options.preview_dir is not None,
            "publish": publish_address(self._server.publish_url(ingest_path("my-show"))),
        }
        source = ConsoleSource(self.views, self._loop, self.events, bridge)
        watch = Watch(source, server)
        app.include_router(console_router(watch, assets))
        await stack.enter_async_context(watch.running())
        return watch

    def _languages(self, stream_id: str) -> tuple[str, tuple[str, ...]] | None:
        """(source, targets) by the config; None where the stream is not known."""
        stream = self._config.stream(stream_id)
        return (stream.source_language, stream.target_languages) if self.views.knows(stream_id) else None

    @property
    def api_url(self) -> str:
        """Where the API answers, as seen from this machine. Known once it runs."""
        return f"http://{reachable(self._config.listen.api_host)}:{self._port}"

    @property
    def events_url(self) -> str:
        """Base address for the media server's hooks."""
        return f"{self.api_url}/v1/media/events"

    def wake(self) -> None:
        """Look at the media server at once."""
        self._loop.wake()

    async def restart(self, stream_id: str, who: str) -> None:
        """Replace the worker. ``who``, here and below: the operator's name, for the events."""
        self._loop.restart(stream_id)
        await self._note("restart_requested", stream_id, f"{who}: restart")

    async def _bridge_ordered(self, order: Order, who: str) -> None:
        await self._note("bridge_ordered", "bridge", f"{who}: {order}")
        self._watch.poke()

    async def _note(self, kind: EventKind, stream_id: str, detail: str) -> None:
        try:
            await self._store.call(Store.add_event, kind, stream_id, detail)
        except BabelcastError as error:  # a full disk must not keep an operator from the air
            log.error("%s is in no list of events: %s", kind, error, extra={"streamId": stream_id})

    async def choose_destination(self, stream_id: str, name: str, enabled: bool, who: str) -> None:
        """Start or stop sending to a destination; outlives a restart. Raises BabelcastError where it is so now, and
        the database did not take it."""
        self._forwarding.choose(stream_id, name, enabled)
        self._loop.wake()
        self._watch.poke(stream_id)
        kind = "destination_started" if enabled else "destination_stopped"
        await self._store.call(Store.choose_destination, stream_id, name, enabled)
        await self._store.call(Store.add_event, kind, stream_id, f"{who}: {name}")

    async def change_controls(
        self, stream_id: str, patch: ControlsPatch, revision: int | None, who: str
    ) -> tuple[Controls, bool]:
        """Change what is on air, without a restart; outlives the worker. Returns the controls, and whether the worker
        has them already. Raises ControlsError."""
        source = self._loop.wanted.sources.get(stream_id) if self._loop.wanted else None
        if source is None:
            raise ControlsError(f"stream {stream_id} is not on air", 409)
        try:
            return await self._controls.change(source.spec, self._loop.latest(stream_id), patch, revision, who)
        finally:
            self._watch.poke(stream_id)

    async def dumps(
        self, stream_id: str, method: Literal["GET", "POST", "DELETE"], spec: DumpSpec | None = None
    ) -> DumpStatus:
        """List, begin or end the audio dumps of the stream's worker. Raises ControlsError."""
        return await dumps.ask(self._http, self._loop.latest(stream_id), method, spec)

    async def logs(self, stream_id: str, tail: int) -> list[str]:
        return [self.views.scrub(line) for line in await self._launcher.logs(stream_id, tail)]

    async def events(self, stream_id: str | None, after: int, limit: int) -> list[EventView]:
        """The latest ``limit`` events above ``after``, oldest first; of all streams when ``stream_id`` is None."""
        rows = await self._store.call(Store.events, stream_id=stream_id, after=after, limit=limit)
        return [self.views.event(row) for row in rows]

    def metrics_text(self) -> bytes:
        return self._metrics.render(
            self._loop.handles, self._forwarding.all_statuses(), egress_up=self._forwarding.error is None
        )

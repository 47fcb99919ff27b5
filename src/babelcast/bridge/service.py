"""The bridge as a whole: its programme, its sound, its destinations; started, stopped, and told new settings."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from babelcast.bridge.alerts import Alarms, Webhook, breaches
from babelcast.bridge.encoder import choose_encoder
from babelcast.bridge.events import Events
from babelcast.bridge.programme import Programme
from babelcast.bridge.recorder import Recorder, Recording
from babelcast.bridge.settings import ALIASES, NAMES, BridgeSettings, load, read_env_file
from babelcast.bridge.sound import Sound
from babelcast.bridge.status import BridgeState, BridgeStatus, EncoderStatus, RecordingStatus, SoundStatus, SourceStatus
from babelcast.egress.fleet import Fleet
from babelcast.egress.handler import EgressHandler
from babelcast.egress.settings import EgressSettings
from babelcast.egress.standby import SlateCache
from babelcast.egress.status import DestinationStatus
from babelcast.egress.wire import Delivery, SlateSpec
from babelcast.errors import BabelcastError, ConfigError
from babelcast.media_server.relay.server import Relay
from babelcast.slate.silence import SilenceAac, silence_aac
from babelcast.telemetry.redact import redact

log = logging.getLogger(__name__)

FEED = "live/bridge/in"
_TICK_S = 0.5
_AGAIN_S = 1.0
# the bridge's own slate is the first to be shown; this one is for the moment in which an encoder starts
_SLATE_HOLD_S = 24 * 3600.0
_PROGRAMME_FIELDS = frozenset(
    {
        *("source_url", "video_encoder", "video_bitrate", "video_preset", "video_size", "fps", "gop", "audio_bitrate"),
        *("slate", "slate_text", "slate_image", "source_timeout", "connect_timeout", "backoff_first", "backoff_max"),
    }
)


class SettingsFile:
    """Where settings come from: the environment as it was at the start, and the file as it is now."""

    def __init__(self, path: Path | None, environ: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._environ = dict(os.environ if environ is None else environ)

    def load(self) -> BridgeSettings:
        """Raises ConfigError."""
        return load(self._environ, self.path)

    def change(self, values: Mapping[str, str | None]) -> Callable[[], None]:
        """Write them into the file (None takes a line out), other lines and comments untouched. The whole is checked
        first: raises ConfigError, and nothing is written then. Returns its undo."""
        if self.path is None:
            raise ConfigError("the bridge has no settings file", hint="start it with --env-file")
        for name, value in values.items():
            if name not in NAMES:
                raise ConfigError("there is no such setting", key=name)
            if value is not None and (not value.isprintable() or value[:1] in ("'", '"') or value != value.strip()):
                raise ConfigError("the value can't be written as one line", key=name)
        before = read_env_file(self.path) if self.path.exists() else ""
        gone = {*values, *(ALIASES if any(values.get(name) is not None for name in ALIASES) else ())}
        kept = [
            line
            for line in before.splitlines()
            if line.strip().removeprefix("export ").partition("=")[0].strip() not in gone
        ]
        text = "".join(f"{line}\n" for line in [*kept, *(f"{n}={v}" for n, v in values.items() if v is not None)])
        load(self._environ, self.path, text)
        _write(self.path, text)
        return functools.partial(_write, self.path, before)


def _write(path: Path, text: str) -> None:
    """For its owner alone. Raises ConfigError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"can't write it: {error.strerror}", file=str(path)) from None


def deliveries(settings: BridgeSettings, feed_url: str) -> tuple[Delivery, ...]:
    """Primary and backup, as far as they are set. Pure."""
    # without the text: it is shown only while an encoder starts, and another text must not cost the sessions
    spec = SlateSpec() if settings.slate == "on" else None
    both = (
        ("primary", settings.primary_rtmp_url, settings.primary_stream_key),
        ("backup", settings.backup_rtmp_url, settings.backup_stream_key),
    )
    return tuple(
        Delivery(stream_id="bridge", source_url=feed_url, name=name, url=url, key=key, slate=spec)
        for name, url, key in both
        if url is not None
    )


def recording_of(settings: BridgeSettings) -> Recording | None:
    """Pure."""
    if settings.record is None:
        return None
    return Recording(settings.record, settings.record_minutes, round(settings.record_keep_gb * 1e9))


class Bridge:
    """Use as ``async with Bridge.running(file) as bridge``. Methods may be called at any time, one takes effect after
    the other."""

    def __init__(self, file: SettingsFile, relay: Relay, egress: EgressSettings | None = None) -> None:
        self.events = Events()
        self.webhook = Webhook()
        self.sound = Sound()
        self.settings = file.load()
        self._file = file
        self._feed_url = f"{relay.rtmp_url}/{FEED}"
        self.recorder = Recorder(self._feed_url)
        self._alarms = Alarms()
        slates = SlateCache()
        egress = egress or EgressSettings(slate_hold_s=_SLATE_HOLD_S)

        def forwarder(delivery: Delivery) -> EgressHandler:
            return EgressHandler(
                delivery.stream_id,
                delivery.source_url,
                delivery.destination,
                egress,
                slate=delivery.slate,
                slates=slates,
            )

        self._fleet = Fleet(forwarder)
        self._lock = asyncio.Lock()
        self._encoder: str | None = None
        self._programme: Programme | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._starting = False
        self._last_error: str | None = None
        self._settings_error: str | None = None
        self._shown: BridgeState = "stopped"
        self._since = datetime.now(UTC)
        self._destination_states: dict[str, str] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, file: SettingsFile, relay: Relay, egress: EgressSettings | None = None
    ) -> AsyncIterator[Bridge]:
        """Not started yet. Everything has ended when the block has."""
        bridge = cls(file, relay, egress)
        parts = [
            asyncio.create_task(bridge._fleet.run(), name="bridge destinations"),
            asyncio.create_task(_keep(bridge.sound.run), name="bridge sound"),
            asyncio.create_task(_keep(bridge.recorder.run), name="bridge recorder"),
            asyncio.create_task(_keep(bridge.webhook.run), name="bridge webhook"),
            asyncio.create_task(bridge._tick_forever(), name="bridge clock"),
        ]
        try:
            yield bridge
        finally:
            await bridge.stop()
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    # what an operator asks for

    async def start(self) -> None:
        """Raises ConfigError or MissingDependencyError. No effect where it runs."""
        async with self._lock:
            if self._task is None:
                await self._start()

    async def stop(self) -> None:
        async with self._lock:
            self._fleet.want(())
            self.recorder.use(None)
            await self._end_programme()
            self.sound.use("silence")
            self._failed = False
            self._tick()

    async def restart(self) -> None:
        """With the settings as they are now. Destinations get new sessions. Raises as :meth:`start`; it goes on with
        the earlier settings where the new ones are wrong, or can't be had here."""
        async with self._lock:
            before = self.settings
            self._read()
            if self._task is None:
                await self._start()
                return
            able = await self._able_or_as(before)
            self._fleet.want(())
            await self._end_programme()
            self._begin(*able)

    async def reload(self) -> None:
        """Read the settings again; touch only what they change. Raises ConfigError: nothing is changed then."""
        async with self._lock:
            await self._reload()

    async def change(self, values: Mapping[str, str | None]) -> None:
        """Write into the settings file, then :meth:`reload`. Raises as it does: nothing is changed then."""
        async with self._lock:
            undo = await asyncio.to_thread(self._file.change, values)
            try:
                await self._reload()
            except BabelcastError:
                if self._task is not None:
                    await asyncio.to_thread(undo)
                raise
            log.info("settings changed: %s", ", ".join(sorted(values)))

    async def _reload(self) -> None:
        before = self.settings
        self._read()
        if self._failed:  # what it could not be started with may be what has changed
            await self._start()
            return
        if self._task is None:
            return
        sound = self.settings.audio_source.get_secret_value()
        mapped = (sound == "input") != (before.audio_source.get_secret_value() == "input")
        if mapped or any(getattr(before, name) != getattr(self.settings, name) for name in _PROGRAMME_FIELDS):
            able = await self._able_or_as(before)
            await self._end_programme()
            self._begin(*able)
            return
        self._fleet.want(deliveries(self.settings, self._feed_url))
        self.recorder.use(recording_of(self.settings))
        self.sound.use(sound)

    def _read(self) -> None:
        try:
            self.settings = self._file.load()
        except ConfigError as error:
            self._refused(error)
            raise
        self._settings_error = None
        self.events.put("settings", {"error": None})

    def _refused(self, error: BabelcastError) -> None:
        self._settings_error = redact(str(error))
        self.events.put("settings", {"error": self._settings_error})

    async def _able(self) -> tuple[str, SilenceAac]:
        """What the settings need, tried out. Raises ConfigError or MissingDependencyError."""
        if self.settings.source_url is None and self.settings.slate == "off":
            raise ConfigError("there is no source", key="SRT_URL", hint="set SRT_URL or SOURCE_URL")
        return await choose_encoder(self.settings.video_encoder), await silence_aac()

    async def _able_or_as(self, before: BridgeSettings) -> tuple[str, SilenceAac]:
        """The same while a programme is on air: where it can't be, that one goes on with the settings ``before``."""
        try:
            return await self._able()
        except BabelcastError as error:
            self.settings = before
            self._refused(error)
            raise

    async def _start(self) -> None:
        self._starting, self._failed, self._last_error = True, False, None
        self._tick()
        try:
            able = await self._able()
        except BabelcastError as error:
            self._starting, self._failed, self._last_error = False, True, redact(str(error))
            self._tick()
            raise
        finally:
            self._starting = False
        self._begin(*able)

    def _begin(self, encoder: str, silence: SilenceAac) -> None:
        self._encoder = encoder
        programme = Programme(self.settings, encoder, self.sound, silence, self._feed_url, self.events.put)
        self._programme = programme
        self._task = asyncio.create_task(programme.run(), name="bridge programme")
        self.sound.use(self.settings.audio_source.get_secret_value())
        self._fleet.want(deliveries(self.settings, self._feed_url))
        self.recorder.use(recording_of(self.settings))
        log.info("started with %s", encoder)
        if self.settings.source_url is None:
            log.warning("no source is set (SRT_URL): only the slate is sent")
        if not deliveries(self.settings, self._feed_url):
            log.warning("no destination is set (PRIMARY_RTMP_URL): the programme is only at %s", self._feed_url)
        self._tick()

    async def _end_programme(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._programme = None

    # what is shown

    def _state(self) -> BridgeState:
        if self._failed:
            return "failed"
        if self._starting:
            return "starting"
        if self._programme is None:
            return "stopped"
        active = self._programme.switch.active
        return "live" if active == "source" else "slate" if active == "slate" else "waiting"

    def status(self) -> BridgeStatus:
        programme, settings = self._programme, self.settings
        figures = programme.figures if programme else None
        url = settings.source_url.get_secret_value() if settings.source_url else None
        source = settings.audio_source.get_secret_value()
        return BridgeStatus(
            state=self._shown,
            since=self._since,
            last_error=self._last_error,
            settings_error=self._settings_error,
            feed_url=self._feed_url,
            published=programme is not None and programme.published and programme.switch.active is not None,
            source=SourceStatus(
                url=redact(url) if url else None,
                state=programme.source_state if programme else "off",
                since=programme.source_since if programme else self._since,
                reconnects=programme.source_reconnects if programme else 0,
                bitrate_kbps=_kbps(programme.bytes_in.value()) if programme else 0.0,
                last_error=programme.source_error if programme else None,
            ),
            sound=SoundStatus(
                source=redact(source),
                state="silence" if programme and programme.no_sound and source == "input" else self.sound.state,
                reconnects=self.sound.reconnects,
                last_error="the source has no sound" if programme and programme.no_sound else self.sound.last_error,
            ),
            encoder=EncoderStatus(
                name=self._encoder,
                fps=round(programme.fps.value(), 1) if programme else 0.0,
                bitrate_kbps=_kbps(programme.bytes_out.value()) if programme else 0.0,
                frames=figures.frames if figures else 0,
                duplicated=figures.duplicated if figures else 0,
                dropped=figures.dropped if figures else 0,
                speed=figures.speed if figures else 0.0,
            ),
            destinations=self.destinations(),
            recording=RecordingStatus(
                state=self.recorder.state,
                folder=str(settings.record) if settings.record else None,
                files=self.recorder.files,
                bytes=self.recorder.bytes,
                last_error=self.recorder.last_error,
            ),
            alerts=self._alarms.raised,
        )

    def destinations(self) -> tuple[DestinationStatus, ...]:
        wanted = {each.name for each in deliveries(self.settings, self._feed_url)}
        return tuple(each for each in self._fleet.statuses() if each.name in wanted)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self._tick()
                if self.events.heard:
                    self.events.put("status", self.status().model_dump(mode="json"), keep=False)
            except Exception:
                log.exception("the status could not be worked out")

    def _tick(self) -> None:
        state = self._state()
        if state != self._shown:
            self._shown, self._since = state, datetime.now(UTC)
            log.info("the bridge is %s", state)
            self.events.put("state", {"state": state, "error": self._last_error})
        for each in self.destinations():
            if self._destination_states.get(each.name) != each.state:
                self._destination_states[each.name] = each.state
                self.events.put("destination", {"name": each.name, "state": each.state, "error": each.last_error})
        self._alert()

    def _alert(self) -> None:
        now = datetime.now(UTC)
        for change in self._alarms.update(breaches(self.status(), self.settings, now), self.settings, now):
            level = logging.WARNING if change.what == "raised" else logging.INFO
            log.log(level, "alert %s: %s", change.what, change.alert.message, extra={"alert": change.alert.name})
            self.events.put(f"alert.{change.what}", change.alert.model_dump(mode="json"))
            if self.settings.alert_webhook_url is not None:
                self.webhook.put(self.settings.alert_webhook_url.get_secret_value(), change)


async def _keep(run: Callable[[], Awaitable[None]]) -> None:
    """A fault of ours in one part must not silence it for the rest of the show."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("a part of the bridge failed; it begins again")
        await asyncio.sleep(_AGAIN_S)


def _kbps(bytes_a_second: float) -> float:
    return round(bytes_a_second * 8 / 1_000, 1)

"""What the bridge would do, for ``--dry-run``: the settings, the commands and the destinations, secrets masked."""

from __future__ import annotations

from babelcast.bridge import command
from babelcast.bridge.command import Pipes
from babelcast.bridge.service import deliveries
from babelcast.bridge.settings import BridgeSettings, is_file
from babelcast.egress.handler import shown_url
from babelcast.telemetry.redact import redact

_PIPES = Pipes(playlist=3, sound=4, progress=5, count=6)


def plan(settings: BridgeSettings, encoder: str) -> str:
    """Lines for people. Descriptors have example numbers."""
    lines = [f"# {name}={'' if value is None else value}" for name, value in settings.shown().items()]
    sound = settings.audio_source.get_secret_value()
    if settings.source_url is not None:
        source = settings.source_url.get_secret_value()
        how: command.Sound = "input" if sound == "input" else "pipe"
        lines += ["", "# the source's encoder; the programme leaves by its standard output, as FLV"]
        if not is_file(source):
            lines.append(f"# descriptor {_PIPES.playlist} holds: {redact(source)}")
        lines.append(command.shown(command.programme(settings, encoder, "source", how, _PIPES)))
    if settings.slate == "on":
        lines += ["", "# the slate's, while there is no source"]
        slate = command.programme(settings, encoder, "slate", "pipe", Pipes(sound=4, progress=5), "slate.txt")
        lines.append(command.shown([word for word in slate if word]))
    if command.is_played(sound):
        lines += ["", f"# sound; descriptor {_PIPES.playlist} holds: {redact(sound)}"]
        lines.append(command.shown(command.sound(sound, _PIPES.playlist)))
    lines += ["", "# destinations, each with a session, a queue and retries of its own"]
    lines += [f"# {each.name}: {shown_url(each.destination)}" for each in deliveries(settings, "rtmp://127.0.0.1/")]
    return "\n".join(lines)

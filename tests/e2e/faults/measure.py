"""What a destination saw while something was broken."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from babelcast.rtmp.message import Message, MessageType
from babelcast.units import Pcm
from tests.fakes.rtmp_destination import Session
from tests.worker.media import write_flv

_NOTICED_S = 0.3
_MEDIA = (MessageType.VIDEO, MessageType.AUDIO)


@dataclass(frozen=True)
class Gaps:
    """The longest of each, in seconds. ``picture``, ``sound``: between arrivals, also from one session to the next;
    ``picture_time``, ``sound_time``: between timestamps of a session; ``programme``: between arrivals of pictures of
    the programme itself, whatever stood in for them; ``away``: the sum of all such stretches of more than 0.3 s;
    ``sessions``: how many there were."""

    picture: float
    sound: float
    picture_time: float
    sound_time: float
    programme: float
    away: float
    sessions: int


def gaps(sessions: Sequence[Session], since: float, until: float) -> Gaps:
    """Between two moments of the loop's time. What came last before ``since`` counts as the beginning."""
    arrivals: dict[MessageType, list[float]] = {kind: [] for kind in _MEDIA}
    steps: dict[MessageType, float] = {kind: 0.0 for kind in _MEDIA}
    programme: list[float] = []
    own_header: bytes | None = None
    seen = 0
    for session in sessions:
        header, last, any_here = b"", dict.fromkeys(_MEDIA, -1), False
        for message, arrived in zip(session.messages, session.arrived, strict=True):
            kind = MessageType(message.type)
            if kind not in _MEDIA:
                continue
            if message.payload[1] == 0:
                if kind == MessageType.VIDEO:
                    header = message.payload
                    own_header = own_header or header
                continue
            if arrived > until:
                break
            arrivals[kind].append(arrived)
            if kind == MessageType.VIDEO and header == own_header:
                programme.append(arrived)
            if arrived >= since:
                any_here = True
                if last[kind] >= 0:
                    steps[kind] = max(steps[kind], (message.timestamp - last[kind]) / 1_000)
            last[kind] = message.timestamp
        seen += any_here
    return Gaps(
        picture=_longest(arrivals[MessageType.VIDEO], since, until),
        sound=_longest(arrivals[MessageType.AUDIO], since, until),
        picture_time=steps[MessageType.VIDEO],
        sound_time=steps[MessageType.AUDIO],
        programme=_longest(programme, since, until),
        away=sum(length for length in _lengths(programme, since, until) if length > _NOTICED_S),
        sessions=seen,
    )


def _longest(arrivals: list[float], since: float, until: float) -> float:
    """Also from the last arrival to the end: what never came back is a gap too."""
    return max(_lengths(arrivals, since, until), default=until - since)


def _lengths(arrivals: list[float], since: float, until: float) -> list[float]:
    return [b - max(a, since) for a, b in itertools.pairwise([*arrivals, until]) if b >= since]


def decoded(session: Session, folder: Path) -> Pcm:
    """The session's sound as float32, shape (n, 2), frame after frame as a player decodes it."""
    file = folder / "heard.flv"
    media: list[Message] = [message for message in session.messages if message.type == MessageType.AUDIO]
    write_flv(file, media)
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-map", "0:a", "-ac", "2", "-ar", "48000", "-f", "f32le", "-"]
    pcm = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return np.frombuffer(pcm, np.float32).reshape(-1, 2)

"""A show on the virtual clock in which whatever may happen happens, at random: what a listener may never hear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from tests.audio.signals import sine, stereo
from tests.audio.test_limit import resampled_peak_db

from babelcast.audio.clicks import find_clicks
from babelcast.audio.duck import Ducking
from babelcast.audio.fade import CROSSFADE
from babelcast.audio.fallback import FallbackCause, FallbackMode, FallbackPolicy, FallbackSettings
from babelcast.audio.mix import MIXER_LOOKAHEAD, Mixer, MixSettings
from babelcast.audio.schedule import Dropped, DubTrack, Placement, ScheduleSettings
from babelcast.audio.source import SourceAudio
from babelcast.audio.stretch import stretched_length
from babelcast.audio.turns import speech_powers
from babelcast.units import RATE, DubSegment, Pcm, samples_to_ns

pytestmark = pytest.mark.unit

S = RATE
BLOCK = S // 10
DELAY = 2 * S
SECONDS = 20
BEGIN = 10 * 3_600 * S  # ten hours on the air: positions are beyond what a float32 can count
MODES: tuple[FallbackMode, ...] = ("original", "background", "ducked", "repeat", "silence")
CAUSES: tuple[FallbackCause | None, ...] = (None, None, None, "closed", "breaker")
MISSING: tuple[Literal["ducked", "original", "skip"], ...] = ("ducked", "original", "skip")
LONGEST_S = 6.0


def cheap(voice: Pcm, tempo: float) -> Pcm:
    """As long as stretched speech, at none of its cost."""
    return voice[: stretched_length(len(voice), tempo)]


def tone(position: int, n: int, level: float) -> tuple[Pcm, Pcm]:
    """Original and background at a position: hums that are different in the channels, and one for the voice."""
    left, right = (sine(n, hz, 0.4 * level, start=position - BEGIN) for hz in (110.0, 130.0))
    voice = sine(n, 200.0, 0.4 * level, start=position - BEGIN)
    return stereo(left + voice, right + voice), stereo(left, right)


@dataclass
class Show:
    """What comes when, by ``seed``; times in samples."""

    seed: int
    arrivals: list[tuple[int, int, str, int]] = field(default_factory=list)  # comes at, position, what, samples
    segments: list[tuple[int, DubSegment]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.level = (0.1, 0.3, 1.0)[self.seed % 3]
        self._source()
        self._dub()

    def _source(self) -> None:
        rng, at, last, separated, late_until = self.rng, BEGIN, 0, 0, 0
        while at < BEGIN + SECONDS * S:
            n = int(rng.integers(480, 9_600))
            if rng.random() < 0.02:
                at += int(rng.uniform(0.1, 2.5) * S)  # the source is away
            last = max(at + n, last) + (int(rng.uniform(0.0, 2.8) * S) if rng.random() < 0.02 else 0)  # or stalls
            self.arrivals.append((last, at, "original", n))
            if rng.random() < 0.03:
                late_until = at + int(rng.uniform(0.2, 2.0) * S)  # separation is too slow, or fails
            late = at < late_until
            if not late or rng.random() < 0.5:  # in order, as a separator gives it, or never
                separated = max(separated, last + int(rng.uniform(0.2, 3.0 if late else 0.5) * S))
                self.arrivals.append((separated, at, "background", n))
            at += n
        self.arrivals.sort(key=lambda each: (each[0], each[1]))

    def _dub(self) -> None:
        rng, at, last = self.rng, BEGIN + S, 0
        for i in range(200):
            said = int(rng.uniform(0.3, 3.0) * S)
            rate = int(rng.choice([16_000, 22_050, 48_000]))
            dub = sine(min(round(said / S * rng.uniform(0.3, 2.0) * rate), round(LONGEST_S * rate)), 300.0, 0.3, rate)
            if rng.random() < 0.05:
                dub = dub * 0
            last = max(last, at + said + int(rng.uniform(-0.2, 3.0) * S))  # some come before their end, some too late
            segment = DubSegment(f"s{i}", i, samples_to_ns(at), samples_to_ns(at + said), dub, rate, voice="ab"[i % 2])
            self.segments.append((last, segment))
            if rng.random() < 0.05:
                self.segments.append((last, segment))  # again
            at += said + int(rng.choice([0, 0.02, 0.3, 2.5]) * S)
            if at > BEGIN + (SECONDS - 2) * S:
                break

    def settings(self) -> MixSettings:
        rng = self.rng
        return MixSettings(
            bg_gain=float(rng.uniform(0.2, 4.0)),
            dub_gain=float(rng.uniform(0.25, 4.0)),
            original_gain=float(rng.choice([0.0, 0.0, 0.3])),
            missing_background=MISSING[rng.integers(3)],
            ducking=Ducking(
                bool(rng.random() < 0.5), ratio=float(rng.uniform(1, 20)), attack_ms=float(rng.uniform(1, 50))
            ),
            balance="auto" if rng.random() < 0.5 else "off",
        )


@dataclass
class Heard:
    """``sure``: by block, whether there must be something to hear."""

    blocks: list[Pcm] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    settled: list[Placement | Dropped] = field(default_factory=list)
    backlogs_s: list[float] = field(default_factory=list)
    most_planned: int = 0


def play(show: Show) -> Heard:
    rng, heard = show.rng, Heard()
    source = SourceAudio(DELAY / S + 6)
    track = DubTrack(speech=lambda start, stop: speech_powers(source, start, stop), stretcher=cheap)
    mixer, policy = Mixer(source, track, show.settings()), FallbackPolicy(FallbackSettings())
    arrivals, segments = iter([*show.arrivals, None]), iter([*show.segments, None])
    arrival, segment = next(arrivals), next(segments)
    force: FallbackMode | None = None
    closed: FallbackCause | None = None
    there: list[bool] = []
    modes: list[FallbackMode | None] = []
    for position in range(BEGIN - DELAY, BEGIN + SECONDS * S, BLOCK):
        now = position + DELAY
        while arrival is not None and arrival[0] <= now:
            _, at, what, n = arrival
            original, background = tone(at, n, show.level)
            if what == "original":
                source.write_original(at, original)
            else:
                source.write_background(at, background)
            arrival = next(arrivals)
        while segment is not None and segment[0] <= now:
            track.add(segment[1], position)
            segment = next(segments)
        if rng.random() < 0.2:
            mixer.settings = show.settings()
        if rng.random() < 0.05:
            force = None if rng.random() < 0.6 else MODES[rng.integers(len(MODES))]
        if rng.random() < 0.05:
            closed = CAUSES[rng.integers(len(CAUSES))]
            policy.settings = FallbackSettings(MODES[rng.integers(len(MODES))])
        found = policy.decide(
            pos=position,
            watermark=position + int(rng.uniform(-3.0, 3.0) * S),
            closed=closed,
            dub_active=track.active(position, BLOCK + MIXER_LOOKAHEAD),
            lost=bool(rng.random() < 0.02),
        )
        modes.append(force or found)
        there.append(source.held(position - CROSSFADE, BLOCK + 4 * CROSSFADE) == BLOCK + 4 * CROSSFADE)
        heard.blocks.append(mixer.render(position, BLOCK, modes[-1]))
        heard.sure.append(all(there[-2:]) and len(there) > 1 and "silence" not in modes[-2:])
        heard.settled += track.take_settled()
        heard.backlogs_s.append(track.backlog_s(position))
        heard.most_planned = max(heard.most_planned, track.added - len(heard.settled))
    return heard


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens(seed: int) -> None:
    show = Show(seed)
    heard = play(show)
    sound = np.concatenate(heard.blocks)
    assert sound.dtype == np.float32 and sound.shape == (len(heard.blocks) * BLOCK, 2)
    assert np.isfinite(sound).all()
    assert [(round(c.time_s, 3), round(c.height_db)) for c in find_clicks(sound)] == []
    assert resampled_peak_db(sound) <= -0.95
    assert sum(heard.sure) > len(heard.sure) // 8
    for block, sure in zip(heard.blocks, heard.sure, strict=True):
        if sure:
            assert np.sqrt(np.mean(np.square(block.reshape(10, -1)), axis=1)).min() > 3e-4 * show.level
    hard_s = ScheduleSettings().hard_backlog_s
    assert max(heard.backlogs_s) <= hard_s + LONGEST_S and heard.most_planned < 20
    placed = [verdict for verdict in heard.settled if isinstance(verdict, Placement)]
    assert len(placed) > 3
    for verdict in placed:
        end_s = (verdict.start + verdict.duration) / S - verdict.segment.source_end_ns / 1e9
        assert verdict.offset_s <= hard_s + 0.01 and end_s <= hard_s + LONGEST_S
    assert len(heard.settled) <= len(show.segments)

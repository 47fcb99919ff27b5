"""A guard: never raises, never stays slow, and every sample comes out once, at its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.separate import material, networks

from babelcast.separate.base import Separated, nothing
from babelcast.separate.factory import make_separator
from babelcast.separate.guard import FADE, Guard, Step
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit

BLOCK = 4_800
LATENCY = 10_000


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Part:
    """A separator by which ``share`` of everything is speech; it takes ``cost`` × real time on ``clock``."""

    latency_samples = LATENCY
    batch_samples = 0

    def __init__(self, name: str, share: float, clock: Clock, cost: Callable[[], float] = lambda: 0.0) -> None:
        self.active = name
        self._share = np.float32(share)
        self._clock = clock
        self._cost = cost
        self._held = np.zeros((0, 2), np.float32)
        self.broken: Callable[[Separated], Separated] | None = None

    def process(self, block: Pcm) -> Separated:
        self._clock.now += self._cost() * len(block) / RATE
        self._held = np.concatenate((self._held, block))
        return self._give(max(0, len(self._held) - LATENCY))

    def flush(self) -> Separated:
        return self._give(len(self._held))

    hand_over = flush

    def _give(self, n: int) -> Separated:
        part, self._held = self._held[:n], self._held[n:]
        out = Separated((1 - self._share) * part, self._share * part)
        return self.broken(out) if self.broken is not None else out


def fail(_out: Separated) -> Separated:
    raise ValueError("the network fell over")


def blocks(seconds: float) -> list[Pcm]:
    """A ramp, so that every sample is known by its value."""
    n = round(seconds * RATE)
    ramp = np.linspace(0.1, 0.9, n, dtype=np.float32)
    return [np.stack([ramp[i : i + BLOCK]] * 2, axis=1) for i in range(0, n, BLOCK)]


class Run:
    """Feeds a guard, and notes which samples were separated and how large a share was speech."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.speech: list[Pcm] = []
        self.sums: list[Pcm] = []
        self.failed = 0

    def feed(self, sound: list[Pcm], queued_s: float = 0.0) -> None:
        for block in sound:
            self.take(self.guard.process(block, queued_s))

    def take(self, out: Separated) -> None:
        self.failed += len(out) if out.failed else 0
        if len(out):
            self.sums.append(out.background + out.speech)
            self.speech.append(out.speech)

    def end(self, sound: list[Pcm]) -> Pcm:
        """All came out once and in order. Gives the share of speech by sample."""
        self.take(self.guard.flush())
        wanted, got = np.concatenate(sound), np.concatenate(self.sums)
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 1e-5
        share: Pcm = np.concatenate(self.speech)[:, 0] / wanted[:, 0]
        return share


def ladder(clock: Clock, cost: Callable[[], float]) -> Guard:
    steps = [
        Step("best", lambda: Part("best", 0.8, clock, cost), 2.0),
        Step("good", lambda: Part("good", 0.4, clock), 2.0),
    ]
    return Guard(steps, ladder=True, clock=clock)


def test_a_separator_that_fails_costs_its_fragment_and_is_made_anew() -> None:
    clock, made = Clock(), []

    def make() -> Part:
        made.append(Part("only", 0.5, clock))
        return made[-1]

    run, sound = Run(Guard([Step("only", make)], clock=clock)), blocks(6)
    run.feed(sound[:20])
    made[0].broken = fail
    run.feed(sound[20:])
    share = run.end(sound)
    assert len(made) == 2
    assert LATENCY <= run.failed < LATENCY + 2 * BLOCK
    assert np.count_nonzero(share < 0.25) == run.failed
    assert run.guard.failures == 1
    assert run.guard.warnings == ("separation failed once: the network fell over",)


@pytest.mark.parametrize("value", [np.nan, np.inf, 100.0])
def test_what_is_not_sound_counts_as_failure(value: float) -> None:
    clock = Clock()
    part = Part("only", 0.5, clock)
    part.broken = lambda out: Separated(np.full_like(out.background, value), out.speech)
    guard = Guard([Step("only", lambda: part)], clock=clock)
    run, sound = Run(guard), blocks(3)
    run.feed(sound)
    assert run.failed > 0
    assert not run.end(sound).any()
    assert "not sound" in guard.warnings[0]


def test_one_that_always_fails_rests_longer_and_longer() -> None:
    made = []

    def make() -> Part:
        made.append(1)
        raise RuntimeError("no memory")

    guard = Guard([Step("only", make)], clock=Clock())
    run, sound = Run(guard), blocks(120)
    run.feed(sound)
    assert 6 <= len(made) <= 9
    assert run.failed == 120 * RATE
    assert guard.active == "off"
    assert not run.end(sound).any()


def test_one_that_can_not_keep_up_goes_down_a_step_with_a_crossfade() -> None:
    clock, cost = Clock(), [0.3]
    guard = ladder(clock, lambda: cost[0])
    run, sound = Run(guard), blocks(60)
    run.feed(sound[:200])
    assert guard.active == "best" and not guard.warnings
    cost[0] = 1.5
    run.feed(sound[200:])
    assert guard.active == "good"
    assert guard.steps_down == 1
    assert run.failed == 0
    share = run.end(sound)
    steps = np.abs(np.diff(share))
    assert steps.max() < 2 * 0.4 / FADE  # linear over 50 ms, nowhere a jump
    assert share[0] == pytest.approx(0.8) and share[-1] == pytest.approx(0.4)
    changed = int(np.argmax(share < 0.79)) / RATE
    assert 20 < changed < 33  # within a window of 12 s
    assert "went down from best to good: best can't keep real time, it takes " in guard.warnings[0]


def test_a_queue_that_builds_up_is_enough() -> None:
    clock = Clock()
    guard = ladder(clock, lambda: 0.1)
    run, sound = Run(guard), blocks(40)
    run.feed(sound[:100])
    run.feed(sound[100:], queued_s=5.0)
    assert guard.active in ("good", "off")
    assert "5 s wait for it" in guard.warnings[0]


def test_a_source_that_stalled_and_brings_it_all_at_once_is_no_slow_machine() -> None:
    clock = Clock()
    guard = ladder(clock, lambda: 0.1)
    run, sound = Run(guard), blocks(30)
    run.feed(sound[:100])
    for turn in range(5):
        run.feed(sound[100 + 40 * turn : 120 + 40 * turn], queued_s=5.5)
        run.feed(sound[120 + 40 * turn : 140 + 40 * turn], queued_s=1.0)
    assert guard.active == "best" and guard.steps_down == 0


def test_below_the_last_step_nothing_is_separated_and_nothing_is_lost() -> None:
    clock = Clock()
    guard = Guard([Step("only", lambda: Part("only", 0.5, clock, lambda: 2.0))], ladder=True, clock=clock)
    run, sound = Run(guard), blocks(40)
    run.feed(sound)
    assert guard.active == "off"
    assert 20 * RATE < run.failed < 30 * RATE
    share = run.end(sound)
    assert share[0] == pytest.approx(0.5) and share[-1] == 0


def test_it_goes_up_again_after_a_quiet_while_but_not_if_it_is_still_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("babelcast.separate.guard._UP_S", 30.0)
    clock, cost = Clock(), [2.0]
    guard = ladder(clock, lambda: cost[0])
    run, sound = Run(guard), blocks(140)
    run.feed(sound[:500])
    assert guard.active == "good"  # tried after 30 s on what was heard last, and it was too slow
    cost[0] = 0.1
    run.feed(sound[500:])
    assert guard.active == "best"
    assert guard.steps_down == 1 and not guard.warnings
    assert run.failed == 0
    share = run.end(sound)
    assert np.abs(np.diff(share)).max() < 2 * 0.4 / FADE
    assert share[-1] == pytest.approx(0.8)


def test_one_asked_for_by_name_stays_and_says_that_it_is_too_slow() -> None:
    clock = Clock()
    guard = Guard([Step("only", lambda: Part("only", 0.5, clock, lambda: 2.0))], clock=clock)
    run = Run(guard)
    run.feed(blocks(30))
    assert guard.active == "only" and not run.failed
    assert guard.warnings == ("this machine is too slow for only separation: background is lost",)


def test_a_file_has_no_real_time_to_keep() -> None:
    clock = Clock()
    steps = [
        Step("best", lambda: Part("best", 0.8, clock, lambda: 5.0)),
        Step("good", lambda: Part("good", 0.4, clock)),
    ]
    run = Run(Guard(steps, ladder=True, live=False, clock=clock))
    run.feed(blocks(40), queued_s=6.0)
    assert run.guard.active == "best"


def test_failures_in_a_row_take_a_ladder_down() -> None:
    clock = Clock()

    def make() -> Part:
        part = Part("best", 0.8, clock)
        part.broken = fail
        return part

    guard = Guard([Step("best", make), Step("good", lambda: Part("good", 0.4, clock))], ladder=True, clock=clock)
    run, sound = Run(guard), blocks(20)
    run.feed(sound)
    assert guard.active == "good"
    assert guard.failures == 3
    assert run.failed < 5 * RATE
    assert run.end(sound)[-1] == pytest.approx(0.4)
    assert "3 times in a row" in guard.warnings[0]


def test_a_flush_that_fails_gives_the_rest_as_it_came() -> None:
    part = Part("only", 0.5, Clock())
    guard = Guard([Step("only", lambda: part)], clock=Clock())
    run, sound = Run(guard), blocks(1)
    run.feed(sound)
    part.broken = fail
    assert run.end(sound)[-1] == 0
    part.broken = None
    out = guard.process(np.zeros((0, 2), np.float32))
    assert len(out) == len(nothing())


def test_a_network_gone_mad_is_replaced_by_the_spectral_hold_on_air(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = networks.scaled(tmp_path / "n.onnx", 1e6, sample_rate="48000")
    guard = make_separator("auto", str(path), delay_s=6.0)
    assert guard.active == "neural"
    voice = np.tile(material.talk(), 3)
    sound = voice[:, None] + material.at_level(material.crowd(len(voice)), 12)[: len(voice)]
    parts = [guard.process(sound[i : i + BLOCK]) for i in range(0, len(sound), BLOCK)]
    assert guard.failures == 3
    assert guard.active in ("spectral", "centre")
    assert not any(part.failed for part in parts[-100:])
    assert "went down from neural" in guard.warnings[0]

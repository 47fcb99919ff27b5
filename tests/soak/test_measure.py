"""A soak must see a leak, and must not cry wolf."""

from __future__ import annotations

import os
import random

import pytest

from tests.soak.measure import Growth, Life, Sample, growth, role_of, take_samples

pytestmark = pytest.mark.unit


def judged(rss_of: list[float], fds_of: list[int] | None = None, warm_up_s: float = 60.0) -> Growth:
    fds = fds_of or [20] * len(rss_of)
    life = Life("worker", 1, [Sample(10.0 * i, rss, fds[i], 9) for i, rss in enumerate(rss_of)])
    found = growth(life, warm_up_s)
    assert found
    return found


def test_a_leak_is_seen_and_its_slope_measured() -> None:
    rng = random.Random(1)
    found = judged([150 + 60 * i / 360 + rng.uniform(-2, 2) for i in range(720)])  # two hours, 60 MiB an hour
    assert found.slope_mib_h == pytest.approx(60, rel=0.05)
    assert "memory grew" in found.complaints[0]


def test_a_warm_up_noise_and_one_step_are_no_leak() -> None:
    rng = random.Random(2)
    assert not judged([min(150.0, 60 + 20 * i) + rng.uniform(-3, 3) for i in range(200)]).complaints
    assert not judged([150.0] * 100 + [155.0] * 100).complaints
    assert judged([150.0] * 100 + [155.0] * 100).slope_mib_h < 40


def test_descriptors_that_are_never_closed_are_seen() -> None:
    assert "file descriptors" in judged([100.0] * 100, [20 + i // 5 for i in range(100)]).complaints[0]


def test_a_short_life_is_not_judged() -> None:
    life = Life("sts", 1, [Sample(10.0 * i, 100, 9, 9) for i in range(20)])
    assert growth(life, 60) and growth(life, 60, 130)
    assert growth(life, 130) is None and growth(life, 60, 131) is None


def test_processes_are_read_by_what_they_are() -> None:
    assert role_of("/x/python -m babelcast worker --spec y") == "worker"
    assert role_of("/usr/bin/apertium-transfer -t") == "apertium-transfer"
    lives: dict[int, Life] = {}
    take_samples({os.getpid(): "python -m babelcast up", 2**22 + 1: "gone"}, 1.0, lives)
    [life] = lives.values()
    assert life.role == "up" and life.samples[0].rss_mib > 5 and life.samples[0].fds > 2


def test_a_spare_that_becomes_a_worker_begins_anew() -> None:
    lives: dict[int, Life] = {}
    mine = os.getpid()
    for at_s, command in enumerate(("spare-worker ___", "spare-worker ___", "worker --spec a", "worker --spec a")):
        take_samples({mine: f"python -m babelcast {command}"}, float(at_s), lives)
    assert lives[mine].role == "worker" and [sample.at_s for sample in lives[mine].samples] == [2.0, 3.0]

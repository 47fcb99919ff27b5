from __future__ import annotations

import numpy as np
import pytest

from babelcast.audio.pcm import rms, to_s16le
from babelcast.bridge.audio_endpoint.mixer import BLOCK
from babelcast.bridge.jitter import SoundQueue
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit


def _stereo(n: int) -> Pcm:
    tone = 0.5 * np.sin(2 * np.pi * 440.0 * np.arange(n) / RATE)
    return np.repeat(tone.astype(np.float32)[:, None], 2, axis=1)


def _largest_step(samples: Pcm) -> float:
    return float(np.abs(np.diff(samples, axis=0)).max())


def test_a_queue_starts_late_and_fades_in_and_out_where_it_runs_dry() -> None:
    queue = SoundQueue(0.2, 2.0, late_s=0.6)
    queue.put(to_s16le(_stereo(RATE // 10)))
    assert queue.take(BLOCK) is None
    queue.put(to_s16le(_stereo(RATE // 5 - RATE // 10 + 100)))
    out = []
    while (block := queue.take(BLOCK)) is not None:
        out.append(block)
    heard = np.concatenate(out)
    assert queue.underruns == 1 and len(heard) >= RATE // 5
    assert abs(heard[0, 0]) < 0.01 and _largest_step(heard) < 0.05
    queue.put(to_s16le(_stereo(RATE // 10)))
    assert queue.take(BLOCK) is None, "it waits again"


@pytest.mark.parametrize("exactly", [True, False])
def test_what_runs_dry_fades_out_also_where_a_block_ends(exactly: bool) -> None:
    queue = SoundQueue(0.02, 2.0, late_s=0.6)
    queue.put(to_s16le(np.full((3 * BLOCK - (not exactly), 2), 0.5, np.float32)))
    heard = np.concatenate([block for _ in range(3) if (block := queue.take(BLOCK)) is not None])
    assert len(heard) == 3 * BLOCK and heard[-1, 0] < 0.01 and _largest_step(heard) < 0.009
    assert queue.take(BLOCK) is None and queue.underruns == 1


@pytest.mark.parametrize("burst_s", [1.5, 2.5])
def test_a_burst_that_stays_is_trimmed_to_the_target_without_a_click(burst_s: float) -> None:
    queue = SoundQueue(0.2, 2.0, late_s=0.6)
    source = to_s16le(_stereo(round((0.25 + burst_s) * RATE)))
    queue.put(source[: RATE * 4 // 4])
    heard = [queue.take(BLOCK) for _ in range(3)]
    queue.put(source[RATE * 4 // 4 :])
    assert (queue.trimmed_s > 0) is (burst_s > 2.0), "at once where it is too much"
    while not queue.trimmed_s:
        heard.append(queue.take(BLOCK))
    assert queue.seconds == pytest.approx(0.2, abs=0.021) and len(heard) <= 30
    assert queue.trimmed_s + queue.seconds + len(heard) / 50 == pytest.approx(0.25 + burst_s, abs=0.001)
    heard += [queue.take(BLOCK) for _ in range(8)]
    assert _largest_step(np.concatenate([block for block in heard if block is not None])) < 0.06


def test_a_short_body_that_comes_at_once_is_heard_whole() -> None:
    queue = SoundQueue(0.2, 2.0, late_s=0.6)
    queue.put(to_s16le(_stereo(RATE)))
    for _ in range(10):
        assert queue.take(BLOCK) is not None
    queue.complete = True
    queue.put(to_s16le(_stereo(RATE)))
    assert not queue.full
    blocks = [block for _ in range(100) if (block := queue.take(BLOCK)) is not None]
    assert (queue.trimmed_s, len(blocks)) == (0, 90)


def test_a_beep_keeps_its_beginning_and_its_end() -> None:
    queue = SoundQueue(0.2, 0.5)
    queue.put(to_s16le(np.full((BLOCK, 2), 0.5, np.float32)))
    queue.ended = True
    block = queue.take(BLOCK)
    assert block is not None and _largest_step(np.concatenate([np.zeros((1, 2)), block])) < 0.01
    assert np.flatnonzero(block[:, 0] > 0.49).size > 0.016 * RATE


def test_a_file_is_never_trimmed_and_says_when_it_is_full() -> None:
    queue = SoundQueue(0.2, 0.5)
    queue.put(to_s16le(_stereo(RATE)))
    assert (queue.full, queue.trimmed_s) == (True, 0)
    for _ in range(40):
        queue.take(BLOCK)
    assert (queue.full, queue.finished) == (False, False)
    queue.ended = True
    for _ in range(11):
        queue.take(BLOCK)
    assert (queue.finished, queue.underruns) == (True, 0)


def test_what_is_shorter_than_the_target_is_heard_when_it_has_ended() -> None:
    queue = SoundQueue(0.2, 2.0, late_s=0.5)
    queue.put(to_s16le(_stereo(100)))
    assert queue.take(BLOCK) is None
    queue.ended = True
    block = queue.take(BLOCK)
    assert block is not None and rms(block) > 0.01 and queue.finished

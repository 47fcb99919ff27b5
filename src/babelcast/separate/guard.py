"""Round whatever separates: it never raises, never stays slow, and says what became of it.

*Failure* (an exception, a result that is not a number or far louder than what went in): the span that was held back
is given as *failed*, so that the mixer's rule for a missing background holds, and the separator is made anew; after
repeated failures it rests, up to a minute at a time.

*Steps*: ``auto`` is a ladder of separators, best first. It goes down a step when the one at work can't keep real time
(over a window it computes longer than 80 % of what the sound lasts, or a queue has built up and stays) or fails three
times in a row, and tries to go up again after five quiet minutes, each time after twice as long, at most an hour. Below
the last step nothing is separated at all: ``off``, everything is failed. A change is crossfaded over 50 ms where both
know the same samples.

A file (``live=False``) has no real time to keep. Nothing here knows a wall clock but by ``clock``, so a test can be
slow without waiting.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from babelcast.separate.base import KEEPS_UP, Separated, SeparationError, Separator, needed_delay_s, nothing
from babelcast.separate.stft import joined
from babelcast.units import CHANNELS, RATE, Pcm

log = logging.getLogger(__name__)

FADE = RATE // 20
_WINDOW_S = 12.0
_BATCHES = 4  # the window holds at least so many batches
_QUEUED_S = 4.0  # of the 6 s that the listener's queue holds
_PATIENCE_S = 1.5  # a source that stalled brings seconds at once, which are soon through
_SETTLING_S = 8.0  # after a change the queue may drain before it is looked at
_FAILURES = 3
_REST_S, _LONGEST_REST_S = 1.0, 60.0
_GOOD_S = 30.0  # of work without failure after which failures are forgotten
_UP_S, _LONGEST_UP_S = 300.0, 3_600.0
_UP_RATIO = 0.4
_TOO_LOUD, _FLOOR = 4.0, 0.1  # an estimate may be so many times as loud as the programme, and as quiet programmes'


@dataclass(frozen=True, slots=True)
class Step:
    """``make`` may raise. ``lead_in_s``: how much of the past it wants to hear before it takes over."""

    name: str
    make: Callable[[], Separator]
    lead_in_s: float = 0.0


class Guard:
    """Implements Separator. Single-threaded: all but the properties belongs to the thread that separates.

    ``ladder``: it may go down the steps, and below the last; else there is one, which was asked for by name.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        ladder: bool = False,
        live: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._steps = tuple(steps)
        self._ladder = ladder
        self._live = live
        self._clock = clock
        self._level = 0
        self._inner: Separator | None = None
        self._history: deque[Pcm] = deque()  # from sample _history_start to _taken
        self._history_start = self._taken = self._given = 0
        self._heard_s = 0.0  # of sound, ever
        self._skip = 0  # samples of the new separator's output that were given before
        self._old: Separated | None = None  # the old one's estimates of what comes next
        self._ready = nothing()  # came out, and was not given yet
        self._pace = _Pace()
        self._row = 0  # failures in a row
        self._failed_at = self._changed_at = self._rest_until = 0.0
        self._up_after_s = _UP_S
        self.failures = 0
        self.steps_down = 0
        self._why_failed: str | None = None
        self._why_down: str | None = None
        self._too_slow = False
        self._queued_since: float | None = None

    # --- what others see ---

    @property
    def active(self) -> str:
        """See Separator; ``off`` too where nothing can be separated now."""
        return self._inner.active if self._inner is not None else "off"

    @property
    def latency_samples(self) -> int:
        return self._inner.latency_samples if self._inner is not None else 0

    @property
    def batch_samples(self) -> int:
        return self._inner.batch_samples if self._inner is not None else 0

    @property
    def needed_delay_s(self) -> float:
        """The least fixed delay at which the separator at work is ready in time."""
        return needed_delay_s(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know, one sentence each."""
        out = []
        if self._level > 0 and self._why_down is not None:
            out.append(f"separation went down from {self._steps[0].name} to {self.active}: {self._why_down}")
        elif self._too_slow:
            out.append(f"this machine is too slow for {self.active} separation: background is lost")
        if self.failures and self._why_failed is not None:
            times = "once" if self.failures == 1 else f"{self.failures} times"
            out.append(f"separation failed {times}: {self._why_failed}")
        return tuple(out)

    def prepare(self) -> None:
        """Make the separator now rather than with the first block; raises what its maker raises."""
        if self._inner is None:
            self._inner = self._steps[self._level].make()

    # --- Separator ---

    def process(self, block: Pcm, queued_s: float = 0.0) -> Separated:
        """See Separator. ``queued_s``: how much sound waits behind ``block``."""
        began = self._clock()
        self._take(block)
        out = self._work(block)
        self._keep_pace(len(block) / RATE, self._clock() - began, queued_s)
        return out

    def flush(self) -> Separated:
        """See Separator."""
        out = nothing()
        if self._inner is not None:
            try:
                out = self._checked(joined([self._ready, self._inner.flush()]))
            except Exception as error:
                self._note_failure(error)
        if not len(out):
            out = self._unseparated()
        self._history.clear()
        self._history_start = self._taken = self._given = 0
        self._skip, self._old, self._ready = 0, None, nothing()
        return out

    def hand_over(self) -> Separated:
        """See Separator."""
        return self.flush()

    # --- work ---

    def _work(self, block: Pcm) -> Separated:
        try:
            if self._inner is not None:
                self._ready = joined([self._ready, self._inner.process(block)])
            else:
                self._begin()
            ready, self._ready = self._ready, nothing()
            if self._inner is None and not len(ready):
                return self._unseparated()
            return self._checked(ready)
        except Exception as error:
            return self._fail(error)

    def _begin(self) -> None:
        """Make the separator, unless it rests, and let it hear the block at hand."""
        if self._level >= len(self._steps) or self._heard_s < self._rest_until:
            return
        try:
            self.prepare()
        except Exception as error:
            self._note_failure(error)
            self._down(_sentence(error))
            return
        self._switch_to(self._inner)

    def _fail(self, error: Exception) -> Separated:
        self._note_failure(error)
        out = self._unseparated()
        self._history.clear()  # what it stumbled over is not fed again
        self._history_start = self._taken
        if self._row >= _FAILURES:
            self._down(f"it failed {self._row} times in a row: {_sentence(error)}")
        return out

    def _note_failure(self, error: Exception) -> None:
        self.failures += 1
        self._row += 1
        self._failed_at = self._heard_s
        self._why_failed = _sentence(error)
        self._inner = None
        rest = min(_REST_S * 2 ** (self._row - 2), _LONGEST_REST_S) if self._row > 1 else 0.0
        self._rest_until = self._heard_s + rest
        fields = {"stage": "separate", "step": self._name(), "failures": self.failures}
        log.warning("separation failed: %s", self._why_failed, extra=fields)

    def _checked(self, out: Separated) -> Separated:
        """``out`` cut to what was not given yet, crossfaded. Raises SeparationError where it can't be sound."""
        if self._skip:
            cut = min(self._skip, len(out))
            self._skip -= cut
            out = Separated(out.background[cut:], out.speech[cut:])
        if not len(out):
            return out
        if self._given + len(out) > self._taken:
            raise SeparationError("more came out than went in")
        loudest = _TOO_LOUD * max(_FLOOR, _peak(self._past(self._given, len(out))))
        if not max(_peak(out.background), _peak(out.speech)) <= loudest:  # so that NaN counts as too loud
            raise SeparationError("what came out is not sound")
        out = self._faded(out)
        self._given += len(out)
        if self._row and self._heard_s - self._failed_at > _GOOD_S:
            self._row = 0
        self._forget()
        return out

    def _faded(self, out: Separated) -> Separated:
        """From the old separator's estimates to the new one's, linearly: they are of the same sound."""
        old, self._old = self._old, None
        n = min(FADE, len(old), len(out)) if old is not None else 0
        if old is None or not n:
            return out
        weight = ((np.arange(n, dtype=np.float32) + 0.5) / n)[:, None]
        speech, background = out.speech.copy(), out.background.copy()
        speech[:n] = old.speech[:n] + weight * (out.speech[:n] - old.speech[:n])
        background[:n] = old.background[:n] + weight * (out.background[:n] - old.background[:n])
        return Separated(background, speech)

    def _unseparated(self) -> Separated:
        """All that is held back, as it came."""
        block = self._past(self._given, self._taken - self._given)
        self._given = self._taken
        self._skip, self._old, self._ready = 0, None, nothing()
        self._forget()
        return Separated(block, np.zeros_like(block), failed=True)

    # --- steps ---

    def _keep_pace(self, sound_s: float, busy_s: float, queued_s: float) -> None:
        if not self._live:
            return
        self._pace.add(sound_s, busy_s, max(_WINDOW_S, _BATCHES * self.batch_samples / RATE))
        ratio = self._pace.ratio or 0.0
        settled = self._heard_s - self._changed_at
        behind = self._queue_stays(queued_s) and settled > _SETTLING_S
        too_slow = self._inner is not None and (ratio > KEEPS_UP or behind)
        self._too_slow = too_slow and not self._ladder
        if too_slow:
            why = f"it takes {ratio:.0%} of real time" if ratio > KEEPS_UP else f"{queued_s:.0f} s wait for it"
            self._down(f"{self.active} can't keep real time, {why}")
        elif self._level and settled > self._up_after_s and ratio < _UP_RATIO and not behind:
            self._up()

    def _queue_stays(self, queued_s: float) -> bool:
        now = self._clock()
        if queued_s <= _QUEUED_S:
            self._queued_since = None
        elif self._queued_since is None:
            self._queued_since = now
        return self._queued_since is not None and now - self._queued_since > _PATIENCE_S

    def _down(self, why: str) -> None:
        if not self._ladder or self._level >= len(self._steps):
            return
        name = self._name()
        self.steps_down += 1
        self._why_down = why
        old = self._handed_over()
        self._inner, self._level = None, self._level + 1
        self._changed()
        if self._level == len(self._steps):
            self._ready = old
        else:
            self._old = old
            try:
                self.prepare()
                self._switch_to(self._inner)
            except Exception as error:
                self._note_failure(error)
        log.warning("separation goes down from %s to %s: %s", name, self._name(), why, extra={"stage": "separate"})

    def _up(self) -> None:
        """Try the next better step on what was heard last, and take it where it is fast enough."""
        self._up_after_s = min(2 * self._up_after_s, _LONGEST_UP_S)
        level = self._level - 1
        try:
            new = self._steps[level].make()
            began = self._clock()
            skip, ready, seconds = self._lead_in(new, self._steps[level].lead_in_s)
            ratio = (self._clock() - began) / max(seconds, 1.0)
        except Exception as error:
            self._changed_at = self._heard_s
            log.info("separation stays at %s: %s", self._name(), _sentence(error), extra={"stage": "separate"})
            return
        if ratio > KEEPS_UP:
            self._changed_at = self._heard_s
            return
        name = self._name()
        self._old = self._handed_over()
        self._inner, self._level = new, level
        self._skip, self._ready = skip, ready
        self._changed()
        log.info("separation goes up from %s to %s", name, self._name(), extra={"stage": "separate"})

    def _handed_over(self) -> Separated:
        if self._inner is None or self._skip:
            return nothing()
        try:
            return self._inner.hand_over()
        except Exception as error:
            log.debug("nothing is handed over: %s", error)
            return nothing()

    def _changed(self) -> None:
        self._pace = _Pace()
        self._changed_at = self._heard_s
        self._rest_until, self._row = 0.0, 0

    def _switch_to(self, inner: Separator | None) -> None:
        if inner is not None:
            self._skip, self._ready, _ = self._lead_in(inner, self._steps[self._level].lead_in_s)

    def _lead_in(self, inner: Separator, seconds: float) -> tuple[int, Separated, float]:
        """Let it hear the last seconds before ``_given`` and what was held back. Gives how many of its samples are
        to be thrown away, its first samples, and how many seconds it heard."""
        start = max(self._history_start, self._given - round(seconds * RATE))
        parts = [inner.process(self._past(at, min(RATE, self._taken - at))) for at in range(start, self._taken, RATE)]
        return self._given - start, joined(parts), (self._taken - start) / RATE

    def _name(self) -> str:
        return self._steps[self._level].name if self._level < len(self._steps) else "off"

    # --- the past ---

    def _take(self, block: Pcm) -> None:
        self._history.append(block)
        self._taken += len(block)
        self._heard_s += len(block) / RATE

    def _past(self, start: int, n: int) -> Pcm:
        """Samples [start, start + n) of the input."""
        out, at = [], self._history_start
        for block in self._history:
            if at >= start + n:
                break
            if at + len(block) > start:
                out.append(block[max(0, start - at) : start + n - at])
            at += len(block)
        return np.concatenate(out) if out else np.zeros((0, CHANNELS), np.float32)

    def _forget(self) -> None:
        keep = self._given - round(max((step.lead_in_s for step in self._steps), default=0.0) * RATE)
        while self._history and self._history_start + len(self._history[0]) <= keep:
            self._history_start += len(self._history.popleft())


class _Pace:
    """How long it takes against how long the sound lasts, over a window."""

    def __init__(self) -> None:
        self._entries: deque[tuple[float, float]] = deque()
        self._sound = self._busy = 0.0
        self._full = False

    def add(self, sound_s: float, busy_s: float, window_s: float) -> None:
        self._entries.append((sound_s, busy_s))
        self._sound += sound_s
        self._busy += busy_s
        while self._sound > window_s:
            sound, busy = self._entries.popleft()
            self._sound -= sound
            self._busy -= busy
            self._full = True

    @property
    def ratio(self) -> float | None:
        """None until the window is full."""
        return self._busy / self._sound if self._full and self._sound else None


def _peak(sound: Pcm) -> float:
    return float(np.abs(sound).max()) if len(sound) else 0.0


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__

"""What is wanted, what there is, what was → what to do. Pure: no I/O, no clock, no randomness of its own.

One call of :func:`reconcile` is one round. It never waits: what takes time (a worker that stops, a back-off) is
seen again in a later round. Exactly one worker per stream follows from one rule: nothing is started while a
handle of the same stream is anything but ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from babelcast.orchestrator.handle import ACTIVE, ENDED, EXIT_UNRECOVERABLE, Handle, spec_hash
from babelcast.spec import WorkerSpec
from babelcast.units import NS_PER_S


class Rng(Protocol):
    """``random.Random`` is one."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """Times of the restart policy, in seconds."""

    backoff_base_s: float = 0.5
    backoff_max_s: float = 30.0
    stable_s: float = 30.0
    """A worker that ran this long has made good its earlier failures."""
    proven_s: float = 5.0
    """One that ran this long, and is the first to fail, is replaced at once: it was killed, or the machine was."""
    lease_s: float = 15.0
    """How long a lost worker may still be on air somewhere."""
    max_workers: int | None = None
    """No more are started while so many run; None: no bound."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the reconcile step remembers of one stream between rounds."""

    generation: int = 0
    """Of the last worker that was started; the next one gets one more."""
    failures: int = 0
    counted_generation: int = 0
    """The last generation whose end is in ``failures``: an ended handle is seen in many rounds."""
    retry_at_ns: int | None = None
    refused_hash: str | None = None
    """The spec that a worker refused with exit status 64."""
    running_since_ns: int | None = None
    lost_since_ns: int | None = None
    lost_stop_sent: bool = False
    restart_below: int = 0
    """Workers of a lower generation are to be replaced (a person asked for a restart)."""
    no_place: bool = False
    """It is wanted, and held back because ``max_workers`` run."""
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Ensure:
    """Start this worker; ``spec.generation`` is new."""

    spec: WorkerSpec

    @property
    def stream_id(self) -> str:
        return self.spec.stream_id


@dataclass(frozen=True, slots=True)
class Stop:
    stream_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the record of a worker that has ended and is not wanted any more."""

    stream_id: str


@dataclass(frozen=True, slots=True)
class Backoff:
    """A worker failed; nothing happens until ``retry_at_ns``. Given once per failure."""

    stream_id: str
    retry_at_ns: int
    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A worker said that its spec can't work; nothing happens until the spec changes. Given once."""

    stream_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """As many workers run as may; this one starts when a place is free. Given once."""

    stream_id: str
    reason: str


Action: TypeAlias = Ensure | Stop | Forget | Backoff | Refuse | Hold


@dataclass(frozen=True, slots=True)
class Round:
    actions: tuple[Action, ...] = ()
    memory: Mapping[str, Memory] = field(default_factory=dict)


def reconcile(
    desired: Mapping[str, WorkerSpec],
    handles: Sequence[Handle],
    memory: Mapping[str, Memory],
    now_ns: int,
    rng: Rng,
    policy: Policy | None = None,
) -> Round:
    """One round. ``desired`` maps stream id → spec (its generation is ignored).

    The caller makes no call at all when it could not learn ``desired`` or ``handles``: an empty list is acted upon.
    """
    policy = policy or Policy()
    by_stream: dict[str, list[Handle]] = {}
    for handle in handles:
        by_stream.setdefault(handle.stream_id, []).append(handle)
    actions: list[Action] = []
    after = dict(memory)
    placed = _placed(desired, by_stream, memory)
    for stream_id in sorted({*desired, *by_stream, *memory}):
        has_place = policy.max_workers is None or stream_id in placed or len(placed) < policy.max_workers
        step = _Step(stream_id, memory.get(stream_id, Memory()), now_ns, rng, policy, has_place=has_place)
        decided = step.decide(desired.get(stream_id), by_stream.get(stream_id, []))
        if any(isinstance(action, Ensure) for action in decided):
            placed.add(stream_id)
        actions += decided
        after[stream_id] = step.memory
    return Round(tuple(actions), after)


def _placed(
    desired: Mapping[str, WorkerSpec], by_stream: Mapping[str, list[Handle]], memory: Mapping[str, Memory]
) -> set[str]:
    """The streams that have one of the ``max_workers`` places: those with a worker, and those that are between two
    (a worker that failed or is replaced does not lose its place to one that came later)."""
    placed = {each for each, handles in by_stream.items() if any(handle.state not in ENDED for handle in handles)}
    for stream_id in desired:
        mine = memory.get(stream_id, Memory())
        if mine.refused_hash is None and (mine.retry_at_ns is not None or by_stream.get(stream_id)):
            placed.add(stream_id)
    return placed


def backoff_s(failures: int, rng: Rng, policy: Policy) -> float:
    """Doubles per failure up to the maximum; the upper half of it is random, so that a crowd spreads out."""
    full = min(policy.backoff_max_s, policy.backoff_base_s * 2.0 ** (min(failures, 30) - 1))
    return full / 2 + rng.random() * full / 2


class _Step:
    """One stream in one round."""

    def __init__(
        self, stream_id: str, memory: Memory, now_ns: int, rng: Rng, policy: Policy, *, has_place: bool
    ) -> None:
        self.stream_id = stream_id
        self._has_place = has_place
        self.memory = memory
        self._now_ns = now_ns
        self._rng = rng
        self._policy = policy

    def decide(self, spec: WorkerSpec | None, handles: list[Handle]) -> list[Action]:
        generation = max((handle.generation for handle in handles), default=0)
        self._update(generation=max(self.memory.generation, generation))
        if any(handle.state == "lost" for handle in handles):
            return self._lost(spec, handles)
        self._update(lost_since_ns=None, lost_stop_sent=False)
        living = [handle for handle in handles if handle.state not in ENDED]
        if not living:
            began_ns = self.memory.running_since_ns
            self._update(running_since_ns=None)
            return self._none_lives(spec, handles, 0 if began_ns is None else self._now_ns - began_ns)
        if any(handle.state == "stopping" for handle in living):
            self._update(running_since_ns=None)
            return []  # confirm that it is gone first
        return self._lives(spec, living)

    def _update(self, **changes: object) -> None:
        self.memory = replace(self.memory, **changes)  # type: ignore[arg-type]

    def _lives(self, spec: WorkerSpec | None, living: list[Handle]) -> list[Action]:
        handle = living[0]
        assert handle.state in ACTIVE
        if spec is None:
            return [Stop(self.stream_id, "the source is gone")]
        if len(living) > 1:
            return [Stop(self.stream_id, f"{len(living)} workers where one may be")]
        if handle.spec_hash != spec_hash(spec):
            return [Stop(self.stream_id, "its settings changed")]
        if handle.generation < self.memory.restart_below:
            return [Stop(self.stream_id, "a restart was asked for")]
        if handle.state != "running":
            self._update(running_since_ns=None)
            return []
        since_ns = self._now_ns if self.memory.running_since_ns is None else self.memory.running_since_ns
        self._update(running_since_ns=since_ns, retry_at_ns=None)
        if self._now_ns - since_ns >= self._policy.stable_s * NS_PER_S:
            self._update(failures=0, last_error=None)
        return []

    def _none_lives(self, spec: WorkerSpec | None, ended: list[Handle], ran_ns: int) -> list[Action]:
        if spec is None:
            # A source that comes back gets a fresh start; the refusal stands, for it is of the spec.
            self._update(failures=0, retry_at_ns=None, no_place=False)
            return [Forget(self.stream_id)] if ended else []
        actions = self._count_end(ended, ran_ns)
        if self.memory.refused_hash is not None:
            if self.memory.refused_hash == spec_hash(spec):
                return actions
            self._update(refused_hash=None, retry_at_ns=None, failures=0)
        if self.memory.retry_at_ns is not None and self._now_ns < self.memory.retry_at_ns:
            return actions
        return [*actions, *([self._start(spec)] if self._has_place else self._hold())]

    def _hold(self) -> list[Action]:
        if self.memory.no_place:
            return []
        reason = f"{self._policy.max_workers} workers run, which is the limit (limits.workers)"
        self._update(no_place=True, last_error=reason)
        return [Hold(self.stream_id, reason)]

    def _start(self, spec: WorkerSpec) -> Ensure:
        generation = self.memory.generation + 1
        if self.memory.no_place:
            self._update(no_place=False, last_error=None)
        self._update(generation=generation, retry_at_ns=None)
        return Ensure(spec.model_copy(update={"generation": generation}))

    def _count_end(self, ended: list[Handle], ran_ns: int) -> list[Action]:
        """An end that nobody asked for, seen for the first time, sets the back-off or the refusal."""
        last = max(ended, key=lambda handle: handle.generation, default=None)
        if last is None or last.generation <= self.memory.counted_generation:
            return []
        self._update(counted_generation=last.generation)
        if last.requested:
            return []
        reason = last.reason or "the worker ended"
        self._update(last_error=reason)
        if last.exit_code == EXIT_UNRECOVERABLE:
            self._update(refused_hash=last.spec_hash)
            return [Refuse(self.stream_id, reason)]
        failures = self.memory.failures + 1
        proven = failures == 1 and ran_ns >= self._policy.proven_s * NS_PER_S
        wait_s = 0.0 if proven else backoff_s(failures, self._rng, self._policy)
        retry_at_ns = self._now_ns + round(wait_s * NS_PER_S)
        self._update(failures=failures, retry_at_ns=retry_at_ns)
        return [Backoff(self.stream_id, retry_at_ns, failures, reason)]

    def _lost(self, spec: WorkerSpec | None, handles: list[Handle]) -> list[Action]:
        self._update(running_since_ns=None)
        since_ns = self._now_ns if self.memory.lost_since_ns is None else self.memory.lost_since_ns
        self._update(lost_since_ns=since_ns)
        if spec is None:
            sent = self.memory.lost_stop_sent
            self._update(lost_stop_sent=True)  # the engine may or may not be able to; once is enough
            return [] if sent else [Stop(self.stream_id, "the source is gone")]
        if self._now_ns - since_ns < self._policy.lease_s * NS_PER_S:
            return []
        if any(handle.state not in ENDED and handle.state != "lost" for handle in handles):
            return [Stop(self.stream_id, "lost and found again")]
        self._update(lost_since_ns=None)
        return [self._start(spec)]

"""The decision table of the reconcile step, and what a simulated engine makes of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from babelcast.orchestrator.handle import EXIT_UNRECOVERABLE, Handle, LaunchState, spec_hash
from babelcast.orchestrator.reconcile import (
    Backoff,
    Ensure,
    Forget,
    Memory,
    Policy,
    Refuse,
    Round,
    Stop,
    backoff_s,
    reconcile,
)
from babelcast.spec import TargetSpec, WorkerSpec
from babelcast.units import NS_PER_S

pytestmark = pytest.mark.unit

S = NS_PER_S
POLICY = Policy(backoff_base_s=1.0, backoff_max_s=8.0, stable_s=30.0, lease_s=15.0)


def spec(stream_id: str = "a", delay_s: float = 6.0) -> WorkerSpec:
    target = TargetSpec(language="es", output_url=f"rtmp://127.0.0.1/live/{stream_id}/out")
    url = f"rtmp://127.0.0.1/live/{stream_id}/in"
    return WorkerSpec(stream_id=stream_id, ingest_url=url, targets=(target,), delay_s=delay_s)


def handle(state: LaunchState, *, generation: int = 1, of: WorkerSpec | None = None, **more: object) -> Handle:
    return replace(Handle("a", generation, spec_hash(of or spec()), state), **more)  # type: ignore[arg-type]


def one(
    wanted: WorkerSpec | None, handles: list[Handle], memory: Memory | None = None, now_ns: int = 0
) -> tuple[Round, Memory]:
    desired = {"a": wanted} if wanted else {}
    known = {"a": memory} if memory else {}
    result = reconcile(desired, handles, known, now_ns, random.Random(1), POLICY)
    return result, result.memory.get("a", Memory())


def test_missing_is_started_with_the_next_generation() -> None:
    result, memory = one(spec(), [], Memory(generation=4))
    assert result.actions == (Ensure(spec().model_copy(update={"generation": 5})),)
    assert memory.generation == 5


@pytest.mark.parametrize("state", ["pending", "running"])
def test_wanted_and_there_is_left_alone(state: LaunchState) -> None:
    result, memory = one(spec(), [handle(state, generation=3)])
    assert result.actions == ()
    assert memory.generation == 3, "a generation that an adopted worker has is not given again"


@pytest.mark.parametrize("state", ["pending", "running", "lost"])
def test_extra_is_stopped(state: LaunchState) -> None:
    result, _ = one(None, [handle(state)])
    assert result.actions == (Stop("a", "the source is gone"),)


@pytest.mark.parametrize("wanted", [None, spec(), spec(delay_s=9)])
def test_nothing_is_done_while_one_stops(wanted: WorkerSpec | None) -> None:
    result, _ = one(wanted, [handle("stopping")])
    assert result.actions == ()


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_the_record_of_an_extra_that_ended_is_dropped(state: LaunchState) -> None:
    result, memory = one(None, [handle(state)], Memory(generation=1, failures=3, retry_at_ns=99))
    assert result.actions == (Forget("a"),)
    assert (memory.failures, memory.retry_at_ns) == (0, None)


def test_a_changed_spec_stops_confirms_and_starts() -> None:
    changed = spec(delay_s=9)
    first, memory = one(changed, [handle("running")])
    assert first.actions == (Stop("a", "its settings changed"),)
    second, memory = one(changed, [handle("stopping")], memory)
    assert second.actions == ()
    third, memory = one(changed, [handle("succeeded", requested=True)], memory)
    assert third.actions == (Ensure(changed.model_copy(update={"generation": 2})),)


def test_the_generation_is_no_part_of_the_spec_hash() -> None:
    assert spec_hash(spec()) == spec_hash(spec().model_copy(update={"generation": 7}))
    assert spec_hash(spec()) != spec_hash(spec(delay_s=7))


def test_a_failure_backs_off_and_is_counted_once() -> None:
    failed = [handle("failed", exit_code=1, reason="the worker ended with exit status 1")]
    first, memory = one(spec(), failed, now_ns=0)
    assert memory.retry_at_ns is not None and 0.5 * S <= memory.retry_at_ns <= 1.0 * S
    assert first.actions == (Backoff("a", memory.retry_at_ns, 1, "the worker ended with exit status 1"),)
    second, memory = one(spec(), failed, memory, now_ns=S // 4)
    assert (second.actions, memory.failures) == ((), 1)
    third, memory = one(spec(), failed, memory, now_ns=S)
    assert third.actions == (Ensure(spec().model_copy(update={"generation": 2})),)


def test_a_worker_that_ends_by_itself_without_error_backs_off_too() -> None:
    result, memory = one(spec(), [handle("succeeded", exit_code=0)])
    assert isinstance(result.actions[0], Backoff)
    assert memory.failures == 1


def test_one_that_had_proven_itself_is_replaced_at_once() -> None:
    ended = handle("failed", exit_code=-9, reason="the worker was killed by signal 9")
    result, memory = one(spec(), [ended], Memory(generation=1, running_since_ns=0), now_ns=6 * S)
    assert [type(action) for action in result.actions] == [Backoff, Ensure]
    again = handle("failed", generation=2, exit_code=-9, reason="the worker was killed by signal 9")
    result, memory = one(spec(), [again], replace(memory, running_since_ns=7 * S), now_ns=13 * S)
    assert [type(action) for action in result.actions] == [Backoff], "not a second time"
    assert memory.retry_at_ns is not None and memory.retry_at_ns > 13 * S


def test_backoff_doubles_to_a_maximum_with_jitter() -> None:
    class Most:
        def random(self) -> float:
            return 1.0

    class Least:
        def random(self) -> float:
            return 0.0

    assert [backoff_s(n, Most(), POLICY) for n in range(1, 6)] == [1, 2, 4, 8, 8]
    assert [backoff_s(n, Least(), POLICY) for n in range(1, 6)] == [0.5, 1, 2, 4, 4]
    assert backoff_s(10_000, Most(), POLICY) == 8


def test_a_long_run_makes_good_earlier_failures() -> None:
    _, memory = one(spec(), [handle("running")], Memory(generation=1, failures=5, last_error="x"), now_ns=0)
    assert memory.failures == 5
    _, memory = one(spec(), [handle("running")], memory, now_ns=29 * S)
    assert memory.failures == 5
    _, memory = one(spec(), [handle("running")], memory, now_ns=30 * S)
    assert (memory.failures, memory.last_error) == (0, None)


def test_a_refused_spec_is_not_tried_until_it_changes() -> None:
    refused = [handle("failed", exit_code=EXIT_UNRECOVERABLE, reason="HEVC can't be dubbed")]
    first, memory = one(spec(), refused)
    assert first.actions == (Refuse("a", "HEVC can't be dubbed"),)
    for hour in range(3):
        later, memory = one(spec(), refused, memory, now_ns=hour * 3600 * S)
        assert later.actions == ()
    changed, memory = one(spec(delay_s=9), refused, memory)
    assert changed.actions == (Ensure(spec(delay_s=9).model_copy(update={"generation": 2})),)


def test_a_refusal_outlives_the_source_going_and_coming() -> None:
    refused = [handle("failed", exit_code=EXIT_UNRECOVERABLE)]
    _, memory = one(spec(), refused)
    _, memory = one(None, refused, memory)
    again, _ = one(spec(), [], memory)
    assert again.actions == ()


def test_a_lost_worker_is_waited_for_and_then_replaced() -> None:
    lost = [handle("lost")]
    first, memory = one(spec(), lost, now_ns=100 * S)
    assert first.actions == ()
    second, memory = one(spec(), lost, memory, now_ns=114 * S)
    assert second.actions == ()
    third, memory = one(spec(), lost, memory, now_ns=115 * S)
    assert third.actions == (Ensure(spec().model_copy(update={"generation": 2})),)


def test_a_lost_worker_that_is_found_starts_the_lease_anew() -> None:
    _, memory = one(spec(), [handle("lost")], now_ns=0)
    _, memory = one(spec(), [handle("running")], memory, now_ns=10 * S)
    result, _ = one(spec(), [handle("lost")], memory, now_ns=20 * S)
    assert result.actions == ()


def test_a_lost_worker_that_is_not_wanted_is_stopped_once() -> None:
    first, memory = one(None, [handle("lost")])
    second, memory = one(None, [handle("lost")], memory, now_ns=S)
    assert (len(first.actions), second.actions) == (1, ())
    found, _ = one(None, [handle("running")], memory, now_ns=2 * S)
    assert len(found.actions) == 1


def test_of_two_workers_neither_stays() -> None:
    result, _ = one(spec(), [handle("running", generation=1), handle("running", generation=2)])
    assert result.actions == (Stop("a", "2 workers where one may be"),)


def test_an_ended_worker_beside_the_living_one_changes_nothing() -> None:
    result, memory = one(spec(), [handle("failed", generation=1, exit_code=1), handle("running", generation=2)])
    assert result.actions == ()
    assert memory.failures == 0


def test_a_restart_replaces_the_worker_once() -> None:
    asked = Memory(generation=1, restart_below=2)
    first, memory = one(spec(), [handle("running")], asked)
    assert first.actions == (Stop("a", "a restart was asked for"),)
    second, memory = one(spec(), [handle("succeeded", requested=True)], memory)
    assert second.actions == (Ensure(spec().model_copy(update={"generation": 2})),)
    third, _ = one(spec(), [handle("running", generation=2)], memory)
    assert third.actions == ()


def test_streams_do_not_mind_each_other() -> None:
    desired = {"a": spec("a"), "b": spec("b")}
    other = replace(handle("running"), stream_id="c")
    result = reconcile(desired, [handle("running"), other], {}, 0, random.Random(1), POLICY)
    assert [type(action) for action in result.actions] == [Ensure, Stop]
    assert [action.stream_id for action in result.actions] == ["b", "c"]


def test_the_input_is_not_changed() -> None:
    memory = {"a": Memory(generation=1)}
    reconcile({"a": spec()}, [], memory, 0, random.Random(1), POLICY)
    assert memory == {"a": Memory(generation=1)}


@dataclass
class Engine:
    """A launcher of the mind: workers start, get ready, crash, hang in stopping, get lost and found, at random."""

    rng: random.Random
    workers: list[Handle] = field(default_factory=list)
    most_alive: int = 0
    generations: list[int] = field(default_factory=list)

    def act(self, result: Round) -> None:
        for action in result.actions:
            match action:
                case Ensure():
                    self.generations.append(action.spec.generation)
                    self.workers = [w for w in self.workers if w.state == "lost"]
                    self.workers.append(Handle("a", action.spec.generation, spec_hash(action.spec), "pending"))
                case Stop():
                    self.workers = [
                        replace(w, state="stopping", requested=True) if w.state not in {"failed", "succeeded"} else w
                        for w in self.workers
                    ]
                case Forget():
                    self.workers = [w for w in self.workers if w.state not in {"failed", "succeeded"}]
                case _:
                    pass
        alive = sum(w.state in {"pending", "running", "stopping"} for w in self.workers)
        self.most_alive = max(self.most_alive, alive)

    def live(self) -> None:
        self.workers = [self._step(worker) for worker in self.workers]

    def _step(self, worker: Handle) -> Handle:
        dice = self.rng.random()
        if worker.state == "pending" and dice < 0.5:
            return replace(worker, state="running")
        if worker.state in {"pending", "running"} and dice > 0.97:
            return replace(worker, state="failed", exit_code=1)
        if worker.state == "stopping" and dice < 0.3:
            return replace(worker, state="succeeded")
        return worker


@pytest.mark.parametrize("seed", range(20))
def test_never_two_at_once_and_every_generation_once(seed: int) -> None:
    """Three hundred rounds with a source that comes and goes and settings that change: one alive at most, and in
    quiet times exactly what is wanted."""
    rng = random.Random(seed)
    engine = Engine(rng)
    memory: dict[str, Memory] = {}
    wanted: WorkerSpec | None = None
    now_ns = 0
    for _ in range(300):
        if rng.random() < 0.1:
            wanted = rng.choice([None, spec(), spec(delay_s=9)])
        result = reconcile({"a": wanted} if wanted else {}, engine.workers, memory, now_ns, rng, POLICY)
        memory = dict(result.memory)
        engine.act(result)
        engine.live()
        now_ns += S
    assert engine.most_alive == 1
    assert engine.generations == sorted(set(engine.generations)) and len(engine.generations) > 5

    engine.rng = random.Random(0)
    for _ in range(100):
        result = reconcile({"a": spec()}, engine.workers, memory, now_ns, rng, POLICY)
        memory = dict(result.memory)
        engine.act(result)
        engine.workers = [
            replace(w, state={"pending": "running", "stopping": "succeeded"}.get(w.state, w.state))  # type: ignore[arg-type]
            for w in engine.workers
        ]
        now_ns += S
    assert [(w.state, w.spec_hash) for w in engine.workers] == [("running", spec_hash(spec()))]


def living(*stream_ids: str, state: LaunchState = "running") -> list[Handle]:
    return [Handle(stream_id, 1, spec_hash(spec(stream_id)), state) for stream_id in stream_ids]


def limited(
    wanted: str, handles: list[Handle], memory: dict[str, Memory] | None = None
) -> tuple[list[str], dict[str, Memory]]:
    """With two places: what is done to which stream, in words."""
    desired = {stream_id: spec(stream_id) for stream_id in wanted}
    policy = replace(POLICY, max_workers=2)
    known = {stream_id: Memory(generation=1, counted_generation=1) for stream_id in {h.stream_id for h in handles}}
    result = reconcile(desired, handles, known | (memory or {}), 0, random.Random(1), policy)
    return [f"{type(action).__name__} {action.stream_id}" for action in result.actions], dict(result.memory)


def test_no_more_workers_than_there_are_places() -> None:
    said, memory = limited("abcd", [])
    assert said == ["Ensure a", "Ensure b", "Hold c", "Hold d"]
    assert memory["c"].no_place and "limits.workers" in str(memory["c"].last_error)
    said, memory = limited("abcd", living("c", "d"), memory={})
    assert said == ["Hold a", "Hold b"], "who is on air stays on air, whatever the name"
    again, _ = limited("abcd", living("c", "d"), memory)
    assert again == [], "said once"
    said, memory = limited("acd", [*living("c"), *living("d", state="stopping")], memory)
    assert said == [], "a place is free when its worker is gone"
    said, memory = limited("ac", living("c"), memory)
    assert said == ["Ensure a"] and memory["a"].last_error is None


def test_a_stream_between_two_workers_keeps_its_place() -> None:
    said, _ = limited("abc", [*living("b"), *living("c", state="succeeded")])
    assert said == ["Hold a", "Ensure c"], "one that is replaced"
    waiting = {"c": Memory(generation=1, counted_generation=1, retry_at_ns=5 * S)}
    said, _ = limited("abc", living("b"), waiting)
    assert said == ["Hold a"], "one that failed and waits"
    refused = {"c": Memory(generation=1, counted_generation=1, refused_hash=spec_hash(spec("c")))}
    said, _ = limited("abc", [*living("b"), *living("c", state="failed")], refused)
    assert said == ["Ensure a"], "one that will not come back does not"

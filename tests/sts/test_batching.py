"""The batcher on virtual time, and its bridge for threads in real time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry
from tests.fakes.virtual_time import run_virtual

from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.sts.batching import Answers, Batcher, BatchSettings, BatchStats, BlockingBatcher
from babelcast.sts.metrics import BatchCollector

Item = tuple[str, int]


class Model:
    """Doubles numbers; a batch takes ``takes_s``, however large. Negative ones are refused, 13 breaks its batch."""

    def __init__(self, takes_s: float = 0.03) -> None:
        self.takes_s = takes_s
        self.batches: list[list[int]] = []
        self.running = self.most = 0

    async def run(self, batch: list[Item]) -> Answers[int]:
        self.batches.append([number for _, number in batch])
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.takes_s)
        self.running -= 1
        if any(number == 13 for _, number in batch):
            raise SpeechError("out of memory", code="engine_failed")
        return [SpeechError("not that", code="bad_request") if number < 0 else 2 * number for _, number in batch]


def batcher(model: Model, **settings: float) -> Batcher[Item, int]:
    return Batcher(model.run, lambda item: item[0], BatchSettings(**settings), BatchStats("model"))  # type: ignore[arg-type]


async def ask(batches: Batcher[Item, int], *numbers: int, kind: str = "a") -> list[int | BaseException]:
    return await asyncio.gather(*(batches.submit((kind, number)) for number in numbers), return_exceptions=True)


@pytest.mark.unit
def test_what_comes_together_goes_together_and_nobody_waits_longer_than_asked() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model)
        began = asyncio.get_running_loop().time()
        assert await ask(batches, 1, 2, 3) == [2, 4, 6]
        assert model.batches == [[1, 2, 3]]
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.034)
        assert batches.stats.items == 3 and sum(batches.stats.sizes) == 1 and batches.stats.sizes[2] == 1

    run_virtual(main())


@pytest.mark.unit
def test_a_full_batch_does_not_wait_and_the_rest_follows() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model, size=2, wait_s=1.0)
        began = asyncio.get_running_loop().time()
        assert await ask(batches, 1, 2, 3, 4) == [2, 4, 6, 8]
        assert model.batches == [[1, 2], [3, 4]]
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.06)

    run_virtual(main())


@pytest.mark.unit
def test_what_comes_during_a_batch_goes_into_the_next_one_at_once() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model)
        first = asyncio.create_task(ask(batches, 1))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(ask(batches, number)) for number in (2, 3)]
        await asyncio.sleep(0.01)
        rest.append(asyncio.create_task(ask(batches, 4)))
        began = asyncio.get_running_loop().time()
        await asyncio.gather(first, *rest)
        assert model.batches == [[1], [2, 3, 4]]
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.014 + 0.03)

    run_virtual(main())


@pytest.mark.unit
def test_only_the_same_kind_is_joined_and_the_oldest_goes_first() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model)
        await asyncio.gather(ask(batches, 1, kind="a"), ask(batches, 2, kind="b"), ask(batches, 3, kind="a"))
        assert model.batches == [[1, 3], [2]]

    run_virtual(main())


@pytest.mark.unit
def test_as_many_batches_at_once_as_there_are_workers() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model, size=1, workers=3)
        assert await ask(batches, *range(9)) == [2 * number for number in range(9)]
        assert model.most == 3 and len(model.batches) == 9

    run_virtual(main())


@pytest.mark.unit
def test_an_error_is_its_items_own() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model)
        good, refused, also_good = await ask(batches, 1, -1, 2)
        assert (good, also_good) == (2, 4) and isinstance(refused, SpeechError) and refused.code == "bad_request"
        good, broken = await ask(batches, 5, 13)
        assert good == 10 and isinstance(broken, SpeechError) and broken.code == "engine_failed"
        assert model.batches[1:] == [[5, 13], [5], [13]]

    run_virtual(main())


@pytest.mark.unit
def test_a_defect_reaches_every_caller_and_the_next_batch_works() -> None:
    async def main() -> None:
        async def run(batch: list[Item]) -> Answers[int]:
            if batch[0][1] == 0:
                raise ZeroDivisionError
            return [1] * (len(batch) + (batch[0][1] == 7))

        batches = Batcher(run, lambda item: None, BatchSettings(), BatchStats("model"))
        assert [type(found) for found in await ask(batches, 0, 1)] == [ZeroDivisionError] * 2
        assert await ask(batches, 1) == [1]
        (short,) = await ask(batches, 7)
        assert isinstance(short, SpeechError) and "answered 2 of 1" in str(short)

    run_virtual(main())


@pytest.mark.unit
@pytest.mark.parametrize("after_s", [0.001, 0.02])
def test_a_caller_that_goes_does_not_hurt_the_others(after_s: float) -> None:
    """Before the batch began, and while it runs."""

    async def main() -> None:
        model = Model()
        batches = batcher(model)
        going = asyncio.create_task(batches.submit(("a", 1)))
        staying = asyncio.create_task(ask(batches, 2, 3))
        await asyncio.sleep(after_s)
        going.cancel()
        assert await staying == [4, 6]
        await asyncio.wait([going])
        assert going.cancelled()
        assert model.batches == ([[2, 3]] if after_s < 0.004 else [[1, 2, 3]])

    run_virtual(main())


@pytest.mark.unit
def test_the_queue_is_bounded_and_a_model_that_hangs_is_given_up() -> None:
    async def main() -> None:
        model = Model(takes_s=60.0)
        batches = batcher(model, size=1, max_waiting=2, timeout_s=5.0)
        tasks = []
        for number in range(4):
            tasks.append(asyncio.create_task(batches.submit(("a", number))))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        refused = await asyncio.gather(tasks[3], return_exceptions=True)
        assert isinstance(refused[0], SpeechUnavailableError) and refused[0].code == "overloaded"
        late = await asyncio.gather(*tasks[:3], return_exceptions=True)
        assert [error.code for error in late if isinstance(error, SpeechUnavailableError)] == ["deadline"] * 3
        assert asyncio.get_running_loop().time() < 1_010
        await batches.aclose()

    run_virtual(main())


@pytest.mark.unit
def test_closing_answers_everybody() -> None:
    async def main() -> None:
        batches = batcher(Model(takes_s=60.0), size=1)
        waiting = [asyncio.create_task(batches.submit(("a", number))) for number in range(3)]
        await asyncio.sleep(1.0)
        await batches.aclose()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [error.code for error in errors if isinstance(error, SpeechUnavailableError)] == ["overloaded"] * 3
        with pytest.raises(SpeechUnavailableError):
            await batches.submit(("a", 1))

    run_virtual(main())


@pytest.mark.unit
def test_closing_answers_who_waits_for_company() -> None:
    async def main() -> None:
        model = Model()
        batches = batcher(model, wait_s=60.0)
        waiting = asyncio.create_task(ask(batches, 1, 2))
        await asyncio.sleep(1.0)
        began = asyncio.get_running_loop().time()
        await batches.aclose()
        assert all(isinstance(error, SpeechUnavailableError) for error in await waiting)
        assert asyncio.get_running_loop().time() - began < 1 and not model.batches

    run_virtual(main())


@pytest.mark.unit
def test_batches_can_be_seen_in_the_metrics() -> None:
    stats = BatchStats("whisper")
    stats.count([0.004, 0.003, 0.0])
    stats.count([0.3])
    registry = CollectorRegistry()
    registry.register(BatchCollector([stats]))
    value = registry.get_sample_value
    assert value("sts_batch_size_count", {"engine": "whisper"}) == 2
    assert value("sts_batch_size_sum", {"engine": "whisper"}) == 4
    assert value("sts_batch_size_bucket", {"engine": "whisper", "le": "1.0"}) == 1
    assert value("sts_batch_size_bucket", {"engine": "whisper", "le": "3.0"}) == 2
    assert value("sts_batch_wait_seconds_bucket", {"engine": "whisper", "le": "0.004"}) == 3
    assert value("sts_batch_wait_seconds_sum", {"engine": "whisper"}) == pytest.approx(0.307)
    registry.register(BatchCollector([]))  # an engine that joins nothing has no series


@pytest.mark.unit
def test_threads_are_joined_too() -> None:
    batches: list[int] = []
    all_here = threading.Barrier(6)

    def run(batch: list[int]) -> Answers[int]:
        batches.append(len(batch))
        return [SpeechError("odd", code="bad_request") if number % 2 else number for number in batch]

    blocking = BlockingBatcher("model", run, settings=BatchSettings(size=6, wait_s=5.0))

    def ask_from_thread(number: int) -> int | str:
        all_here.wait()
        try:
            return blocking.call(number)
        except SpeechError as error:
            return error.code

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(ask_from_thread, range(6)))
    assert found == [0, "bad_request", 2, "bad_request", 4, "bad_request"] and batches == [6]
    blocking.close()
    blocking.close()
    with pytest.raises(SpeechUnavailableError):
        blocking.call(1)


@pytest.mark.unit
def test_closing_frees_the_threads_that_wait() -> None:
    begun, go = threading.Event(), threading.Event()

    def run(batch: list[int]) -> Answers[int]:
        begun.set()
        assert go.wait(10)
        return batch

    blocking = BlockingBatcher("model", run, settings=BatchSettings(size=1))
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(blocking.call, number) for number in range(2)]
        assert begun.wait(10)
        blocking.close()
        for one in asked:
            with pytest.raises(SpeechUnavailableError):
                one.result(10)
        go.set()

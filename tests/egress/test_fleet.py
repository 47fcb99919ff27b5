"""Which forwarders run for a desired set, and which are left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from babelcast.config import Destination
from babelcast.egress.fleet import KEPT_STOPPED, Fleet
from babelcast.egress.handler import EgressHandler
from babelcast.egress.status import DestinationStatus
from babelcast.egress.wire import Delivery, DesiredSet

pytestmark = pytest.mark.unit


def delivery(name: str, stream_id: str = "show", key: str = "the-key") -> Delivery:
    source = f"rtmp://127.0.0.1/live/{stream_id}/out"
    return Delivery(stream_id=stream_id, source_url=source, name=name, url="rtmp://x.example/app", key=SecretStr(key))


class Fake:
    """A forwarder that writes down what it is told; ``goodbye`` holds its stop up."""

    def __init__(self, wanted: Delivery, said: list[str], goodbye: asyncio.Event) -> None:
        self.wanted, self._said, self._goodbye = wanted, said, goodbye

    async def start(self) -> None:
        if self.wanted.name == "impossible":
            raise RuntimeError("no")
        self._said.append(f"start {self.wanted.name}")

    async def stop(self) -> None:
        await self._goodbye.wait()
        self._said.append(f"stop {self.wanted.name}")
        if self.wanted.name == "broken":
            raise RuntimeError("no")

    @property
    def status(self) -> DestinationStatus:
        destination = Destination(name=self.wanted.name, url=self.wanted.url)
        return EgressHandler(self.wanted.stream_id, "rtmp://127.0.0.1/live/show/out", destination).status


class Rig:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.goodbye = asyncio.Event()
        self.goodbye.set()
        self.fleet = Fleet(lambda wanted: Fake(wanted, self.said, self.goodbye))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Rig]:
        task = asyncio.create_task(self.fleet.run())
        yield self
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def want(self, *deliveries: Delivery) -> list[str]:
        """What it did about it."""
        before = len(self.said)
        self.fleet.want(deliveries)
        for _ in range(20):
            await asyncio.sleep(0)
        return self.said[before:]


async def test_it_follows_the_set_and_leaves_alone_what_is_unchanged() -> None:
    async with Rig().running() as rig:
        assert await rig.want(delivery("a"), delivery("b")) == ["start a", "start b"]
        assert await rig.want(delivery("b"), delivery("a")) == []
        assert await rig.want(delivery("b"), delivery("c")) == ["start c", "stop a"], "what is new does not wait"
        assert await rig.want(delivery("b", key="another"), delivery("c")) == ["stop b", "start b"]
        assert await rig.want() == ["stop c", "stop b"]
        assert [status.name for status in rig.fleet.statuses()] == ["a", "c", "b"], "they are remembered"
        assert await rig.want(delivery("b", "other"), delivery("b")) == ["start b", "start b"]
    assert rig.said[-2:] == ["stop b", "stop b"]


async def test_a_goodbye_that_takes_long_does_not_hold_up_a_start() -> None:
    async with Rig().running() as rig:
        await rig.want(delivery("a"))
        rig.goodbye.clear()
        assert await rig.want(delivery("b")) == ["start b"]
        assert await rig.want(delivery("b"), delivery("c")) == [], "one set after the other"
        rig.goodbye.set()
        assert await rig.want(delivery("b"), delivery("c")) == ["stop a", "start c"]


async def test_one_that_does_not_stop_cleanly_is_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig().running() as rig:
        await rig.want(delivery("broken"), delivery("a"))
        await rig.want(delivery("a"))
        assert await rig.want(delivery("b")) == ["start b", "stop a"]
    assert "did not stop cleanly" in caplog.text


async def test_a_fault_of_ours_stops_none_that_run(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig().running() as rig:
        assert await rig.want(delivery("a")) == ["start a"]
        assert await rig.want(delivery("a"), delivery("impossible")) == []
        assert await rig.want(delivery("a"), delivery("b")) == ["start b"]
    assert "could not be made" in caplog.text


async def test_what_is_remembered_is_bounded() -> None:
    async with Rig().running() as rig:
        for number in range(KEPT_STOPPED + 20):
            await rig.want(delivery(f"n{number}"))
        assert len(rig.fleet.statuses()) == KEPT_STOPPED + 1


def test_a_key_travels_and_is_not_shown() -> None:
    sent = DesiredSet(revision=3, deliveries=(delivery("a", key="s3cret"),))
    assert "s3cret" not in repr(sent) and "s3cret" not in str(sent)
    assert DesiredSet.model_validate_json(sent.model_dump_json()) == sent

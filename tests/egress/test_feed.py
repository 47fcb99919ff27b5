"""The queue to a destination: where it begins, what it drops, what it never loses."""

from __future__ import annotations

import asyncio

import pytest
from tests.fakes.programme import AUDIO_HEADER, METADATA, VIDEO_HEADER, frames, headers, number_of, picture, sound

from babelcast.egress.feed import VIDEO_GONE_MS, Feed, Item
from babelcast.rtmp.message import Message, MessageType

pytestmark = pytest.mark.unit

HEADERS = [METADATA, VIDEO_HEADER, AUDIO_HEADER]


async def drain(feed: Feed) -> list[Item]:
    found = []
    while True:
        try:
            async with asyncio.timeout(0):
                found.append(await feed.get())
        except TimeoutError:
            return found


def fill(feed: Feed, messages: list[Message], now_ms: int = 0) -> None:
    for message in messages:
        feed.put(message, now_ms)


def numbers(items: list[Item], kind: MessageType = MessageType.VIDEO) -> list[int]:
    media = [item.message for item in items if item.message.type == kind]
    return [number_of(message) for message in media if message.payload[1] != 0]


async def test_a_session_begins_with_a_key_frame_that_carries_the_headers() -> None:
    feed = Feed()
    feed.begin_session()
    fill(feed, [*headers(), *frames(17, first=5)])
    items = await drain(feed)
    assert numbers(items) == list(range(10, 22)), "5 to 9 can't be decoded"
    assert numbers(items, MessageType.AUDIO) == list(range(10, 22))
    assert [item.start for item in items] == [True] + [False] * 23
    assert [header.payload for header in items[0].headers] == HEADERS
    assert feed.dropped == 0, "nobody missed what was never there to be shown"


async def test_sound_alone_begins_at_once() -> None:
    feed = Feed()
    feed.begin_session()
    fill(feed, [headers()[2], sound(0, 0), sound(1, 20)])
    items = await drain(feed)
    assert numbers(items, MessageType.AUDIO) == [0, 1]
    assert [header.payload for header in items[0].headers] == [AUDIO_HEADER]


async def test_pictures_that_join_sound_wait_for_a_key_frame() -> None:
    feed = Feed()
    feed.begin_session()
    fill(feed, [headers()[2], sound(0, 0), headers()[1], picture(3, 40), sound(1, 41), picture(10, 80)])
    items = await drain(feed)
    assert numbers(items) == [10]
    assert numbers(items, MessageType.AUDIO) == [0, 1]


async def test_a_full_queue_skips_to_the_next_key_frame_and_counts() -> None:
    feed = Feed(max_items=30)
    feed.begin_session()
    fill(feed, [*headers(), *frames(45)])  # 90 messages, nobody reads
    items = await drain(feed)
    assert len(items) <= 30
    assert items[0].key
    assert items[0].start, "a decoder must know that something is missing"
    assert [header.payload for header in items[0].headers] == HEADERS
    assert numbers(items) == list(range(40, 45))
    assert feed.dropped + len(items) == 90


async def test_the_bound_counts_bytes_too() -> None:
    feed = Feed(max_bytes=50_000)
    feed.begin_session()
    fill(feed, [*headers(), *frames(30, size=4_000)])
    items = await drain(feed)
    assert sum(len(item.message.payload) for item in items) <= 50_000
    assert numbers(items) == list(range(20, 30))


async def test_headers_that_change_are_passed_on_in_their_place() -> None:
    feed = Feed()
    feed.begin_session()
    changed = Message(MessageType.VIDEO, 400, VIDEO_HEADER + b"!")
    fill(feed, [*headers(), *frames(10), changed, *frames(10, first=10, base_ms=400)])
    items = await drain(feed)
    assert items[20].message == changed
    assert items[21].key
    assert items[21].headers[1] == changed


async def test_a_new_destination_session_begins_at_the_live_edge() -> None:
    feed = Feed()
    feed.begin_session()
    fill(feed, [*headers(), *frames(25)])
    feed.restart()
    items = await drain(feed)
    assert numbers(items) == [20, 21, 22, 23, 24]
    assert [header.payload for header in items[0].headers] == HEADERS
    fill(feed, list(frames(2, first=25)))
    assert numbers(await drain(feed)) == [25, 26], "and goes on"


async def test_sound_stops_waiting_for_pictures_that_are_gone() -> None:
    feed = Feed(max_items=10)
    feed.begin_session()
    fill(feed, [*headers(), *frames(8)])  # overflows, then waits for a key frame that never comes
    assert await drain(feed) == []
    late = VIDEO_GONE_MS + 1_000
    fill(feed, [sound(99, 300), sound(100, late)])
    items = await drain(feed)
    assert numbers(items, MessageType.AUDIO) == [100]
    assert items[0].start


async def test_a_second_source_session_has_its_own_headers() -> None:
    feed = Feed()
    feed.begin_session()
    fill(feed, [*headers(), *frames(3)])
    feed.begin_session()
    fill(feed, [*headers()[1:], *frames(2, first=6)])  # the tail of a group: nothing to show yet
    fill(feed, list(frames(1, first=10)))
    items = await drain(feed)
    assert numbers(items) == [0, 1, 2, 10]
    assert [item.session for item in items] == [1] * 6 + [2] * 2
    assert items[6].start
    assert [header.payload for header in items[6].headers] == HEADERS[1:], "the old metadata is gone"


async def test_a_programme_that_is_over_is_not_kept() -> None:
    feed = Feed()
    feed.begin_session()
    fill(feed, [*headers(), *frames(3)], now_ms=1_000)
    feed.drop_older_than(500)
    async with asyncio.timeout(1):
        await feed.wait()
    feed.drop_older_than(1_500)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await feed.wait()


async def test_who_waits_after_the_last_was_taken_waits_for_the_next() -> None:
    """A destination that is lost as it gets the last of a programme is not connected again for nothing."""
    feed = Feed()
    feed.begin_session()
    fill(feed, [*headers(), picture(0, 0)])
    await feed.get()
    waiting = asyncio.create_task(feed.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    fill(feed, [picture(1, 40)])
    async with asyncio.timeout(1):
        await waiting

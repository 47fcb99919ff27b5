from __future__ import annotations

import base64

import pytest

from babelcast.sts.resume import Resumption

pytestmark = pytest.mark.unit


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_good_for_its_client_and_stream_at_every_replica_with_the_key() -> None:
    here, there, other = (Resumption(key, clock=Clock()) for key in ("key", "key", "another"))
    token = here.issue("session", "studio", "show")
    assert there.session_of(token, "studio", "show") == "session"
    assert other.session_of(token, "studio", "show") is None
    assert there.session_of(token, "radio", "show") is None
    assert there.session_of(token, "studio", "film") is None


@pytest.mark.parametrize("token", ["", "x", "é", "!" * 40, base64.urlsafe_b64encode(bytes(99)).decode()])
def test_nonsense_is_no_token(token: str) -> None:
    assert Resumption("key").session_of(token, "studio", "show") is None


def test_a_changed_token_and_an_old_one_are_not_valid() -> None:
    clock = Clock()
    resumption = Resumption("key", clock=clock)
    token = resumption.issue("session", "studio", "show")
    changed = bytearray(base64.urlsafe_b64decode(token))
    changed[-3] ^= 1
    assert resumption.session_of(base64.urlsafe_b64encode(changed).decode(), "studio", "show") is None
    clock.now += 25 * 3600
    assert resumption.session_of(token, "studio", "show") is None


def test_a_place_is_kept_for_a_while_and_taken_once() -> None:
    clock = Clock()
    resumption = Resumption(keep_s=10.0, clock=clock)
    resumption.keep_place("one")
    resumption.keep_place("two")
    assert resumption.kept == 2
    assert resumption.take_place("one") and not resumption.take_place("one")
    clock.now += 11
    assert resumption.kept == 0 and not resumption.take_place("two")

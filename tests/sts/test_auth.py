"""Tokens and their limits, on a clock that the test sets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from babelcast.errors import ConfigError, SpeechUnavailableError
from babelcast.sts.auth import Bucket, Client, ClientLimits, Clients, load_tokens

pytestmark = pytest.mark.unit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_bursts_through_and_says_how_long_to_wait() -> None:
    clock = Clock()
    bucket = Bucket(2.0, 4.0, clock)
    assert [bucket.take(1) for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take(1) == pytest.approx(0.5)
    clock.now += 0.5
    assert bucket.take(1) == 0
    assert bucket.take(1) > 0


def test_what_is_larger_than_the_bucket_leaves_a_debt() -> None:
    clock = Clock()
    bucket = Bucket(1.0, 10.0, clock)
    assert bucket.take(25) == 0
    assert bucket.take(1) == pytest.approx(16)


def test_limits_are_refused_as_rate_limited_with_a_time() -> None:
    client = Client("a", ClientLimits(sessions=1, requests=1, requests_per_s=1, audio_s_per_min=60), Clock())
    with client.session(), client.request():
        for limited in (client.check_session, client.request().__enter__):
            with pytest.raises(SpeechUnavailableError) as caught:
                limited()
            assert caught.value.code == "rate_limited" and caught.value.retry_after_s
    client.check_session()
    client.check_audio(60)
    with pytest.raises(SpeechUnavailableError, match="60 s of sound"):
        client.check_audio(2)
    client.check_start()
    client.check_start()
    with pytest.raises(SpeechUnavailableError, match="requests a second"):
        client.check_start()


def test_several_tokens_from_a_file_and_one_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    hashed = hashlib.sha256(b"another-token").hexdigest()
    path.write_text(f"studio: {{token: first-token, sessions: 2}}\nradio: {{sha256: {hashed}}}\n")
    clients = load_tokens(path).with_token("default-token")

    def name(header: str | None) -> str | None:
        found = clients.find(header)
        return found.name if found else None

    assert name("Bearer first-token") == "studio" and name("bearer another-token ") == "radio"
    assert name("Bearer default-token") == "default"
    wrong = (None, "", "Bearer", "Bearer ", "Basic first-token", "first-token", "Bearer first-toke", "Bearer \udcff")
    assert [name(header) for header in wrong] == [None] * len(wrong)


def test_without_tokens_everybody_is_anonymous() -> None:
    found = Clients().find(None)
    assert found is not None and found.name == "anonymous"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[]", "mapping"),
        ("a: {token: secret-1234, speed: 3}", "speed"),
        ("a: {}", "token, or sha256"),
        ("a: {token: short}", "8 characters"),
        ("a: {token: secret-1234}\nb: {token: secret-1234}", "same token"),
        ("a: {token: secret-1234, sessions: -1}", "sessions"),
        ("a: {token: secret-1234", "YAML"),
    ],
)
def test_a_wrong_file_is_said_without_the_token(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_tokens(path)
    assert word in str(caught.value) and "secret-1234" not in str(caught.value)

"""Whose name a host has."""

from __future__ import annotations

import pytest

from babelcast.hosts import names_this_machine, reachable, same_origin

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("authority", ["127.0.0.1:8080", "localhost", "LocalHost:1", "[::1]:8080"])
def test_this_machine_by_its_own_name(authority: str) -> None:
    assert names_this_machine(authority)


@pytest.mark.parametrize(
    "authority", [None, "", "[", "[::1", "evil.example", "127.0.0.1.evil.example", "evil@192.0.2.1"]
)
def test_not_this_machine(authority: str | None) -> None:
    assert not names_this_machine(authority)


def test_pages_of_the_same_host_and_port() -> None:
    assert same_origin("http://show.example:8080", "show.example:8080")
    assert same_origin("https://show.example", "show.example")  # TLS ends at a proxy before us
    for origin in ("null", "http://[", "http://show.example", "http://evil.example:8080", "show.example:8080"):
        assert not same_origin(origin, "show.example:8080")
    assert not same_origin("null", None)


def test_where_our_own_processes_reach_it() -> None:
    found = [reachable(host) for host in ("0.0.0.0", "", "::", "192.0.2.7", "2001:db8::7", "show.example")]
    assert found == ["127.0.0.1", "127.0.0.1", "[::1]", "192.0.2.7", "[2001:db8::7]", "show.example"]

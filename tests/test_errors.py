from __future__ import annotations

import socket

import pytest

from babelcast.errors import why

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111]"),
            "connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError(98, "error while attempting to bind on address ('127.0.0.1', 1)"), "address already in use"),
        (TimeoutError(), "no answer in time"),
        (ValueError(), "ValueError"),
    ],
)
def test_why_in_the_systems_own_words(error: Exception, says: str) -> None:
    assert why(error) == says

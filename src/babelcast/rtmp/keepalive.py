"""Finding out that an RTMP peer went away without a word."""

from __future__ import annotations

import socket
import sys


def detect_dead_peer(sock: socket.socket | None, timeout_s: float) -> None:
    """Have the kernel break a TCP connection whose peer is gone for about ``timeout_s``: keepalive probes while it
    is idle, a bound on unacknowledged data while it is not."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(timeout_s / 2)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(timeout_s / 6)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))

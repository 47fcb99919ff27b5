"""The simple handshake (RTMP 1.0, section 5.2), both sides. What encoders and ingest points use today."""

from __future__ import annotations

import os

from babelcast.errors import RtmpError

VERSION = 3
SIZE = 1536
_HINTS = {
    0x06: "this is RTMPE: use rtmp:// or rtmps://",
    0x16: "this looks like TLS: the other side speaks plain rtmp://, not rtmps://",
    ord("G"): "this looks like HTTP",
    ord("P"): "this looks like HTTP",
    ord("H"): "this looks like HTTP",
}


class Handshake:
    """Feed it the peer's bytes until :attr:`done`; what follows the handshake is then in :attr:`rest`.

    ``first`` is what a client sends unasked (C0 C1); a server sends nothing first.
    """

    def __init__(self, *, server: bool) -> None:
        self._server = server
        self._buffer = bytearray()
        self._answered = False
        self._hello = bytes(8) + os.urandom(SIZE - 8)  # time 0, zero, random
        self.first = b"" if server else bytes((VERSION,)) + self._hello
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take ``data``, return what is to be sent. Raises RtmpError when the peer does not speak RTMP."""
        self._buffer += data
        if self._buffer and self._buffer[0] != VERSION:
            first = self._buffer[0]
            raise RtmpError(f"not an RTMP handshake (first byte 0x{first:02x})", hint=_HINTS.get(first))
        answer = b""
        if not self._answered and len(self._buffer) >= 1 + SIZE:
            echo = bytes(self._buffer[1 : 1 + SIZE])
            answer = bytes((VERSION,)) + self._hello + echo if self._server else echo
            self._answered = True
        if self._answered and len(self._buffer) >= 1 + 2 * SIZE:
            # Peers' echoes differ in the time field, and some send garbage: nobody checks them, nor do we.
            self.rest = bytes(self._buffer[1 + 2 * SIZE :])
            self._buffer.clear()
            self.done = True
        return answer

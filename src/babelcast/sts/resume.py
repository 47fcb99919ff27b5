"""Resume tokens: a session that was cut off goes on under its own name, here or at another replica.

A token says which session of which stream it is, signed. The client sends it with what it has had answers for; the rest
of the sound it sends again, and clauses that were answered are not said again. Replicas that share a key accept each
other's tokens; where the session was, its place is kept for a while, so that nobody else takes it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable

_SIGNATURE = 16
_LONGEST_S = 24 * 3600.0


class Resumption:
    """``key`` is shared by replicas; without one, tokens are good at this process alone. ``clock``: Unix time in s."""

    def __init__(self, key: str | None = None, keep_s: float = 15.0, clock: Callable[[], float] = time.time) -> None:
        self._key = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(32)
        self._clock = clock
        self._kept: dict[str, float] = {}
        self.keep_s = keep_s

    def issue(self, session_id: str, client: str, stream_id: str) -> str:
        body = json.dumps([session_id, client, stream_id, int(self._clock())]).encode()
        return base64.urlsafe_b64encode(self._sign(body) + body).decode()

    def session_of(self, token: str, client: str, stream_id: str) -> str | None:
        """The session that ``token`` goes on with; None where it is not valid for this client and stream: then the
        session is a new one."""
        try:
            data = base64.b64decode(token, altchars=b"-_", validate=True)
            signature, body = data[:_SIGNATURE], data[_SIGNATURE:]
            if not hmac.compare_digest(signature, self._sign(body)):
                return None
            session_id, whose, what, issued = json.loads(body)
        except (binascii.Error, ValueError):
            return None
        fresh = 0 <= self._clock() - issued + 60 <= _LONGEST_S
        return session_id if fresh and (whose, what) == (client, stream_id) else None

    def keep_place(self, session_id: str) -> None:
        """The session was cut off: nobody else is to take its place for ``keep_s``."""
        self._kept[session_id] = self._clock() + self.keep_s

    def take_place(self, session_id: str) -> bool:
        """Whether a place was kept; it is no longer."""
        until = self._kept.pop(session_id, 0.0)
        return until > self._clock()

    @property
    def kept(self) -> int:
        """Places that are kept now."""
        now = self._clock()
        self._kept = {session_id: until for session_id, until in self._kept.items() if until > now}
        return len(self._kept)

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SIGNATURE]

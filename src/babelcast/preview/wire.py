"""What the preview process is asked and answers, over its control socket."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from babelcast.errors import PreviewError

MAX_SDP = 64 * 1024


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Watch(_Message):
    """``POST /channels``: begin to play ``url`` under the name ``path``, or go on; answered with ChannelStatus."""

    path: str
    url: str


class Offer(Watch):
    """``POST /viewers``: a browser's offer; answered with Answer."""

    sdp: str


class Answer(_Message):
    id: str
    sdp: str


class Refusal(_Message):
    """The body of every answer that is an error; ``status`` as HTTP's."""

    status: int
    detail: str

    def error(self) -> PreviewError:
        return PreviewError(self.detail, self.status)


class ChannelStatus(_Message):
    path: str
    state: Literal["connecting", "live", "offline"]
    pictures: Literal["none", "passthrough", "reencoded", "unsupported"]
    sound: bool
    viewers: int
    dropped: int
    """Pictures and sound packets that slow viewers missed."""
    error: str | None


class PreviewStatus(_Message):
    """``GET /status``."""

    viewers: int
    channels: tuple[ChannelStatus, ...]

"""The client's side of RTMP, as a state machine: see :mod:`babelcast.rtmp.protocol`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal

from babelcast.errors import RtmpError
from babelcast.rtmp import amf0
from babelcast.rtmp.message import Message, MessageType, UserControl
from babelcast.rtmp.protocol import (
    SAMPLE_ACCESS,
    STREAM_ID,
    WINDOW,
    BaseProtocol,
    Connected,
    Event,
    Started,
    StreamClosed,
)
from babelcast.rtmp.url import RtmpTarget

# No retry helps: the peer says that the address or the credentials are wrong.
_FINAL_CODES = {
    "NetConnection.Connect.InvalidApp",
    "NetConnection.Connect.Rejected",
    "NetStream.Publish.Denied",
    "NetStream.Publish.Rejected",
    "NetStream.Publish.Unauthorized",
    "NetStream.Authenticate.UsherToken",
}


class ClientProtocol(BaseProtocol):
    """A client's side of one connection. Events: Connected; after :meth:`publish` or :meth:`play`, Started;
    then, for a player, Message; StreamClosed when the server says that the stream is over.

    A refusal raises RtmpError with the server's status code; ``retryable`` is False where no retry helps.
    """

    def __init__(self, target: RtmpTarget) -> None:
        super().__init__(server=False)
        self._target = target
        self._transaction = 0.0
        self._calls: dict[float, str] = {}
        self._asked: Literal["publish", "play"] | None = None
        self._started = False

    def publish(self) -> None:
        """Ask to publish, as encoders do: releaseStream, FCPublish, createStream, publish."""
        self._asked = "publish"
        self._request("releaseStream", None, self._target.key)
        self._request("FCPublish", None, self._target.key)
        self._request("createStream", None)

    def play(self) -> None:
        self._asked = "play"
        self._request("createStream", None)

    @property
    def publishes(self) -> bool:
        """Publishing has begun, and not ended."""
        return self._started and self._asked == "publish"

    def end(self) -> None:
        """Say goodbye: the server need not wait for a timeout."""
        if self._started:
            if self.publishes:
                self._request("FCUnpublish", None, self._target.key)
            self._request("deleteStream", None, STREAM_ID)
            self._started = False

    def _request(self, name: str, *arguments: amf0.Value, stream_id: int = 0) -> None:
        self._transaction += 1
        self._calls[self._transaction] = name
        self._call(name, self._transaction, *arguments, stream_id=stream_id)

    def _on_handshake(self) -> None:
        self._announce_chunk_size()
        self._control(MessageType.WINDOW_ACK_SIZE, WINDOW.to_bytes(4, "big"))
        options: dict[str, amf0.Value] = {
            "app": self._target.app,
            "type": "nonprivate",
            "flashVer": "FMLE/3.0 (compatible; Babelcast)",
            "tcUrl": self._target.tc_url,
            "fpad": False,
            "capabilities": 15,
            "audioCodecs": 4071,
            "videoCodecs": 252,
            "videoFunction": 1,
            # Every codec that enhanced RTMP names: payloads are passed on, not decoded.
            "fourCcList": ["av01", "vp09", "hvc1", "avc1", "Opus", "fLaC", "ac-3", "ec-3", "mp4a", ".mp3"],
        }
        self._request("connect", options)

    def _command(self, payload: bytes, stream_id: int, events: list[Event]) -> None:
        values = amf0.decode(payload)
        name, transaction = [*values, None, None][:2]
        info = values[3] if len(values) > 3 else None
        if name in ("_result", "_error"):
            called = self._calls.pop(transaction, "") if isinstance(transaction, float) else ""
            self._answer(called, info, failed=name == "_error", events=events)
        elif name == "onStatus":
            self._on_status(info, events)
        elif name == "close":
            raise RtmpError("the server closed the connection", code="NetConnection.Connect.Closed")

    def _media(self, message: Message, events: list[Event]) -> None:
        if not (message.type == MessageType.DATA and message.payload.startswith(SAMPLE_ACCESS)):
            events.append(message)  # sample access is the server's word to the player, not part of the stream

    def _answer(self, called: str, info: amf0.Value, *, failed: bool, events: list[Event]) -> None:
        if called == "connect":
            if failed:
                raise _refusal(info, "connect refused")
            events.append(Connected())
        elif called == "createStream":
            if failed or not isinstance(info, float):
                raise _refusal(info, "createStream refused")
            self._start()
        # releaseStream and FCPublish fail on servers that don't know them: nobody minds.

    def _start(self) -> None:
        if self._asked == "publish":
            self._request("publish", None, self._target.key, "live", stream_id=STREAM_ID)
        else:
            self._request("play", None, self._target.key, -2000, stream_id=STREAM_ID)
            buffer = struct.pack("!HII", UserControl.SET_BUFFER_LENGTH, STREAM_ID, 1000)
            self._control(MessageType.USER_CONTROL, buffer)

    def _on_status(self, info: amf0.Value, events: list[Event]) -> None:
        level, code = _text(info, "level"), _text(info, "code")
        if level == "error" or code in ("NetStream.Play.StreamNotFound", "NetStream.Play.Failed"):
            raise _refusal(info, "refused")
        if code in ("NetStream.Publish.Start", "NetStream.Play.Start"):
            self._started = True
            events.append(Started())
        elif code in ("NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete"):
            events.append(StreamClosed())

    def _user_control(self, payload: bytes, events: list[Event]) -> None:
        super()._user_control(payload, events)
        if int.from_bytes(payload[:2], "big") == UserControl.STREAM_EOF:
            events.append(StreamClosed())


def _text(info: amf0.Value, name: str) -> str:
    value = info.get(name) if isinstance(info, Mapping) else None
    return value if isinstance(value, str) else ""


def _refusal(info: amf0.Value, fallback: str) -> RtmpError:
    code = _text(info, "code")
    text = _text(info, "description") or code or fallback
    return RtmpError(f"the RTMP server refused: {text[:200]}", code=code or None, retryable=code not in _FINAL_CODES)

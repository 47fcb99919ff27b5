"""RTMP messages as they travel above the chunk layer, and the protocol's numbers."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MAX_MESSAGE = 0xFFFFFF
"""Longest message in bytes (16 MiB): what the 24-bit length field can say."""


class MessageType(IntEnum):
    """Type ids of the RTMP 1.0 specification, sections 5.4, 7.1 and 7.2."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACK_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA = 18
    COMMAND = 20
    AGGREGATE = 22


class UserControl(IntEnum):
    """Event types of a user control message, section 7.1.7."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    STREAM_DRY = 2
    SET_BUFFER_LENGTH = 3
    STREAM_IS_RECORDED = 4
    PING_REQUEST = 6
    PING_RESPONSE = 7


class Message(NamedTuple):
    """One message. For audio, video and data the payload is an FLV tag body, never looked into on its way.

    ``type`` is a :class:`MessageType` value (a plain int, as types beyond it are passed through and ignored).
    ``timestamp`` is in milliseconds, modulo 2**32.
    """

    type: int
    timestamp: int
    payload: bytes
    stream_id: int = 0

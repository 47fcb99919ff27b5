"""One viewer: an aiortc peer that sends what its queues hold."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from fractions import Fraction
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    clock,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription
from aiortc.stats import RTCOutboundRtpStreamStats, RTCRemoteInboundRtpStreamStats

from babelcast.errors import PreviewError
from babelcast.preview.fanout import Queue, Sound
from babelcast.preview.settings import IceServer
from babelcast.preview.wire import MAX_SDP

log = logging.getLogger(__name__)

HANDSHAKE_S = 15.0
"""From the answer until media can flow; a viewer that vanished in between is given up then."""
SILENT_S = 12.0
"""A viewer that is sent to and does not report what it receives, as browsers do every 1 to 5 s, is gone: a page does
not always come to say goodbye. ICE alone (consent to send, RFC 7675) would notice it after 40 s."""
_LOOK_S = 2.0
_ANSWER_S = 5.0
"""Until the answer is ready; it takes long only where a STUN or TURN server does not answer."""
_BURST_BITS_PER_S = 80e6
"""How fast a late viewer gets the group of pictures: a burst beyond what its sockets hold would be lost."""
_CODECS = {"video": {"video/h264", "video/rtx"}, "audio": {"audio/opus"}}
_CLOCKS = {"video": Fraction(1, 1000), "audio": Fraction(1, 48_000)}


class _Track(MediaStreamTrack):
    """Gives encoded packets, which aiortc sends as they are."""

    def __init__(self, kind: str, queue: Queue) -> None:
        self.kind = kind
        super().__init__()
        self._queue = queue

    async def recv(self) -> Any:
        late = self._queue.backlog > 0
        item = await self._queue.get()
        if item is None:
            raise MediaStreamError
        if late:
            await asyncio.sleep(len(item.data) * 8 / _BURST_BITS_PER_S)
        packet = av.Packet(item.data)
        packet.pts = item.pts if isinstance(item, Sound) else item.pts_ms
        packet.time_base = _CLOCKS[self.kind]
        return packet


class Viewer:
    """Answers one offer. ``ended`` is set when the connection is over, or was not made in time."""

    def __init__(self, ice_servers: tuple[IceServer, ...], *, handshake_s: float = HANDSHAKE_S) -> None:
        servers = [
            RTCIceServer(
                list(each.urls), each.username, each.credential.get_secret_value() if each.credential else None
            )
            for each in ice_servers
        ]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._handshake_s = handshake_s
        self.pictures = Queue()
        self.sound = Queue()
        self.ended = asyncio.Event()
        self._connected = asyncio.Event()
        self._peer.on("connectionstatechange", self._note_state)

    async def answer(self, sdp: str) -> str:
        """The answer to a browser's offer. Raises PreviewError (400, 406) for one that can't be answered."""
        kinds = _offered(sdp)
        try:
            async with asyncio.timeout(_ANSWER_S):
                for kind, queue in (("video", self.pictures), ("audio", self.sound)):
                    if kind in kinds:
                        self._add(kind, queue)
                # codecs are chosen when the offer is set, so the tracks come first
                await self._peer.setRemoteDescription(RTCSessionDescription(_without_mdns(sdp), "offer"))
                await self._peer.setLocalDescription(await self._peer.createAnswer())
        except TimeoutError:
            raise PreviewError("no answer was ready in time: does the STUN or TURN server answer?", 503) from None
        except OperationError as error:
            raise PreviewError(f"nothing in common with the offer: {error}", 406) from error
        except (ValueError, KeyError, IndexError, AttributeError, InvalidAccessError, InvalidStateError) as error:
            raise PreviewError("the offer can't be understood", 400) from error
        return str(self._peer.localDescription.sdp)

    async def run(self) -> None:
        """Until the connection is over; closes it. Cancelling ends it early."""
        try:
            async with asyncio.timeout(self._handshake_s) as deadline:
                connected = asyncio.create_task(self._connected.wait())
                ended = asyncio.create_task(self.ended.wait())
                try:
                    await asyncio.wait({connected, ended}, return_when=asyncio.FIRST_COMPLETED)
                    deadline.reschedule(None)
                    await self._until_gone(ended)
                finally:
                    connected.cancel()
                    ended.cancel()
                    await asyncio.gather(connected, ended, return_exceptions=True)
        except TimeoutError:
            log.info("a viewer did not connect within %g s", self._handshake_s)
        finally:
            await self.close()

    async def _until_gone(self, ended: asyncio.Task[bool]) -> None:
        heard: datetime | None = None  # from when it is sent to
        while not ended.done():
            await asyncio.wait({ended}, timeout=_LOOK_S)
            sent, reported = await self._reports()
            if heard is None and sent:
                heard = clock.current_datetime()
            heard = max((each for each in (heard, reported) if each is not None), default=None)
            if heard is not None and (clock.current_datetime() - heard).total_seconds() > SILENT_S:
                log.info("a viewer vanished without a word")
                return

    async def _reports(self) -> tuple[bool, datetime | None]:
        """Whether something was sent, and when the viewer last reported what it receives."""
        sent, reported = False, None
        for sender in self._peer.getSenders():
            for report in (await sender.getStats()).values():
                if isinstance(report, RTCOutboundRtpStreamStats):
                    sent = sent or report.packetsSent > 0
                elif isinstance(report, RTCRemoteInboundRtpStreamStats):
                    reported = report.timestamp if reported is None else max(reported, report.timestamp)
        return sent, reported

    async def hang_up(self) -> None:
        """End it so that the browser is told: there is nobody to say goodbye to before it is connected, and a browser
        whose peer vanished before that waits for long. :meth:`run` bounds this wait. What is queued is not sent any
        more: the goodbye is one datagram, and in the wake of a burst it could be lost."""
        self.pictures.close()
        self.sound.close()
        await self._connected.wait()
        self.ended.set()

    async def close(self) -> None:
        self.ended.set()
        self.pictures.close()
        self.sound.close()
        await self._peer.close()

    def _add(self, kind: str, queue: Queue) -> None:
        transceiver = self._peer.addTransceiver(_Track(kind, queue), direction="sendonly")
        codecs = RTCRtpSender.getCapabilities(kind).codecs
        transceiver.setCodecPreferences([each for each in codecs if each.mimeType.lower() in _CODECS[kind]])

    def _note_state(self) -> None:
        state = self._peer.connectionState
        log.debug("a viewer is %s", state)
        if state == "connected":
            self._connected.set()
        elif state in ("failed", "closed"):
            self.ended.set()


def _offered(sdp: str) -> set[str]:
    """The kinds of media that the offer asks for. Raises PreviewError (400)."""
    if len(sdp) > MAX_SDP:
        raise PreviewError("the offer is too long", 400)
    try:
        media = SessionDescription.parse(sdp).media
        kinds = {each.kind for each in media if each.direction in ("recvonly", "sendrecv")}
        keyed = all(each.dtls and each.dtls.fingerprints and each.ice and each.ice.usernameFragment for each in media)
    except Exception as error:  # the parser trusts what it reads, and what it reads is the network's
        raise PreviewError("the body is no SDP", 400) from error
    if not kinds & {"video", "audio"}:
        raise PreviewError("the offer asks for neither pictures nor sound", 400)
    if not keyed:
        raise PreviewError("the offer has no ICE or DTLS parameters", 400)
    return kinds


def _without_mdns(sdp: str) -> str:
    """Without candidates that only multicast DNS could resolve: the attempt takes a second and mostly fails, and the
    browser's own checks tell its address."""
    lines = [line for line in sdp.splitlines() if not (line.startswith("a=candidate") and ".local " in line)]
    return "".join(f"{line}\r\n" for line in lines)

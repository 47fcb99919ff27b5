"""Which addresses and UDP ports the peers use. aiortc has no setting for either."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import aioice.ice

_of_interfaces = aioice.ice.get_host_addresses


class PortRangeLoop(asyncio.SelectorEventLoop):
    """An event loop that takes UDP ports, where any will do, from a range."""

    def __init__(self, ports: range | None = None) -> None:
        super().__init__()
        self._ports = ports

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Any, local_addr: Any = None, **more: Any
    ) -> Any:
        if self._ports is None or local_addr is None or local_addr[1] != 0:
            return await super().create_datagram_endpoint(protocol_factory, local_addr=local_addr, **more)
        start = random.randrange(len(self._ports))
        for index in range(len(self._ports)):
            port = self._ports[(start + index) % len(self._ports)]
            try:
                return await super().create_datagram_endpoint(
                    protocol_factory, local_addr=(local_addr[0], port), **more
                )
            except OSError as error:
                last = error
        raise OSError(last.errno, f"no UDP port of {self._ports.start}-{self._ports.stop - 1} is free")


def use_addresses(host: str | None) -> None:
    """Have every peer of this process offer ``host`` alone; None: the addresses of all interfaces, or loopback where
    there is no other."""

    def addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return [host] if host is not None else _of_interfaces(use_ipv4, use_ipv6) or ["127.0.0.1"]

    aioice.ice.get_host_addresses = addresses


def announced(sdp: str, addresses: tuple[str, ...]) -> str:
    """The answer with ``addresses`` in the place of our own ones in host candidates: the ports are the same there."""
    if not addresses:
        return sdp
    lines: list[str] = []
    seen: set[str] = set()
    for line in sdp.splitlines():
        if not (line.startswith("a=candidate:") and " typ host" in line):
            lines.append(line)
            continue
        parts = line.split(" ")
        own = parts[4]
        for address in addresses:
            if (":" in own) == (":" in address):
                parts[4] = address
                changed = " ".join(parts)
                if changed not in seen:
                    seen.add(changed)
                    lines.append(changed)
    return "".join(f"{line}\r\n" for line in lines)

"""Which replica a session goes to, for good: the one with the least to do of all.

Serve's own router looks at two at random, one on this node where it can, and believes what it has heard of them for
10 s. For requests of milliseconds that is good; a session stays for hours, and one that meets a full replica is refused
while another has room.
"""

from __future__ import annotations

import time
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from babelcast.sts.cluster.places import Places


class LeastBusy(RequestRouter):  # type: ignore[misc]
    """One in each proxy. By what this proxy has given to each replica; among equals Serve takes the one that says that
    it has the shortest queue, so proxies need not know of each other."""

    def initialize_state(self, **_: Any) -> None:
        self._given = Places()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        by_id = {replica.replica_id: replica for replica in candidate_replicas}
        request = pending_request.metadata.internal_request_id if pending_request else None
        groups = self._given.ranked(list(by_id), request, time.monotonic())
        return [[by_id[replica] for replica in group] for group in groups]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        self._given.given(pending_request.metadata.internal_request_id, replica_id)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._given.ended(internal_request_id)

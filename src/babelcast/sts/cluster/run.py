"""``babelcast sts --ray``: deploys the service, stays until it is told to end, drains and removes it.

Nothing here is needed for the service to go on: sessions, scaling and drains are between Serve and the replicas. So
with ``detach`` it ends once the service is up, and another call with the same app's name puts a new version there.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from babelcast.errors import BabelcastError, ConfigError
from babelcast.sts.cluster.connect import connected, within
from babelcast.sts.cluster.report import Report
from babelcast.sts.cluster.settings import SERVE_LOGS, ClusterSettings, ReplicaSettings, deployment_options

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

log = logging.getLogger(__name__)

Say = Callable[[str], None]

_NAME = "sts"
_START_S = 60.0
_POLL_S = 0.5
_SAY_S = 10.0
_LOOK_S = 3.0
_ANSWER_S = 3.0
_LOST_S = 60.0
"""A cluster that says nothing for as long is taken for gone."""
_REMOVE_S = 30.0


def run(replica: ReplicaSettings, cluster: ClusterSettings, say: Say, *, detach: bool = False) -> None:
    """Until SIGINT or SIGTERM; a second one ends a drain at once. Raises BabelcastError."""
    if detach and cluster.address is None:
        raise ConfigError("there is no cluster to leave it running on", key="--ray-address", hint="name one, or auto")
    from_before = False
    with connected(cluster.address), _told_to_end() as end, _errors():
        try:
            from_before = _is_there(cluster)
            handle = _deploy(replica, cluster, end, say)
            if handle is not None and detach:
                say(f"left running as {cluster.app}; the same with --remove drains and removes it")
                return
            if handle is not None:
                _stay(handle, end, say)
        except BaseException:
            if not from_before:  # else it goes on as it was
                _delete(cluster)
            raise
        end.clear()
        _drain_and_delete(cluster, replica, end, say)


def remove(cluster: ClusterSettings, drain_s: float, say: Say) -> None:
    """Drain and remove what an earlier call left running. Raises BabelcastError."""
    with connected(cluster.address), _told_to_end() as end, _errors():
        _drain_and_delete(cluster, ReplicaSettings(drain_s=drain_s), end, say, whatever=True)


@contextlib.contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Set by SIGINT and SIGTERM. Ray has a handler of its own for the latter, so this is for once it is connected."""
    end = threading.Event()
    before = {number: signal.signal(number, lambda *_: end.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Ray's errors have no common base and long texts."""
    try:
        yield
    except BabelcastError:
        raise
    except Exception as error:
        log.debug("Ray failed", exc_info=True)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BabelcastError(f"Ray Serve: {first}") from error


def _is_there(cluster: ClusterSettings) -> bool:
    from ray import serve

    return within(_START_S, "Ray Serve did not answer", lambda: cluster.app in serve.status().applications)


def _deploy(
    replica: ReplicaSettings, cluster: ClusterSettings, end: threading.Event, say: Say
) -> DeploymentHandle | None:
    """The deployment once it takes sessions; None where ``end`` came first."""
    from ray import serve
    from ray.serve.config import ProxyLocation

    from babelcast.sts.cluster.replica import Replica

    places = {"head": ProxyLocation.HeadOnly, "every-node": ProxyLocation.EveryNode}
    http = {
        "host": cluster.host,
        "port": cluster.port,
        "ssl_certfile": str(cluster.tls_cert) if cluster.tls_cert else None,
        "ssl_keyfile": str(cluster.tls_key) if cluster.tls_key else None,
    }
    within(
        _START_S,
        "Ray Serve did not start",
        lambda: serve.start(proxy_location=places[cluster.proxies], http_options=http, logging_config=SERVE_LOGS),
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    deployment = serve.deployment(name=_NAME, **deployment_options(replica, cluster))(serve.ingress()(Replica))
    target = serve.RunTarget(target=deployment.bind(replica), name=cluster.app, route_prefix="/")
    handles = serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    if not _comes_up(cluster, end, say):
        return None
    scheme = "https" if cluster.tls_cert else "http"
    host = f"[{cluster.host}]" if ":" in cluster.host else cluster.host
    say(f"sts ready at {scheme}://{host}:{cluster.port} (engine: {replica.engine}, on Ray Serve)")
    handle: DeploymentHandle = handles[0]
    return handle


def _comes_up(cluster: ClusterSettings, end: threading.Event, say: Say) -> bool:
    """Wait until the replicas run; False where ``end`` came first. Raises BabelcastError where they can't."""
    from ray import serve

    say_at = time.monotonic() + _SAY_S
    while not end.wait(_POLL_S):
        app = serve.status().applications.get(cluster.app)
        if app is None:
            continue
        deployment = app.deployments.get(_NAME)
        if app.status == "RUNNING":
            return True
        if app.status == "DEPLOY_FAILED":
            text = (deployment.message if deployment else "") or app.message
            raise BabelcastError(f"the replicas do not start: {_reason(text)}")
        if time.monotonic() >= say_at:
            say_at += _SAY_S
            states = deployment.replica_states if deployment else {}
            running = states.get("RUNNING", 0)
            say(
                f"waiting for replicas: {running} of {cluster.replicas.least} run "
                f"(each takes {cluster.cpus:g} CPU and {cluster.gpus:g} GPU of the cluster)"
            )
    return False


def _reason(text: str) -> str:
    """The last line of a replica's traceback, which is all that helps here."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.split(":")[0]]
    return (errors or lines or ["no reason given"])[-1][:500]


def _reports(handle: DeploymentHandle) -> list[Report] | None:
    """None where nobody answers."""
    try:
        response = handle.broadcast("report", False)
        answers = response.results(timeout_s=_ANSWER_S, return_exceptions=True)
    except Exception as error:
        log.debug("no answer from the replicas: %s", error)
        return None
    return [answer for answer in answers if isinstance(answer, Report)]


def _stay(handle: DeploymentHandle, end: threading.Event, say: Say) -> None:
    """Until ``end``; says when replicas come and go. Raises BabelcastError when the cluster is gone."""
    seen: frozenset[str] = frozenset()
    heard_at = time.monotonic()
    while not end.wait(_LOOK_S):
        reports = _reports(handle)
        if reports:
            heard_at = time.monotonic()
            now = frozenset(report.replica for report in reports)
            if now != seen:
                sessions = sum(report.sessions for report in reports)
                nodes = len({report.node for report in reports})
                say(f"replicas: {len(now)} (nodes: {nodes}, sessions: {sessions})")
            seen = now
        elif time.monotonic() - heard_at > _LOST_S:
            raise BabelcastError(
                f"no replica has answered for {_LOST_S:g} s: the cluster is gone, or another call has removed the app"
            )


def _drain_and_delete(
    cluster: ClusterSettings, replica: ReplicaSettings, end: threading.Event, say: Say, *, whatever: bool = False
) -> None:
    """``end`` ends the drain. Leaves alone what another call has deployed meanwhile, unless ``whatever``."""
    from ray import serve

    try:
        handle = serve.get_app_handle(cluster.app)
    except Exception as error:
        if whatever:
            raise BabelcastError(f"there is no {cluster.app} on this cluster") from error
        _delete(cluster)  # it had not come up yet
        return
    reports = _reports(handle) or []
    if not whatever and any(report.revision != replica.revision for report in reports):
        say(f"another call has deployed {cluster.app} meanwhile: left running")
        return
    sessions = sum(report.sessions for report in reports)
    if sessions and replica.drain_s:
        say(f"draining (sessions: {sessions}), {replica.drain_s:g} s at most; once more to end at once")
        with contextlib.suppress(Exception):
            handle.broadcast("drain", replica.drain_s).results(timeout_s=_ANSWER_S, return_exceptions=True)
        until = time.monotonic() + replica.drain_s
        while time.monotonic() < until and not end.wait(_POLL_S):
            now = _reports(handle)
            if now is not None and not any(report.sessions for report in now):
                break
    if end.is_set():
        with contextlib.suppress(Exception):
            handle.broadcast("end_sessions").results(timeout_s=_ANSWER_S, return_exceptions=True)
    _delete(cluster)


def _delete(cluster: ClusterSettings) -> None:
    """The deployment; and Serve, where nothing else is on it."""
    from ray import serve

    def delete() -> None:
        serve.delete(cluster.app)
        if cluster.address is not None and not serve.status().applications:
            serve.shutdown()  # a Ray of our own takes it along

    with contextlib.suppress(Exception):
        within(_REMOVE_S, f"{cluster.app} was not removed", delete)

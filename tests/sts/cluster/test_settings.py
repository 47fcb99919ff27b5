from __future__ import annotations

import pickle

import pytest

from babelcast.errors import ConfigError
from babelcast.sts.auth import Client, ClientLimits, Clients, digest
from babelcast.sts.cluster.settings import ClusterSettings, Replicas, ReplicaSettings, deployment_options
from babelcast.sts.service import Limits

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("text", "least", "most"), [("2", 2, 2), ("1:4", 1, 4), (" 3 ", 3, 3)])
def test_replicas(text: str, least: int, most: int) -> None:
    assert Replicas.parse(text) == Replicas(least, most)


@pytest.mark.parametrize("text", ["", "0", "4:2", "0:2", "1:", "a", "1:2:3", "-1", "1.5"])
def test_what_is_no_number_of_replicas(text: str) -> None:
    with pytest.raises(ConfigError, match="write 2, or 1:4"):
        Replicas.parse(text)


def test_a_replica_gets_its_settings_by_post_and_no_token() -> None:
    clients = Clients([(digest("secret-1"), Client("studio", ClientLimits(sessions=2)))]).with_token("secret-2")
    settings = ReplicaSettings(engine="tone", clients=clients.described, resume_key="key")
    posted = pickle.dumps(settings)
    assert b"secret-" not in posted
    service = pickle.loads(posted).build()
    found = service.clients.find("Bearer secret-1")
    assert found is not None and (found.name, found.limits.sessions) == ("studio", 2)
    assert service.clients.find("Bearer secret-2") is not None and service.clients.find("Bearer other") is None


def test_each_deployment_is_another() -> None:
    assert ReplicaSettings().revision != ReplicaSettings().revision


def test_the_apps_own_limits_come_before_those_of_serve() -> None:
    limits = Limits(sessions=8, handshakes=32, requests=2, waiting_requests=6)
    options = deployment_options(ReplicaSettings(limits=limits, drain_s=25.0), ClusterSettings(cpus=2, gpus=0.25))
    assert options["max_ongoing_requests"] == 8 + 32 + 2 + 6 + 8
    assert options["max_queued_requests"] == 16
    assert options["graceful_shutdown_timeout_s"] == 35.0
    assert options["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.25}
    assert options["num_replicas"] == 1 and "autoscaling_config" not in options


def test_a_range_of_replicas_scales_with_the_sessions() -> None:
    cluster = ClusterSettings(replicas=Replicas(1, 4), down_delay_s=60.0)
    options = deployment_options(ReplicaSettings(limits=Limits(sessions=10)), cluster)
    scaling = options["autoscaling_config"]
    assert isinstance(scaling, dict) and "num_replicas" not in options
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert scaling["target_ongoing_requests"] == pytest.approx(7.0)
    assert scaling["downscale_delay_s"] == 60.0


def test_the_key_of_resume_tokens_is_not_shown() -> None:
    assert "the-key" not in repr(ReplicaSettings(resume_key="the-key"))

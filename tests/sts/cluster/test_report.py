from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from babelcast.sts.cluster.report import Report, health, merged, report
from babelcast.sts.service import Service
from babelcast.sts.tone import ToneEngine

pytestmark = pytest.mark.unit


def one(name: str, *, sessions: int = 0, draining: bool = False, metrics: str = "") -> Report:
    return Report(name, "r1", "10.0.0.1/abc", 7, draining, sessions, 4, metrics)


def test_health_is_the_sum_and_names_the_replicas() -> None:
    found = health([one("b", sessions=2), one("a", sessions=1, draining=True)])
    assert (found.status, found.sessions, found.max_sessions) == ("ok", 3, 4)
    assert [(each.replica, each.status, each.sessions) for each in found.replicas] == [
        ("a", "draining", 1),
        ("b", "ok", 2),
    ]


def test_nobody_takes_sessions() -> None:
    assert health([one("a", draining=True)]).status == health([]).status == "draining"


def test_metrics_of_all_are_one_page_that_prometheus_reads() -> None:
    reports = []
    for name, sessions in (("a", 1), ("b", 3)):
        service = Service(ToneEngine())
        service.metrics.sessions.set(sessions)
        service.metrics.heard.labels("studio").inc(sessions)
        reports.append(report(service, name, "r1", "n", metrics=True))
    text = merged(reports).decode()
    assert text.count("# TYPE sts_sessions gauge") == text.count("# HELP sts_source_seconds_total ") == 1
    samples = {
        (sample.name, sample.labels["replica"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["sts_sessions", "a"] == 1.0 and samples["sts_sessions", "b"] == 3.0
    assert samples["sts_source_seconds_total", "b"] == 3.0


def test_a_report_has_metrics_only_where_they_are_asked_for() -> None:
    assert report(Service(ToneEngine()), "a", "r1", "n", metrics=False).metrics == ""

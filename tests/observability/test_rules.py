"""Alerts and what is scraped: valid, tested both ways, of metrics and services that are there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from fluxforge import metrics, metrics_docs
from observability.dashboards import DEPLOY, RULES, alerts, names, queries
from prometheus_server import program

ROOT = DEPLOY.parent
METRICS = [one for name, one in vars(metrics).items() if name.isupper() and not name.startswith("_")]
SERVED = {metrics_docs.served(one) for one in METRICS}
SAMPLES = SERVED | {
    f"{name}_{end}" for name in SERVED if name.endswith("_seconds") for end in ("bucket", "sum", "count")
}


@pytest.mark.parametrize(
    "arguments",
    [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments: list[str]) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_quiet_and_firing() -> None:
    tests = yaml.safe_load((RULES.parent / "alerts_test.yml").read_text())["tests"]
    quiet, firing = set(), set()
    for test in tests:
        for one in test.get("promql_expr_test", ()):
            if one["expr"] == f'ALERTS{{alertname="{test["name"]}", alertstate="firing"}}':
                (firing if one["exp_samples"] else quiet).add(test["name"])
    assert quiet == firing == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert set(alert["annotations"]) == {"summary", "runbook"}


def test_every_metric_that_is_asked_for_is_declared() -> None:
    asked = {name for query in queries() for name in names(query.expr)}
    asked |= {name for alert in alerts() for name in names(alert["expr"])}
    assert len(asked) > 40
    assert sorted(asked - SAMPLES) == []


def test_every_metric_that_is_declared_is_on_a_dashboard() -> None:
    shown = {name for query in queries() for name in names(query.expr)}
    assert sorted(one for one in SERVED if not any(name.startswith(one) for name in shown)) == []


def test_the_page_of_metrics_is_the_metrics() -> None:
    written = "\n".join(metrics_docs.lines()) + "\n"
    assert (ROOT / "docs/METRICS.md").read_text() == written, "run python -m fluxforge.metrics_docs > docs/METRICS.md"
    assert [name for name in SERVED if f"`{name}`" not in written] == []


COMPOSE = ROOT / "docker-compose.yml"


@pytest.mark.skipif(not COMPOSE.exists(), reason="no docker-compose.yml here")
def test_what_is_scraped_are_the_services_that_serve() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    serving = {
        name for name, service in services.items()
        if "FLUXFORGE_METRICS__PORT" in (service.get("environment") or {})
        and not service.get("healthcheck", {}).get("disable")
        and service.get("command") != ["dashboard"]  # a page, without metrics of its own
    }  # fmt: skip
    (job, *_) = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())["scrape_configs"]
    (dns,) = job["dns_sd_configs"]
    assert sorted(dns["names"]) == sorted(serving)
    assert {
        str(service["environment"]["FLUXFORGE_METRICS__PORT"]) for name, service in services.items() if name in serving
    } == {str(dns["port"])}


def test_files_are_mounted_where_they_are_looked_for() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/fluxforge.yml").read_text())["providers"][0]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert Path(provider["options"]["path"]) == Path("/var/lib/grafana/dashboards")

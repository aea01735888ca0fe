"""A real Prometheus scrapes a running pipeline: names, panels, rules, health."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kafka_broker import die_with_parent
from observability.dashboards import RULES, Query, alerts, names, queries
from prometheus_server import Prometheus, program

FLUXFORGE = [sys.executable, "-c", "from fluxforge_cli.main import main; main()"]
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("FLUXFORGE_")}
SERVICES = {
    "collector-binance", "collector-ccxt", "bronze-sink", "feature-engine", "bar-builder",
    "feature-cross", "feature-lake", "bar-lake",
}  # fmt: skip
PATIENCE_S = 150.0
SCRAPED_S = 25.0
"""Until each counter of files has risen twice: the demo's segments are 10 s old when they are stored."""
EMPTY = {"Messages passed over"}
"""Panels of what this pipeline has none of."""

pytestmark = pytest.mark.timeout(400)


class Running(NamedTuple):
    """A demo at work, its services' endpoints by name, and a Prometheus that has scraped them for a while."""

    demo: subprocess.Popen[str]
    config: Path
    endpoints: dict[str, str]
    prometheus: Prometheus


def wait(condition: Callable[[], object], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def endpoints(logs: Path) -> dict[str, str]:
    found = ((log.stem, re.findall(r"metrics on (http://\S+)/metrics", log.read_text())) for log in logs.glob("*.log"))
    return {name: urls[-1] for name, urls in found if urls}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("scrape")
    data, said = folder / "demo", folder / "said"
    with said.open("w") as output:
        demo = subprocess.Popen(
            [*FLUXFORGE, "demo", "--seconds", "600", "--no-ui", "--symbols", "3", "--data-dir", str(data)],
            cwd=folder, env=ENVIRON, text=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    upkeep = prometheus = None
    try:
        wait(lambda: "running" in said.read_text() or demo.poll() is not None, said.read_text)
        with (data / "logs" / "maintenance.log").open("w") as log:
            upkeep = subprocess.Popen(
                [sys.executable, "-m", "fluxforge.maintain", "--config", data / "config.yaml", "--metrics-port", "0"],
                env=ENVIRON, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        wait(lambda: set(endpoints(data / "logs")) >= {*SERVICES, "maintenance"}, said.read_text)
        served = endpoints(data / "logs")
        targets = {url.removeprefix("http://"): {"container": name} for name, url in served.items()}
        prometheus = Prometheus(folder, targets, RULES)
        time.sleep(SCRAPED_S)
        yield Running(demo, data / "config.yaml", served, prometheus)
    finally:
        if prometheus is not None:
            prometheus.stop()
        if upkeep is not None:
            upkeep.kill()
            upkeep.wait()
        demo.kill()
        demo.wait()


def answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def health(config: Path, **environ: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [*FLUXFORGE, "health", "--json", "--config", str(config)], text=True,
        env={**ENVIRON, "FLUXFORGE_HEALTH__MIN_DISK_FREE_PERCENT": "0", **environ},  # the machine's disk may be full
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_service_is_alive_and_ready(running: Running) -> None:
    for name, url in running.endpoints.items():
        assert answer(f"{url}/livez") == (200, "ok\n"), name
        assert answer(f"{url}/readyz") == (200, "ok\n"), name
    up = running.prometheus.query("up == 1")
    assert {sample["metric"]["container"] for sample in up} == {*SERVICES, "maintenance"}


def test_promtool_likes_what_is_served(running: Running) -> None:
    for name, url in running.endpoints.items():
        text = answer(f"{url}/metrics")[1]
        done = subprocess.run(
            [program("promtool"), "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), name


def test_every_metric_that_is_asked_for_is_served(running: Running) -> None:
    served = set(running.prometheus.get("metadata"))
    asked = {name for query in queries() for name in names(query.expr)}
    asked |= {name for alert in alerts() for name in names(alert["expr"])}
    ends = re.compile(r"_(bucket|sum|count|total|info)$")  # the format that Prometheus asks for names families without
    assert sorted({ends.sub("", name) for name in asked} - {ends.sub("", name) for name in served}) == []


def test_no_counter_comes_with_the_time_it_was_made(running: Running) -> None:
    assert running.prometheus.query('{__name__=~"fluxforge_.*_created"}') == []


@pytest.mark.parametrize("query", queries(), ids=lambda query: f"{query.board}: {query.panel}")
def test_every_panel_shows_something(running: Running, query: Query) -> None:
    expr = query.expr.replace("$__rate_interval", "10s").replace("$container", ".*")
    found = running.prometheus.query(expr)
    assert found or query.panel in EMPTY, expr


def test_rules_are_evaluated_and_a_sound_pipeline_fires_none(running: Running) -> None:
    groups = running.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(alerts())
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_health_is_well_and_then_not(running: Running) -> None:
    """The last of these: the demo does not run any more when this ends."""
    code, lines = health(running.config)
    assert code == 0, [line for line in lines if not line["ok"]]
    assert {"log", "collector binance", "collector binanceus", "lag of features", "lag of bars", "features", "bars",
            "bronze", "lake hf", "lake bars", "lake rows"} <= {line["name"] for line in lines}  # fmt: skip
    running.demo.send_signal(signal.SIGINT)
    assert running.demo.wait(PATIENCE_S) == 0
    time.sleep(1.5)
    code, lines = health(running.config, FLUXFORGE_HEALTH__MAX_SILENCE_S="1")
    assert code == 1
    failed = {line["name"]: line for line in lines if not line["ok"]}
    assert set(failed) == {"collector binance", "collector binanceus"}, "all else was stored before it ended"
    assert all(line["advice"] for line in failed.values())

"""`make compose-test`: the demo profile in Docker. Apache Kafka stands in for Redpanda, whose image cannot be had here.

The stack comes up healthy and makes features and bars; three feature engines share what one had; then each container
is killed in turn while the market goes on. In the end Bronze is the raw topic, byte for byte, no trade is missing, and
the lake is what `fluxforge etl` makes of Bronze, bit for bit. COMPOSE=built takes the images that are there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from compose.stack import Stack, docker_is_there, images

pytestmark = [
    pytest.mark.skipif("COMPOSE" not in os.environ, reason="STACK NOT TESTED: `make compose-test` runs it"),
    pytest.mark.timeout(3000),
]
COLLECTORS = ("collector-demo-binance-1", "collector-demo-ccxt-1")
ENGINES = 3
UP_S = 240.0
TABLES = ("hf", "bars", "trades", "ticker")


@pytest.fixture
def stack() -> Iterator[Stack]:
    if why_not := docker_is_there():
        pytest.fail(why_not)
    made = Stack()
    try:
        yield made
    finally:
        made.down()


def test_the_stack_survives_the_death_of_every_container(stack: Stack, say: Callable[..., None]) -> None:
    say("broker", "Apache Kafka 4.4.0 under Redpanda's name: Redpanda's own image is not tested")
    say("base images", ", ".join(stack.bases.values()))
    if os.environ["COMPOSE"] != "built":
        began = time.monotonic()
        stack.compose("build", timeout=1800)
        say("images built", f"{time.monotonic() - began:.0f} s")
    for name, size in images().items():
        say(f"  {name}", size)

    began = time.monotonic()
    stack.compose("up", "-d")
    containers = stack.containers()
    for container in containers.values():
        stack.wait_healthy(container, UP_S)
    say("up, all healthy", f"{time.monotonic() - began:.0f} s", f"{len(containers)} containers")
    say("all groups read on", f"{stack.ask('caught-up')['seconds']} s")

    stack.compose("up", "-d", "--no-recreate", "--scale", f"feature-engine={ENGINES}")
    containers = stack.containers()
    engines = [name for name in containers if name.startswith("feature-engine-")]
    shares = _shared(stack, [containers[name] for name in engines])
    say(f"--scale feature-engine={ENGINES}", f"{stack.ask('caught-up')['seconds']} s", f"partitions {shares}")

    for name in [name for name in sorted(containers) if name != "simulator-1"]:
        say(f"docker kill {name}", _killed(stack, name, containers[name]))
    say("a program dies in bar-builder-1", _crashed(stack, containers["bar-builder-1"]))
    found = stack.ask("trades")
    say("trades missing or twice", "none", f"of {found['trades']:,} in {found['markets']} markets")
    say("docker kill simulator-1", _killed(stack, "simulator-1", containers["simulator-1"]))

    stack.compose("stop", *(name.removesuffix("-1") for name in COLLECTORS))
    stack.ask("caught-up")
    found = stack.ask("cross")
    say("rows across markets are those at rest", "yes", f"{found['rows']:,} of {found['assets']} assets")
    stack.compose("stop", "bronze-sink", "feature-engine", "bar-builder", "feature-lake", "bar-lake")
    say("Bronze is the raw topic", "yes", f"{stack.ask('held')['records']:,} records, byte for byte")
    say("validate", stack.fluxforge("validate").strip().replace("\n", "; "))
    stack.fluxforge("etl", "--output", "/data/etl", "--mode", "all")
    for table in TABLES:
        days = json.loads(stack.fluxforge("diff-lake", "/data", "/data/etl", "--table", table, "--origin", "--json"))
        rows = sum(day["rows"][0] for day in days)
        assert rows and all(day["same"] for day in days)
        say(f"{table}: lake is etl over Bronze", "yes", f"{rows:,} rows, bit for bit")


def _shared(stack: Stack, engines: list[str], within: float = 120) -> list[int]:
    """Partitions of each, once every engine has some."""
    deadline = time.monotonic() + within
    while True:
        for engine in engines:
            stack.wait_healthy(engine)
        shares = [stack.partitions(engine) for engine in engines]
        if all(shares):
            return shares
        assert time.monotonic() < deadline, f"partitions are shared as {shares}"
        time.sleep(1)


def _killed(stack: Stack, name: str, container: str) -> str:
    stack.kill(container)
    assert name not in stack.containers()
    stack.start(container)
    return _recovered(stack, container)


def _crashed(stack: Stack, container: str) -> str:
    before = stack.restarts(container)
    stack.crash(container)
    deadline = time.monotonic() + 30
    while stack.restarts(container) == before:
        assert time.monotonic() < deadline, "the restart policy did not start it again"
        time.sleep(0.2)
    return _recovered(stack, container)


def _recovered(stack: Stack, container: str) -> str:
    began = time.monotonic()
    stack.wait_healthy(stack.containers()["redpanda-1"])
    stack.ask("caught-up")
    taken = time.monotonic() - began
    stack.wait_healthy(container)
    return f"{taken:.0f} s"


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """A line of the table, at once."""

    def line(what: str, found: str, detail: str = "") -> None:
        with capsys.disabled():
            print(f"{what:42} {found:>12}  {detail}".rstrip(), flush=True)

    return line

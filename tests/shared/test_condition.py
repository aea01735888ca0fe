"""Alive and ready: as the loop tells it, as the endpoint answers it, as `python -m fluxforge.healthcheck` asks it."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from fluxforge import condition, endpoint, metrics
from fluxforge.condition import STALLED_S, STARTING_S, Condition


class Hands:
    """A clock that is set by hand, s."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def process(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Condition:
    made = Condition(hands)
    monkeypatch.setattr(condition, "PROCESS", made)
    return made


@pytest.fixture
def base(process: Condition) -> Iterator[str]:
    yield f"http://127.0.0.1:{endpoint.serve('probe', '127.0.0.1', 0)}"


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_process_that_starts_is_alive_and_not_ready(process: Condition, hands: Hands) -> None:
    assert (process.stalled, process.unready) == ("", condition.STARTING)
    hands.now = STARTING_S
    assert process.stalled == ""
    hands.now += 1
    assert process.stalled == "the main loop has not turned for 901 s"


def test_what_it_waits_for_stands_until_it_is_told_otherwise(process: Condition) -> None:
    process.turned("sockets")
    process.turned()
    assert process.unready == "sockets"
    process.turned("")
    assert process.unready == ""


def test_a_loop_that_stands_still_is_neither_alive_nor_ready(process: Condition, hands: Hands) -> None:
    process.turned("")
    hands.now = STALLED_S
    assert (process.stalled, process.age) == ("", STALLED_S)
    hands.now += 1
    assert process.stalled == process.unready == "the main loop has not turned for 121 s"
    process.turned()
    assert (process.stalled, process.unready) == ("", "")


def test_the_endpoint_says_why(process: Condition, hands: Hands, base: str) -> None:
    assert get(f"{base}/livez") == (200, "ok\n")
    assert get(f"{base}/readyz") == (503, "it starts\n")
    process.turned("")
    assert get(f"{base}/readyz?verbose") == (200, "ok\n")
    assert "fluxforge_ready 1.0" in get(f"{base}/metrics")[1]
    hands.now = 500
    assert get(f"{base}/livez") == (503, "the main loop has not turned for 500 s\n")
    answered = get(f"{base}/metrics")[1]
    assert "fluxforge_ready 0.0" in answered and "fluxforge_turn_age_seconds 500.0" in answered
    assert get(f"{base}/")[0] == 404


def test_counters_are_one_series_each(base: str) -> None:
    metrics.CONSUMED.labels("probe", "one series").inc()
    text = get(f"{base}/metrics")[1]
    assert "one series" in text and "_created" not in text


class TestHealthcheck:
    def run(self, *arguments: str, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fluxforge.healthcheck", *arguments],
            env={"http_proxy": "http://127.0.0.1:9", **environ},
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def test_asks_whether_it_is_ready(self, process: Condition, base: str) -> None:
        port = base.rpartition(":")[2]
        assert self.run(FLUXFORGE_METRICS__PORT=port) == (1, "it starts\n")
        assert self.run("/livez", FLUXFORGE_METRICS__PORT=port) == (0, "ok\n")
        process.turned("")
        assert self.run(f"{base}/readyz") == (0, "ok\n")

    def test_nobody_answers(self) -> None:
        code, text = self.run("http://127.0.0.1:9/readyz")
        assert code == 1 and text.startswith("http://127.0.0.1:9/readyz: ")

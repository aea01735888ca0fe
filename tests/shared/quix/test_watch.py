"""What an application tells of itself, from librdkafka's statistics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fluxforge import condition, metrics
from fluxforge.condition import Condition
from fluxforge.quix.watch import Watch
from observability.served import series, value


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Condition]:
    made = Condition()
    monkeypatch.setattr(condition, "PROCESS", made)
    yield made
    for gauge in (metrics.POSITION, metrics.LAG, metrics.ASSIGNED):
        gauge.clear()


def partition(
    state: str = "active", *, app: int = -1001, next_: int = -1001, end: int = -1001, queue: int = 0
) -> dict[str, Any]:
    return {"fetch_state": state, "app_offset": app, "next_offset": next_, "ls_offset": end, "fetchq_cnt": queue}


def told(join: str = "steady", **partitions: dict[str, Any]) -> str:
    found = {number.removeprefix("p"): one for number, one in partitions.items()}
    topics = {"rows": {"partitions": {"-1": partition("none"), **found}}}
    return json.dumps({"cgrp": {"join_state": join}, "topics": topics})


def test_the_loop_turns_and_is_ready_once_it_has_joined(process: Condition) -> None:
    watch = Watch("w")
    watch.statistics(told("wait-join"))
    assert process.unready == "it joins its group"
    watch.statistics(told())
    assert process.unready == ""


def test_before_it_knows_its_partitions_all_may_hold_anything() -> None:
    watch = Watch("w")
    assert watch.reading("rows", 3) == ([0, 1, 2], [0, 1, 2])
    watch.statistics(told("wait-join"))
    assert watch.reading("rows", 3) == ([0, 1, 2], [0, 1, 2])


def test_which_partitions_have_unread_rows() -> None:
    watch = Watch("w")
    there = {
        "p0": partition(app=10, next_=12, end=12),  # control records behind the last row
        "p1": partition(app=7, next_=9, end=12),
        "p2": partition("offset-wait"),
        "p3": partition(next_=0, end=0),
        "p4": partition(next_=5, end=5),  # restarted at its end
        "p5": partition("stopped"),
    }
    watch.statistics(told(**there))
    assert watch.reading("rows", 6) == ([0, 1, 2, 3, 4], [1, 2])
    # What waits in the one queue of all partitions may be of any.
    watch.statistics(told(**{name: one | {"fetchq_cnt": 2} for name, one in there.items()}))
    assert watch.reading("rows", 6) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    watch.statistics(told(p0=there["p0"], p4=there["p4"]))
    assert watch.reading("rows", 6) == ([0, 4], [])


def test_its_figures_follow_its_partitions() -> None:
    watch = Watch("w")
    watch.statistics(told(p0=partition(app=10, next_=12, end=12, queue=2), p1=partition(app=3, next_=3, end=3)))
    for name, number, figure in (("lag_records", "0", 2), ("lag_records", "1", 0), ("position", "0", 10)):
        assert value(f"fluxforge_{name}", role="w", topic="rows", partition=number) == figure
    watch.statistics(told(p1=partition(app=3, next_=3, end=3)))
    for name in ("lag_records", "position"):
        assert [labels["partition"] for labels in series(f"fluxforge_{name}")] == ["1"]
    assert value("fluxforge_assigned_partitions", role="w") == 1

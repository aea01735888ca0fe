"""The dashboards, as far as they can be held to anything without a Grafana; their queries run in test_scrape.py."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import yaml

from observability.dashboards import DEPLOY, boards


@pytest.fixture(params=boards(), name="board")
def _board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return boards()[request.param]


def test_there_are_three() -> None:
    assert set(boards()) == {"pipeline", "data-quality", "services"}
    assert len({board["uid"] for board in boards().values()}) == 3


def test_every_panel_has_a_title_of_its_own_and_the_provisioned_source(board: dict[str, Any]) -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        for one in [panel, *panel.get("targets", ())] if panel["type"] != "row" else ():
            assert one["datasource"] == {"type": "prometheus", "uid": source["uid"]}
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert letters == list("ABCDEFGH"[: len(letters)])


def test_panels_do_not_overlap_and_fill_their_grid(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_rows_have_panels(board: dict[str, Any]) -> None:
    kinds = [panel["type"] for panel in board["panels"]]
    assert kinds[0] == "row" and kinds[-1] != "row"
    assert all(kind != "row" or after != "row" for kind, after in pairwise(kinds))


def test_a_series_says_its_unit(board: dict[str, Any]) -> None:
    for panel in board["panels"]:
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]

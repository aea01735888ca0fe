"""What the files under deploy/ ask Prometheus for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
_NAME = re.compile(r"\b(fluxforge_[a-z_]+)")


class Query(NamedTuple):
    """An expression and where it stands."""

    board: str
    panel: str
    expr: str


def boards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in BOARDS}


def queries() -> list[Query]:
    """Of every panel."""
    return [
        Query(name, panel["title"], target["expr"])
        for name, board in boards().items()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def names(expr: str) -> set[str]:
    """The metrics of ours that an expression reads."""
    return set(_NAME.findall(expr))

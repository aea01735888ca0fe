"""Every metric that is declared is written somewhere, and every one that a page or a program names is declared."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, Info

from fluxforge import metrics

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for folder in ("shared/src", "cli/src", "services", "simulator/src") for path in (ROOT / folder).rglob("*.py")
)
READS = {ROOT / "services/collector/src/collector/stats.py"}
"""Modules that only read metrics: what they name is not thereby written."""
DECLARED = {name: each for name, each in vars(metrics).items() if isinstance(each, Counter | Gauge | Histogram | Info)}


def written(path: Path) -> set[str]:
    """The metrics that a module takes to write them, as `metrics.X`, or changes where they stand, as `X.info`."""
    named = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
    if path != Path(metrics.__file__):
        return {node.attr for node in named if ast.unparse(node.value) == "metrics" and node.attr.isupper()}
    return {ast.unparse(node.value) for node in named} & DECLARED.keys()


def test_every_metric_has_a_writer() -> None:
    found = {name for path in SOURCES if path not in READS for name in written(path)}
    assert len(DECLARED) > 40
    assert sorted(DECLARED.keys() - found) == []
    assert sorted(found - DECLARED.keys()) == []


def test_no_two_metrics_share_a_name() -> None:
    every = [sample for found in DECLARED.values() for sample in found.describe()]
    assert len({family.name for family in every}) == len(every)


def test_every_metric_that_is_named_is_declared() -> None:
    known = {family.name for each in DECLARED.values() for family in each.describe()}
    known |= {f"{name}{end}" for name in known for end in ("_total", "_bucket", "_sum", "_count", "_info")}
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *SOURCES]:
        named = set(re.findall(r"[\"'`{(](fluxforge_[a-z_]+)\b(?!\.)", path.read_text())) - {"fluxforge_cli"}
        assert sorted(named - known) == [], path

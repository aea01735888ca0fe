"""docs/RUNBOOK.md has a chapter for each alert, and each chapter says all that a person needs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ALERTS = (ROOT / "docs" / "RUNBOOK.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
CHAPTERS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", ALERTS, re.MULTILINE | re.DOTALL))
SAID = ["Causes", "Find out", "Do", "Lost meanwhile"]


def rules() -> dict[str, str]:
    """Alert → severity."""
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_alert_has_a_chapter_and_every_chapter_an_alert() -> None:
    assert list(CHAPTERS) == list(rules())


def test_a_chapter_tells_severity_meaning_causes_and_what_to_do() -> None:
    for alert, severity in rules().items():
        meaning, *points = CHAPTERS[alert].strip().split("\n- ")
        assert re.match(rf"`{severity}`\. \S", meaning), alert
        assert [re.match(r"\*\*([\w ]+)\*\*: \S", point)[1] for point in points] == SAID, alert  # type: ignore[index]

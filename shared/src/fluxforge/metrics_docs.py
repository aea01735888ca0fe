"""docs/METRICS.md, written from the declarations: `python -m fluxforge.metrics_docs > docs/METRICS.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram, Info

from fluxforge import metrics

Metric = Counter | Gauge | Histogram | Info

_HEAD = """\
# Metrics

Every service serves them on `metrics.port` at `/metrics`; written from `fluxforge.metrics`.

Beside it `/livez` answers 200 while the main loop turns, and `/readyz` where the service does its work; else 503 and
the reason. `python -m fluxforge.healthcheck [URL]` asks for a container's health check. deploy/prometheus has what
scrapes them and the alerts, deploy/grafana the dashboards.
"""


def lines() -> Iterator[str]:
    """The document."""
    yield _HEAD
    table = False
    for line in inspect.getsource(metrics).splitlines():
        name = line.partition(" ")[0]
        if line.startswith("# "):
            yield from ("",) if table else ()
            yield f"**{line.removeprefix('# ').partition('.')[0]}.**{line.partition('.')[2]}"
            table = False
        elif name.isupper() and not name.startswith("_"):
            if not table:
                yield "\n| metric | type | labels | meaning |\n|---|---|---|---|"
            table = True
            yield _row(getattr(metrics, name))


def served(metric: Metric) -> str:
    """The name of its samples; a histogram's have `_bucket`, `_sum` and `_count` behind it."""
    (family,) = metric.describe()
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _row(metric: Metric) -> str:
    (family,) = metric.describe()
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    meaning = re.sub(r"\bmetrics\.[a-z]+", r"`\g<0>`", family.documentation)
    return f"| `{served(metric)}` | {'gauge' if family.type == 'info' else family.type} | {labels} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
